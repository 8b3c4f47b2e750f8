package ptable

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// slot finds the entry of an MBR partition, in its sector.
func (t *Table) slot(number int) (*boot, entry, bool) {
	if number <= 4 {
		return &t.mbr, entries(t.mbr.raw)[number-1], true
	}
	at := 5
	for i := range t.chain {
		for _, e := range entries(t.chain[i].raw)[:2] {
			if !e.used() || e.extended() {
				continue
			}
			if at == number {
				return &t.chain[i], e, true
			}
			at++
		}
	}
	return nil, nil, false
}

func (t *Table) find(number int) (*Partition, error) {
	i := t.index(number)
	if i < 0 {
		return nil, fmt.Errorf("the disk has no partition %d; it has %s", number, t.numbers())
	}
	return &t.Partitions[i], nil
}

func (t *Table) numbers() string {
	if len(t.Partitions) == 0 {
		return "none"
	}
	s := ""
	for i, p := range t.Partitions {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprint(p.Number)
	}
	return s
}

// SetType changes the type of a partition. It must have the half that the table needs.
func (t *Table) SetType(number int, typ Type) error {
	p, err := t.find(number)
	if err != nil {
		return err
	}
	if t.Kind == GPT {
		if typ.GUID == (GUID{}) {
			return fmt.Errorf("partition %d is in a GPT: type %#02x has no counterpart there, give a GUID", number, typ.MBR)
		}
		copy(t.gpt.entry(number), typ.GUID[:])
		p.GUID = typ.GUID
		return nil
	}
	if p.Extended() {
		return fmt.Errorf("partition %d is the extended one: its type must stay", number)
	}
	if typ.MBR == 0 {
		return fmt.Errorf("partition %d is in an MBR: type %s has no number there", number, typ.GUID)
	}
	b, e, ok := t.slot(number)
	if !ok {
		return bad("partition %d has no entry", number)
	}
	e[4], p.Type = typ.MBR, typ.MBR
	t.dirty[b.at] = true
	return nil
}

// Limit is the first sector that a partition cannot reach because something else is there: the next partition or table,
// or the end of what may be used. The extended partition does not limit the logical ones in it if nothing follows it:
// Resize makes it longer with them.
func (t *Table) Limit(number int) (uint64, error) {
	p, err := t.find(number)
	if err != nil {
		return 0, err
	}
	limit := t.LastUsable
	if t.Kind == MBR {
		limit = min(limit, t.scale()*(1<<32-1))
	}
	for _, o := range t.Partitions {
		if o.Number != p.Number && o.Start >= p.End() {
			limit = min(limit, o.Start)
		}
	}
	for _, m := range t.Meta {
		if m.Start >= p.End() {
			limit = min(limit, m.Start)
		}
	}
	return limit, nil
}

// Resize changes the size of a partition in sectors of 512 bytes; where it starts stays. If a logical partition becomes
// longer than the extended one, that is made longer too. It is an error if anything is in the way.
func (t *Table) Resize(number int, sectors uint64) error {
	p, err := t.find(number)
	if err != nil {
		return err
	}
	k := t.scale()
	if sectors == 0 || sectors%k != 0 {
		return fmt.Errorf("partition %d: %d sectors are no size on a disk with sectors of %d bytes", number, sectors, t.SectorSize)
	}
	limit, err := t.Limit(number)
	if err != nil {
		return err
	}
	if sectors > limit-p.Start {
		return fmt.Errorf("partition %d cannot have %d sectors: there is room for %d", number, sectors, limit-p.Start)
	}
	if t.Kind == GPT {
		if t.gpt.hybrid {
			return fmt.Errorf("partition %d: the MBR is a hybrid, which would describe the old size", number)
		}
		binary.LittleEndian.PutUint64(t.gpt.entry(number)[40:], (p.Start+sectors)/k-1)
		p.Sectors = sectors
		return nil
	}
	if p.Extended() {
		for _, o := range t.Partitions {
			if o.Logical && o.End() > p.Start+sectors {
				return fmt.Errorf("partition %d cannot have %d sectors: partition %d is in it", number, sectors, o.Number)
			}
		}
	}
	t.resizeEntry(p, sectors)
	if p.Logical {
		for i := range t.Partitions {
			if c := &t.Partitions[i]; c.Extended() && c.End() < p.End() {
				t.resizeEntry(c, p.End()-c.Start)
			}
		}
		t.relink(number)
	}
	return nil
}

func (t *Table) resizeEntry(p *Partition, sectors uint64) {
	k := t.scale()
	b, e, ok := t.slot(p.Number)
	if !ok {
		return
	}
	e.setCount(p.Start/k, sectors/k)
	t.dirty[b.at] = true
	p.Sectors = sectors
}

