package imagezip

// span is a run of sectors: [start, end).
type span struct{ start, end uint64 }

// freeList collects free spans in ascending order.
type freeList struct {
	spans []span
}

// add appends a free span; spans must not descend. Spans that touch are merged.
func (f *freeList) add(s span) {
	if s.start >= s.end {
		return
	}
	if n := len(f.spans); n > 0 && f.spans[n-1].end >= s.start {
		f.spans[n-1].end = max(f.spans[n-1].end, s.end)
		return
	}
	f.spans = append(f.spans, s)
}

// subtract removes all of the ascending spans of used from the list.
func (f *freeList) subtract(used []span) {
	var out []span
	k := 0
	for _, s := range f.spans {
		for k < len(used) && used[k].end <= s.start {
			k++
		}
		for j := k; j < len(used) && used[j].start < s.end; j++ {
			if used[j].start > s.start {
				out = append(out, span{s.start, used[j].start})
			}
			s.start = max(s.start, used[j].end)
		}
		if s.start < s.end {
			out = append(out, s)
		}
	}
	f.spans = out
}

// forget takes spans shorter than least out of the list and returns them: their sectors are saved like those in use,
// because a seek costs more than they do (§8.5).
func (f *freeList) forget(least uint64) []span {
	var forgotten []span
	kept := f.spans[:0]
	for _, s := range f.spans {
		if s.end-s.start < least {
			forgotten = append(forgotten, s)
		} else {
			kept = append(kept, s)
		}
	}
	f.spans = kept
	return forgotten
}

// used returns what of [0, end) is not free.
func (f *freeList) used(end uint64) []span {
	var out []span
	var at uint64
	for _, s := range f.spans {
		if s.start >= end {
			break
		}
		if s.start > at {
			out = append(out, span{at, s.start})
		}
		at = s.end
	}
	if at < end {
		out = append(out, span{at, end})
	}
	return out
}

func total(spans []span) uint64 {
	var n uint64
	for _, s := range spans {
		n += s.end - s.start
	}
	return n
}
