package nodeset

import (
	"strconv"
	"strings"
)

// Set is a parsed expression. The zero Set names nothing.
type Set struct{ items []item }

type kind int

const (
	kindRect     kind = iota // x and y
	kindNumbers              // nums, step
	kindAll                  // every node
	kindWord                 // a node or, alone, a topology
	kindTopology             // a word with a colon
	kindGroup                // items
)

type item struct {
	minus bool
	kind  kind
	x, y  axis
	nums  span
	step  int
	word  string
	items []item
}

// Empty reports whether the set names nothing at all. A set that is not empty
// may still resolve to no node.
func (s Set) Empty() bool { return len(s.items) == 0 }

// String writes the set in its plainest form. Parse reads it as the same set.
func (s Set) String() string {
	var b strings.Builder
	writeItems(&b, s.items)
	return b.String()
}

func writeItems(b *strings.Builder, items []item) {
	for i, it := range items {
		if i > 0 {
			b.WriteByte(' ')
		}
		it.write(b)
	}
}

func (it item) write(b *strings.Builder) {
	if it.minus {
		b.WriteByte('~')
	}
	switch it.kind {
	case kindRect:
		b.WriteByte('[')
		it.x.write(b)
		b.WriteByte(',')
		it.y.write(b)
		b.WriteByte(']')
	case kindNumbers:
		it.nums.write(b, "-")
		if it.step > 1 {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(it.step))
		}
	case kindAll:
		b.WriteString("all")
	case kindWord, kindTopology:
		b.WriteString(it.word)
	case kindGroup:
		b.WriteByte('(')
		writeItems(b, it.items)
		b.WriteByte(')')
	}
}