// relink makes the entry that leads to the table of a logical partition as long as table and partition.
func (t *Table) relink(number int) {
	b, own, _ := t.slot(number)
	i := slices.IndexFunc(t.chain, func(e boot) bool { return e.at == b.at })
	if i < 1 {
		return
	}
	for _, e := range entries(t.chain[i-1].raw)[:2] {
		if e.extended() && t.chain[0].at+e.start() == b.at {
			e.setCount(b.at, own.start()+own.count())
			t.dirty[t.chain[i-1].at] = true
		}
	}
}

// Relocate makes the table fit a disk of diskSize bytes: the backup GPT moves to its end, and all of it may be used. An
// MBR needs no change. It is an error if the table, or a partition, does not fit.
func (t *Table) Relocate(diskSize int64) error {
	k := t.scale()
	sectors := uint64(max(0, diskSize)) / unit / k * k
	if t.Kind == MBR {
		for _, p := range t.Partitions {
			if p.End() > sectors {
				return fmt.Errorf("partition %d ends at sector %d, the disk at %d", p.Number, p.End(), sectors)
			}
		}
		t.Sectors, t.LastUsable = sectors, sectors
		return nil
	}
	g := t.gpt
	n, end := g.sectors(), sectors/k
	if end < g.first+n+2 {
		return fmt.Errorf("a disk of %d bytes is too small for the table", diskSize)
	}
	last := end - n - 2
	for _, p := range t.Partitions {
		if p.End() > (last+1)*k {
			return fmt.Errorf("partition %d ends at sector %d, those that may be used at %d", p.Number, p.End(), (last+1)*k)
		}
	}
	g.backup, g.backupEntries, g.last, g.noRoom = end-1, end-1-n, last, false
	t.Sectors, t.Moved = sectors, false
	if !g.hybrid {
		for _, e := range entries(t.mbr.raw) {
			if e.protective() && e.start() == 1 {
				binary.LittleEndian.PutUint32(e[12:], uint32(min(end-1, 1<<32-1)))
				t.dirty[0] = true
			}
		}
	}
	t.describe()
	return nil
}

// Write puts the table on the disk. Of a GPT, first the copy is written that was not read, so that one is always valid;
// of an MBR, the extended partition before what grows in it. If w has a method Sync() error, it is called between the
// steps and at the end. An MBR keeps its boot code; sectors that did not change are not written.
func (t *Table) Write(w io.WriterAt) error {
	sync := func() error { return nil }
	if s, ok := w.(interface{ Sync() error }); ok {
		sync = s.Sync
	}
	put := func(at uint64, b []byte) error {
		if _, err := w.WriteAt(b, int64(at)*int64(t.SectorSize)); err != nil {
			return fmt.Errorf("write partition table at sector %d: %w", at, err)
		}
		return nil
	}
	writeBoot := func(b boot) error {
		if !t.dirty[b.at] {
			return nil
		}
		if err := put(b.at, b.raw); err != nil {
			return err
		}
		delete(t.dirty, b.at)
		return sync()
	}
	if t.Kind == GPT {
		g := t.gpt
		if g.noRoom {
			return bad("there is no room for the backup GPT behind the usable sectors")
		}
		backup := func() error { return t.writeCopy(put, g.backup, g.backupEntries, 1) }
		primary := func() error { return t.writeCopy(put, 1, g.primaryEntries, g.backup) }
		steps := []func() error{backup, sync, primary, sync}
		if g.fromBackup {
			steps = []func() error{primary, sync, backup, sync}
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		g.fromBackup = false
	}
	if err := writeBoot(t.mbr); err != nil {
		return err
	}
	for _, e := range t.chain {
		if err := writeBoot(e); err != nil {
			return err
		}
	}
	return nil
}

// writeCopy writes an array and then the header that vouches for it.
func (t *Table) writeCopy(put func(uint64, []byte) error, at, array, alternate uint64) error {
	g, le := t.gpt, binary.LittleEndian
	raw := slices.Clone(g.raw)
	le.PutUint64(raw[24:], at)
	le.PutUint64(raw[32:], alternate)
	le.PutUint64(raw[40:], g.first)
	le.PutUint64(raw[48:], g.last)
	le.PutUint64(raw[72:], array)
	le.PutUint32(raw[88:], crc32.ChecksumIEEE(g.array[:g.count*g.size]))
	le.PutUint32(raw[16:], headerCRC(raw))
	if err := put(array, g.array); err != nil {
		return err
	}
	return put(at, raw)
}
