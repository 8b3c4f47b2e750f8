package free

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The arithmetic of spans against the obvious way of doing it, one flag for each sector.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const size = 200
		draw := func(name string) ([]Span, [size]bool) {
			var flags [size]bool
			var list []Span
			for at := uint64(0); ; {
				at += rapid.Uint64Range(0, 30).Draw(rt, name+" gap")
				n := rapid.Uint64Range(1, 30).Draw(rt, name+" length")
				if at+n > size {
					return list, flags
				}
				list = append(list, Span{at, at + n})
				for ; n > 0; n, at = n-1, at+1 {
					flags[at] = true
				}
			}
		}
		flagsOf := func(list []Span) (flags [size]bool) {
			end := uint64(0)
			for i, s := range list {
				require.True(rt, s.Start < s.End && (i == 0 || s.Start >= end), "%v", list)
				for end = s.Start; end < s.End; end++ {
					require.False(rt, flags[end])
					flags[end] = true
				}
			}
			return flags
		}
		freeSpans, free := draw("free")
		usedSpans, used := draw("used")
		var list List
		for _, s := range freeSpans {
			list.Add(s)
		}
		require.Equal(rt, free, flagsOf(list.Spans()))
		list.Subtract(usedSpans)
		var want, inverse [size]bool
		for i := range want {
			want[i] = free[i] && !used[i]
			inverse[i] = !want[i]
		}
		require.Equal(rt, want, flagsOf(list.Spans()))
		require.Equal(rt, inverse, flagsOf(list.Used(size)))

		least := rapid.Uint64Range(0, 10).Draw(rt, "least")
		forgotten := list.Forget(least)
		for _, s := range forgotten {
			require.Less(rt, s.End-s.Start, least)
		}
		for _, s := range list.Spans() {
			require.GreaterOrEqual(rt, s.End-s.Start, least)
		}
		a, b := flagsOf(forgotten), flagsOf(list.Spans())
		for i := range want {
			require.Equal(rt, want[i], a[i] != b[i])
		}
		w := Span{rapid.Uint64Range(0, size-1).Draw(rt, "from"), 0}
		w.End = rapid.Uint64Range(w.Start+1, size).Draw(rt, "to")
		var touching []Span
		for _, s := range usedSpans {
			if s.End > w.Start && s.Start < w.End {
				touching = append(touching, s)
			}
		}
		require.Equal(rt, len(touching), len(Within(usedSpans, w)))
		for i, s := range Within(usedSpans, w) {
			require.Equal(rt, touching[i], s)
		}
	})
}

// Spans in any order, with overlaps, become those that List wants; and what is added out of order is never free.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const size = 100
		var want [size]bool
		var spans []Span
		var disorder List
		for range rapid.IntRange(0, 12).Draw(rt, "n") {
			s := Span{Start: rapid.Uint64Range(0, size-1).Draw(rt, "start")}
			s.End = rapid.Uint64Range(s.Start+1, size).Draw(rt, "end")
			spans = append(spans, s)
			disorder.Add(s)
			for i := s.Start; i < s.End; i++ {
				want[i] = true
			}
		}
		var got [size]bool
		last := uint64(0)
		for i, s := range Merge(spans) {
			require.True(rt, i == 0 || s.Start > last, "touching spans are one")
			last = s.End
			for i := s.Start; i < s.End; i++ {
				got[i] = true
			}
		}
		require.Equal(rt, want, got)
		last = 0
		for i, s := range disorder.Spans() {
			require.True(rt, s.Start < s.End && (i == 0 || s.Start > last))
			last = s.End
			for i := s.Start; i < s.End; i++ {
				require.True(rt, want[i])
			}
		}
	})
}
