package imagezip

import (
	"cmp"
	"fmt"
	"slices"

	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/imagezip/free"
)

// bootTrack is how many sectors before the first partition are always saved: boot loaders put themselves there, and
// today's first partitions start behind the first MiB for that reason.
const bootTrack = 2048

// disk lays out a disk with partitions (§8.2): tables, boot track, gaps between partitions and backup tables are always
// saved, space before and behind all partitions is not.
func (e *examiner) disk(t *ptable.Table) error {
	p := e.plan
	p.Kind = string(t.Kind)
	p.Notes = slices.Clone(t.Notes)
	var parts []Part
	for _, q := range t.Partitions {
		if !q.Extended() {
			parts = append(parts, Part{Number: q.Number, Start: q.Start, Sectors: q.Sectors, Kind: "raw"})
		}
	}
	if err := e.known(parts); err != nil {
		return err
	}
	first, last := p.Sectors, uint64(0)
	for _, q := range parts {
		first, last = min(first, q.Start), max(last, q.Start+q.Sectors)
	}
	for _, m := range t.Meta {
		// Tables of logical partitions lie between partitions; the others at the start and the end.
		if t.Kind == ptable.MBR && m.Start > 0 {
			first, last = min(first, m.Start), max(last, m.End)
		}
		parts = append(parts, Part{Start: m.Start, Sectors: m.End - m.Start, Kind: "tables"})
	}
	slices.SortStableFunc(parts, func(a, b Part) int { return cmp.Compare(a.Start, b.Start) })

	saved := min(max(bootTrack, t.FirstUsable), first)
	if first > last { // there is no partition
		first, last = saved, saved
	}
	at := uint64(0)
	for _, q := range append(parts, Part{Start: p.Sectors}) {
		if q.Start > at {
			e.outside(at, q.Start, saved, first, last)
		}
		if q.Sectors == 0 {
			break
		}
		if q.Kind != "tables" {
			if err := e.part(&q, q.Start); err != nil {
				return err
			}
			for _, note := range q.Notes {
				p.Notes = append(p.Notes, fmt.Sprintf("%v: %s", q, note))
			}
		}
		p.Parts = append(p.Parts, q)
		at = q.Start + q.Sectors
	}
	return nil
}

// outside adds space outside of all partitions: saved before the sector that is given and between partitions, left out
// in the rest.
func (e *examiner) outside(at, end, saved, first, last uint64) {
	for _, s := range []struct {
		start, end uint64
		left       bool
	}{{at, min(end, saved), false}, {max(at, saved), min(end, first), true}, {max(at, first), min(end, last), false}, {max(at, last), end, true}} {
		if s.start >= s.end {
			continue
		}
		q := Part{Start: s.start, Sectors: s.end - s.start, Kind: "space outside"}
		if s.left {
			e.add(&q, free.Span{End: q.Sectors})
		}
		e.plan.Parts = append(e.plan.Parts, q)
	}
}

// known refuses options about partitions that are not there.
func (e *examiner) known(parts []Part) error {
	for _, n := range slices.Concat(e.o.Ignore, e.o.Whole) {
		if !slices.ContainsFunc(parts, func(p Part) bool { return p.Number == n }) {
			return fmt.Errorf("capture: there is no partition %d to ignore or to save whole", n)
		}
	}
	return nil
}
