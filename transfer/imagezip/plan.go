package imagezip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/probe"
	"loadnode/transfer/ndz"
)

// Part is a piece of what is captured: the unit itself, a partition, or space outside of all partitions.
type Part struct {
	Number    int    // of the partition; 0: the unit itself, or space outside
	Start     uint64 // sector of the unit
	Sectors   uint64
	Kind      string // "ext4", "raw", "ignored", "tables", "space outside"
	Holds     string // what was recognised of what is saved whole, such as "LVM2 physical volume"
	Label     string // of the filesystem
	Used      uint64 // sectors to read
	Free      uint64 // sectors left out
	Forgotten uint64 // free sectors saved because their runs are short
	Notes     []string
}

// String names a part in messages: "partition 2 (ext4)".
func (p Part) String() string {
	what := p.Kind
	if p.Holds != "" {
		what = p.Holds
	}
	if p.Number == 0 {
		return what
	}
	return fmt.Sprintf("partition %d (%s)", p.Number, what)
}

// Plan is what would be captured.
type Plan struct {
	Kind      string   // "mbr" or "gpt" for a disk with partitions, else that of the only part: "raw", "ext4" …
	Label     string   // of the filesystem, if there is one part only
	Sectors   uint64   // of the unit
	Tail      int      // bytes missing from the last sector
	Used      uint64   // sectors to read
	Free      uint64   // sectors left out
	Forgotten uint64   // free sectors saved because their runs are short
	Notes     []string // what the user should know; those of a partition name it
	Parts     []Part   // in the order of the disk; together they are the unit

	offset uint64 // of the unit in the source
	spans  []free.Span
	zeroed []free.Span
}

// part returns the part that a sector of the unit belongs to.
func (p *Plan) part(sector uint64) (Part, bool) {
	i := slices.IndexFunc(p.Parts, func(q Part) bool { return sector >= q.Start && sector < q.Start+q.Sectors })
	if i < 0 {
		return Part{}, false
	}
	return p.Parts[i], true
}

// Examine finds out what Capture would save, and refuses what it would.
func Examine(ctx context.Context, src Source, o Options) (Plan, error) {
	size := src.Size()
	p := Plan{Kind: "raw", Sectors: uint64(size) / ndz.SectorSize}
	if odd := size % ndz.SectorSize; odd != 0 {
		if o.Kind != File {
			return p, oddSize(size)
		}
		p.Sectors++
		p.Tail = ndz.SectorSize - int(odd)
	}
	if size == 0 {
		return p, errors.New("capture: the source is empty")
	}
	e := examiner{ctx: ctx, src: src, o: o, plan: &p}
	if err := e.run(); err != nil {
		return p, err
	}
	e.settle()
	return p, nil
}

// examiner is one run of Examine.
type examiner struct {
	ctx  context.Context
	src  Source
	o    Options
	plan *Plan
	free free.List // of the unit
}

func (e *examiner) run() error {
	p, o := e.plan, e.o
	table, err := e.table()
	if err != nil {
		return err
	}
	if table != nil && o.Partition == 0 {
		if err := e.unmistakable(table); err != nil {
			return err
		}
		if err := e.fits(); err != nil {
			return err
		}
		return e.disk(table)
	}
	number := 0
	if table != nil {
		part, ok := table.Partition(o.Partition)
		switch {
		case !ok:
			return fmt.Errorf("capture: the disk has no partition %d (it has %s)", o.Partition, numbers(table))
		case part.Extended():
			return fmt.Errorf("capture: partition %d is extended: it only contains the logical partitions, which have numbers from 5 on", o.Partition)
		}
		p.offset, p.Sectors, p.Tail, number = part.Start, part.Sectors, 0, part.Number
	}
	if err := e.fits(); err != nil {
		return err
	}
	unit := Part{Number: number, Sectors: p.Sectors, Kind: "raw"}
	if err := e.known([]Part{unit}); err != nil {
		return err
	}
	if err := e.relocations(&unit, p.offset); err != nil {
		return err
	}
	if err := e.part(&unit, p.offset); err != nil {
		return err
	}
	if o.OnlyFS && unit.Sectors < p.Sectors {
		p.Sectors = unit.Sectors
	}
	unit.Sectors = p.Sectors
	p.Parts, p.Kind, p.Label, p.Notes = []Part{unit}, unit.Kind, unit.Label, unit.Notes
	return nil
}

