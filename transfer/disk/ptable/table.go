package ptable

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Errors of this package; those of Read that are neither come from reading the disk.
var (
	ErrNone  = errors.New("no partition table")         // neither MBR nor GPT
	ErrTable = errors.New("partition table is damaged") // there is one, but it contradicts itself or the disk
)

// Kind is the kind of a table.
type Kind string

// The kinds of tables.
const (
	MBR Kind = "mbr"
	GPT Kind = "gpt"
)

// unit is what the exported interface counts in, in bytes.
const unit = 512

// Bounds of what is believed of a table. Linux has names for 128 logical partitions at most, and no tool makes more
// than 128 GPT entries unless asked.
const (
	maxLogical   = 128
	maxEntries   = 1024
	maxEntrySize = 4096
)

// Span is a run of sectors of 512 bytes: [Start, End).
type Span struct{ Start, End uint64 }

// Partition is one partition. Start and Sectors count in 512 bytes from the start of the disk, whatever sectors the disk
// has.
type Partition struct {
	Number  int    // 1 to 4 primary, from 5 logical in the order of their chain; GPT: index of the entry plus 1
	Start   uint64 // first sector
	Sectors uint64 // greater than 0
	Type    byte   // MBR only
	GUID    GUID   // GPT only: the type
	Unique  GUID   // GPT only: the partition's own
	Name    string // GPT only
	Logical bool   // MBR only: inside the extended partition
	Active  bool   // MBR: active; GPT: legacy BIOS bootable
}

// End is the first sector behind the partition.
func (p Partition) End() uint64 { return p.Start + p.Sectors }

// Extended says that the partition is the container of the logical ones.
func (p Partition) Extended() bool { return !p.Logical && isExtended(p.Type) }

// Table is the partition table of a disk.
type Table struct {
	Kind       Kind
	SectorSize int         // of the table, in bytes: 512 or 4096
	Sectors    uint64      // size of the disk
	Partitions []Partition // by number; the extended partition is one of them
	Meta       []Span      // what holds tables: MBR, every EBR, GPT headers and arrays; ascending, no two touch
	// Partitions may lie in [FirstUsable, LastUsable): LastUsable is the first sector behind. MBR: 0 and Sectors.
	FirstUsable, LastUsable uint64
	Notes                   []string // what a user should know: "the backup GPT is damaged"
	// Moved says that the backup GPT is not at the end of the disk: an image of a smaller disk was restored. Notes says
	// so too.
	Moved bool

	mbr   boot
	chain []boot // EBRs in the order of the chain
	gpt   *gpt   // nil with MBR
	dirty map[uint64]bool
}

// boot is a sector that holds an MBR or EBR, whole.
type boot struct {
	at  uint64 // sectors of the disk
	raw []byte
}

// scale is how many units a sector of the disk has.
func (t *Table) scale() uint64 { return uint64(t.SectorSize / unit) }

func (t *Table) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// bad makes an error that wraps ErrTable.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTable, fmt.Sprintf(format, args...))
}

// Partition returns the partition with a number.
func (t *Table) Partition(number int) (Partition, bool) {
	if i := t.index(number); i >= 0 {
		return t.Partitions[i], true
	}
	return Partition{}, false
}

func (t *Table) index(number int) int {
	return slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.Number == number })
}

// Read reads the table of a disk of size bytes. The sectors of a GPT disk are found by where its header lies; for MBR
// they are what r says, if it has a method SectorSize() int (as the targets of transfer/disk have), and 512 otherwise.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	sectorSize := unit
	if s, ok := r.(interface{ SectorSize() int }); ok && s.SectorSize() == 4096 {
		sectorSize = 4096
	}
	if size < int64(sectorSize) {
		return nil, fmt.Errorf("%w: the disk has %d bytes", ErrNone, size)
	}
	first, err := readSector(r, 0, sectorSize)
	if err != nil {
		return nil, err
	}
	if !isTable(first) {
		return nil, ErrNone
	}
	t := &Table{SectorSize: sectorSize, Sectors: uint64(size) / unit, mbr: boot{raw: first}, dirty: map[uint64]bool{}}
	if slices.ContainsFunc(entries(first), entry.protective) {
		err = t.readGPT(r, size)
	} else {
		err = t.readMBR(r)
	}
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

func readSector(r io.ReaderAt, at uint64, size int) ([]byte, error) {
	return readBytes(r, int64(at)*int64(size), size)
}

func readBytes(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if k, err := r.ReadAt(b, off); k < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read partition table: %d bytes at byte %d: %w", n, off, err)
	}
	return b, nil
}

// check looks for partitions that overlap each other, the tables or the end of the disk. The extended partition
// contains its logical ones and their tables.
func (t *Table) check() error {
	type named struct {
		Span
		name string
	}
	var all []named
	for _, p := range t.Partitions {
		if p.Start < t.FirstUsable || p.End() > t.LastUsable {
			return bad("partition %d has sectors %d to %d, but those that may be used are %d to %d", p.Number, p.Start, p.End(), t.FirstUsable, t.LastUsable)
		}
		if p.Logical {
			continue
		}
		all = append(all, named{Span{p.Start, p.End()}, fmt.Sprintf("partition %d", p.Number)})
	}
	overlap := func(all []named) error {
		slices.SortFunc(all, func(a, b named) int { return cmp.Compare(a.Start, b.Start) })
		for i := 1; i < len(all); i++ {
			if a, b := all[i-1], all[i]; b.Start < a.End {
				return bad("%s (sectors %d to %d) overlaps %s (sectors %d to %d)", a.name, a.Start, a.End, b.name, b.Start, b.End)
			}
		}
		return nil
	}
	for _, m := range t.Meta {
		if !t.isEBR(m.Start) {
			all = append(all, named{m, "the table"})
		}
	}
	if err := overlap(all); err != nil {
		return err
	}
	all = all[:0]
	for _, e := range t.chain {
		all = append(all, named{Span{e.at * t.scale(), (e.at + 1) * t.scale()}, "the table of a logical partition"})
	}
	for _, p := range t.Partitions {
		if p.Logical {
			all = append(all, named{Span{p.Start, p.End()}, fmt.Sprintf("partition %d", p.Number)})
		}
	}
	return overlap(all)
}

func (t *Table) isEBR(sector uint64) bool {
	return slices.ContainsFunc(t.chain, func(e boot) bool { return e.at*t.scale() == sector })
}

// setMeta sorts and merges what holds tables.
func (t *Table) setMeta(spans []Span) {
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	t.Meta = nil
	for _, s := range spans {
		if n := len(t.Meta); n > 0 && s.Start <= t.Meta[n-1].End {
			t.Meta[n-1].End = max(t.Meta[n-1].End, s.End)
			continue
		}
		t.Meta = append(t.Meta, s)
	}
}
