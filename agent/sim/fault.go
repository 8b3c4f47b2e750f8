package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind names a fault of a node.
type Kind string

// Kinds of faults; the package comment says what each does.
const (
	NoBoot   Kind = "noboot"
	Die      Kind = "die"
	SlowDisk Kind = "slowdisk"
	Loss     Kind = "loss"
	Reorder  Kind = "reorder"
	WriteErr Kind = "writeerr"
	Flip     Kind = "flip"
	Lie      Kind = "lie"
	Cut      Kind = "cut"
)

// What a lie tells.
const (
	LieDigest = "digest"
	LieCount  = "count"
	LieSound  = "sound"
)

// defaultCut is where a save is cut, percent of what is read.
const defaultCut = 50

// defaultSlowDisk is the speed of a slow disk, bytes a second.
const defaultSlowDisk = 4 << 20

// ErrFault is wrapped by every error of ParseFault.
var ErrFault = errors.New("bad fault")

// Fault is something wrong with one node, or with all.
type Fault struct {
	Kind   Kind
	Number float64 // bytes a second, percent, byte; by Kind
	What   string  // of a lie
	Nodes  []string
}

// Kinds lists the forms that ParseFault takes.
func Kinds() []string {
	return []string{"noboot", "die", "slowdisk[=BYTES/S]", "loss=PERCENT", "reorder", "writeerr=BYTE", "flip", "lie[=digest|count|sound]", "cut[=PERCENT]"}
}

// ParseFault reads "kind[=value][:node,node…]"; without nodes, or with "*",
// the fault is one of all nodes.
func ParseFault(s string) (Fault, error) {
	bad := func(format string, args ...any) (Fault, error) {
		return Fault{}, fmt.Errorf("%w %q: %s; faults are: %s, each with :NODE,NODE or for all nodes", ErrFault, s,
			fmt.Sprintf(format, args...), strings.Join(Kinds(), " "))
	}
	if len(s) > 1<<16 {
		return Fault{}, fmt.Errorf("%w: %d bytes long", ErrFault, len(s))
	}
	what, nodes, some := strings.Cut(s, ":")
	kind, value, valued := strings.Cut(what, "=")
	f := Fault{Kind: Kind(kind)}
	if some && nodes != "*" {
		for _, n := range strings.Split(nodes, ",") {
			n = strings.TrimSpace(n)
			if n == "" {
				return bad("an empty node name")
			}
			f.Nodes = append(f.Nodes, n)
		}
	}
	number := func(low, high float64) error {
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= low && v <= high) {
			return fmt.Errorf("%q is not a number from %g to %g", value, low, high)
		}
		f.Number = v
		return nil
	}
	var err error
	switch f.Kind {
	case NoBoot, Die, Reorder, Flip:
		if valued {
			return bad("%s takes no value", kind)
		}
	case SlowDisk:
		if f.Number = defaultSlowDisk; valued {
			err = number(1, 1e12)
		}
	case Loss:
		err = number(0, 99)
	case Cut:
		if f.Number = defaultCut; valued {
			err = number(0, 99)
		}
	case WriteErr:
		err = number(0, 1<<53)
		if err == nil && f.Number != float64(int64(f.Number)) {
			err = fmt.Errorf("%q is not the number of a byte", value)
		}
	case Lie:
		if f.What = value; !valued {
			f.What = LieDigest
		}
		if !slices.Contains([]string{LieDigest, LieCount, LieSound}, f.What) {
			return bad("nobody tells lies about %q", f.What)
		}
	default:
		return bad("no such kind %q", kind)
	}
	if err != nil {
		return bad("%v", err)
	}
	return f, nil
}

// String is what ParseFault reads.
func (f Fault) String() string {
	s := string(f.Kind)
	switch f.Kind {
	case SlowDisk, Loss, WriteErr, Cut:
		s += "=" + strconv.FormatFloat(f.Number, 'f', -1, 64)
	case Lie:
		s += "=" + f.What
	}
	if len(f.Nodes) > 0 {
		s += ":" + strings.Join(f.Nodes, ",")
	}
	return s
}

// faults are those of one node.
type faults map[Kind]Fault

// faultsOf picks the faults of a node; of two of a kind the later counts.
func faultsOf(all []Fault, node string) faults {
	own := faults{}
	for _, f := range all {
		if len(f.Nodes) == 0 || slices.Contains(f.Nodes, node) {
			own[f.Kind] = f
		}
	}
	return own
}

func (f faults) has(k Kind) bool {
	_, ok := f[k]
	return ok
}