// fits refuses what the format has no numbers for.
func (e *examiner) fits() error {
	n := e.plan.Sectors
	if e.o.MaxSectors > 0 {
		n = min(n, e.o.MaxSectors)
	}
	if n > ndz.MaxSector {
		return fmt.Errorf("capture: the source has %d sectors, an image at most %d (2 TiB): capture its partitions one by one (-s)", n, ndz.MaxSector)
	}
	return nil
}

// unmistakable refuses a disk that has both an MBR and a filesystem that begins where the MBR is: one of them is a
// left-over, and taking it for the truth would leave out what belongs to the other.
func (e *examiner) unmistakable(t *ptable.Table) error {
	if e.o.Kind == Disk || t.Kind != ptable.MBR {
		return nil
	}
	if _, found, err := ext.Probe(e.ctx, e.src, e.src.Size(), free.Options{}); found || errors.Is(err, ErrFilesystem) {
		return errors.New("capture: there is an MBR partition table, and also an ext filesystem without one: say which is right with --disk or -l, or use -r to save every sector (raw)")
	}
	return nil
}

// table reads the partition table, if the options leave room for one. It is nil if there is none.
func (e *examiner) table() (*ptable.Table, error) {
	wanted := e.o.Partition != 0 || e.o.Kind == Disk
	if !wanted && e.o.Kind != Auto {
		return nil, nil
	}
	table, err := ptable.Read(e.src, e.src.Size())
	switch {
	case errors.Is(err, ptable.ErrNone) && wanted:
		return nil, fmt.Errorf("capture: a disk with partitions is asked for: %w", err)
	case errors.Is(err, ptable.ErrNone):
		return nil, nil
	case errors.Is(err, ptable.ErrTable):
		return nil, fmt.Errorf("capture: %w: repair it, use -l, -n or -S TYPE if there is a filesystem and no table, or -r to save every sector (raw)", err)
	case err != nil:
		return nil, fmt.Errorf("capture: %w", err)
	}
	if _, found := probe.Disk(e.src, e.src.Size()); found && !wanted {
		return nil, nil // the table is not what tells what is on this disk
	}
	return table, nil
}

func numbers(t *ptable.Table) string {
	list := ""
	for _, p := range t.Partitions {
		if list != "" {
			list += ", "
		}
		list += fmt.Sprint(p.Number)
	}
	if list == "" {
		return "none"
	}
	return list
}

// settle turns free space into what is read.
func (e *examiner) settle() {
	p, o := e.plan, e.o
	if o.MaxSectors > 0 && o.MaxSectors < p.Sectors {
		p.Sectors, p.Tail = o.MaxSectors, 0
	}
	e.free.Subtract([]free.Span{{Start: p.Sectors, End: 1 << 62}})
	forgotten := e.free.Forget(o.MinFree)
	p.Forgotten = free.Total(forgotten)
	if o.ZeroShort {
		p.zeroed = forgotten
	}
	p.spans = e.free.Used(p.Sectors)
	p.Used = free.Total(p.spans)
	p.Free = p.Sectors - p.Used
	p.Parts = slices.DeleteFunc(p.Parts, func(q Part) bool { return q.Start >= p.Sectors })
	for i := range p.Parts {
		q := &p.Parts[i]
		q.Sectors = min(q.Sectors, p.Sectors-q.Start)
		q.Used = common(p.spans, *q)
		q.Free = q.Sectors - q.Used
		q.Forgotten = common(forgotten, *q)
	}
}

// common is how many sectors of ascending spans lie in a part.
func common(spans []free.Span, q Part) (n uint64) {
	end := q.Start + q.Sectors
	for _, s := range free.Within(spans, free.Span{Start: q.Start, End: end}) {
		n += min(s.End, end) - max(s.Start, q.Start)
	}
	return n
}

// section is a part of a source.
func section(src Source, start, sectors uint64) *io.SectionReader {
	off := int64(start) * ndz.SectorSize
	return io.NewSectionReader(src, off, min(int64(sectors)*ndz.SectorSize, src.Size()-off))
}
