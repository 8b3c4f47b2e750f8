package nodeset

// Limits of what is read. They are far above any testbed and low enough that
// a hostile expression costs nothing.
const (
	// MaxExpr is the longest expression, in bytes.
	MaxExpr = 256 << 10
	// MaxNodes is how many nodes the brackets and ranges of one expression may
	// name, duplicates counted.
	MaxNodes = 1 << 16
	// MaxFile is the longest topology or @file, in bytes.
	MaxFile = 1 << 20

	maxDepth      = 8        // brackets in brackets, groups in groups, topologies in topologies
	maxDigits     = 9        // of a number
	maxWord       = 256      // bytes of a word
	maxVisits     = 1 << 19  // nodes looked at while resolving one set
	maxTopologies = 64       // different topologies of one set, definitions of one file
	maxItems      = MaxNodes // items of one expression
	maxAxis       = 1 << 12  // entries of a list axis
)
