package nodeset

import (
	"errors"
	"fmt"
)

// What is wrong with a node set; errors.Is tells which.
var (
	// ErrSyntax is for text that is not of the language.
	ErrSyntax = errors.New("not a node set")
	// ErrAmbiguous is for text that could mean two different sets of nodes.
	ErrAmbiguous = errors.New("ambiguous node set")
	// ErrTooLarge is for a set beyond the limits of this package.
	ErrTooLarge = errors.New("node set too large")
	// ErrEmpty is for an expression that names nothing.
	ErrEmpty = errors.New("node set is empty")
	// ErrTopology is for a topology that does not exist, or cannot be used.
	ErrTopology = errors.New("no such topology")
)

// ParseError says where and why an expression or a topology file was refused.
type ParseError struct {
	Line    int    // in a topology file, from 1; 0 in an expression
	Column  int    // byte, from 1
	Problem string // what is wrong and what to write instead
	Kind    error  // one of the sentinels
}

// Error names the place and the problem.
func (e *ParseError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("topology, line %d: %s", e.Line, e.Problem)
	}
	return fmt.Sprintf("node set, column %d: %s", e.Column, e.Problem)
}

// Unwrap returns the kind.
func (e *ParseError) Unwrap() error { return e.Kind }
