package nodeset

import (
	"strconv"
	"strings"
)

// span is the integers from lo to hi, both included.
type span struct{ lo, hi int }

func (s span) len() int64 { return int64(s.hi) - int64(s.lo) + 1 }

// axis is what stands for x or y in a pair: one integer, one range, or a list
// of integers.
type axis []span

func (a axis) len() int64 {
	var n int64
	for _, s := range a {
		n += s.len()
	}
	return n
}

// each calls f for every integer, in order, until f returns an error.
func (a axis) each(f func(int) error) error {
	for _, s := range a {
		for i := s.lo; i <= s.hi; i++ {
			if err := f(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a axis) write(b *strings.Builder) {
	if len(a) == 1 {
		a[0].write(b, "..")
		return
	}
	b.WriteByte('[')
	for i, s := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s.lo))
	}
	b.WriteByte(']')
}

func (s span) write(b *strings.Builder, between string) {
	b.WriteString(strconv.Itoa(s.lo))
	if s.hi != s.lo {
		b.WriteString(between)
		b.WriteString(strconv.Itoa(s.hi))
	}
}
