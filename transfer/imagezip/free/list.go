package free

import (
	"cmp"
	"slices"
)

// SectorSize is the unit of a Span, in bytes, whatever the sectors of the device are.
const SectorSize = 512

// Span is a run of sectors of 512 bytes, [Start, End), counted from the start of the filesystem.
type Span struct{ Start, End uint64 }

// Sectors is the length of a span.
func (s Span) Sectors() uint64 { return s.End - s.Start }

// List collects free spans in ascending order. The zero value is an empty list.
type List struct {
	spans []Span
}

// Add appends a free span. Spans that touch are merged, empty ones ignored. Spans must ascend: what lies before the
// start of the last span is not added, and so counts as in use.
func (l *List) Add(s Span) {
	if s.Start >= s.End {
		return
	}
	if n := len(l.spans); n > 0 && l.spans[n-1].End >= s.Start {
		l.spans[n-1].End = max(l.spans[n-1].End, s.End)
		return
	}
	l.spans = append(l.spans, s)
}

// Spans are the free spans: ascending, and with something between each two. The list keeps the slice.
func (l *List) Spans() []Span { return l.spans }

// Total is the number of free sectors.
func (l *List) Total() uint64 { return Total(l.spans) }

// Subtract removes spans from the list. They must ascend and not overlap; see Merge.
func (l *List) Subtract(used []Span) {
	var out []Span
	k := 0
	for _, s := range l.spans {
		for k < len(used) && used[k].End <= s.Start {
			k++
		}
		for j := k; j < len(used) && used[j].Start < s.End; j++ {
			if used[j].Start > s.Start {
				out = append(out, Span{s.Start, used[j].Start})
			}
			s.Start = max(s.Start, used[j].End)
		}
		if s.Start < s.End {
			out = append(out, s)
		}
	}
	l.spans = out
}

// Forget takes spans shorter than least sectors out of the list and returns them: their sectors are saved like those in
// use, because a seek costs more than they do (ndz-format §8.5).
func (l *List) Forget(least uint64) []Span {
	var forgotten []Span
	kept := l.spans[:0]
	for _, s := range l.spans {
		if s.Sectors() < least {
			forgotten = append(forgotten, s)
		} else {
			kept = append(kept, s)
		}
	}
	l.spans = kept
	return forgotten
}

// Used returns what of [0, end) is not free.
func (l *List) Used(end uint64) []Span {
	var out []Span
	var at uint64
	for _, s := range l.spans {
		if s.Start >= end {
			break
		}
		if s.Start > at {
			out = append(out, Span{at, s.Start})
		}
		at = s.End
	}
	if at < end {
		out = append(out, Span{at, end})
	}
	return out
}

// Total is the number of sectors of spans that do not overlap.
func Total(spans []Span) uint64 {
	var n uint64
	for _, s := range spans {
		n += s.Sectors()
	}
	return n
}

// Merge sorts spans in place and joins those that touch or overlap.
func Merge(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	l := List{spans: spans[:0]}
	for _, s := range spans {
		l.Add(s)
	}
	return l.spans
}

// Within returns those of ascending spans that do not overlap which have sectors in common with s.
func Within(spans []Span, s Span) []Span {
	i, _ := slices.BinarySearchFunc(spans, s.Start, func(a Span, start uint64) int {
		if a.End <= start {
			return -1
		}
		return 1
	})
	j := i
	for j < len(spans) && spans[j].Start < s.End {
		j++
	}
	return spans[i:j]
}
