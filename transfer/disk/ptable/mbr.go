package ptable

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
)

// Layout of an MBR and EBR sector.
const (
	entriesAt = 446
	entrySize = 16
	magicAt   = 510
)

const typeProtective = 0xee

// isExtended knows the container of logical partitions in its three spellings: CHS, LBA, Linux.
func isExtended(t byte) bool { return t == 0x05 || t == 0x0f || t == 0x85 }

// entry is one entry of an MBR or EBR, a part of the sector.
type entry []byte

func (e entry) kind() byte       { return e[4] }
func (e entry) start() uint64    { return uint64(binary.LittleEndian.Uint32(e[8:])) }
func (e entry) count() uint64    { return uint64(binary.LittleEndian.Uint32(e[12:])) }
func (e entry) used() bool       { return e.kind() != 0 && e.count() != 0 }
func (e entry) protective() bool { return e.kind() == typeProtective }
func (e entry) extended() bool   { return e.used() && isExtended(e.kind()) }

// setCount changes the size, and the last cylinder, head and sector with it; at is the absolute start.
func (e entry) setCount(at, n uint64) {
	binary.LittleEndian.PutUint32(e[12:], uint32(n))
	const heads, sectors, most = 255, 63, 1023
	last := at + n - 1
	c, h, s := last/(heads*sectors), last/sectors%heads, last%sectors+1
	if c > most {
		c, h, s = most, heads-1, sectors
	}
	e[5], e[6], e[7] = byte(h), byte(s)|byte(c>>8<<6), byte(c)
}

func entries(sector []byte) []entry {
	list := make([]entry, 4)
	for i := range list {
		list[i] = entry(sector[entriesAt+i*entrySize:][:entrySize])
	}
	return list
}

// hasMagic says that a sector ends like an MBR, EBR or boot sector.
func hasMagic(sector []byte) bool { return sector[magicAt] == 0x55 && sector[magicAt+1] == 0xaa }

// isTable says that sector 0 is an MBR. The boot sector of a filesystem ends with the same two bytes: it has code where
// the entries would be, or nothing at all, or (mkfs.fat on a whole disk) one entry that claims all of the disk, the
// boot sector included.
func isTable(sector []byte) bool {
	if !hasMagic(sector) {
		return false
	}
	used := false
	for _, e := range entries(sector) {
		if e[0]&0x7f != 0 || e.used() && e.start() == 0 {
			return false
		}
		used = used || e.used() || e.protective()
	}
	return used
}

// bootSectorOf names the filesystem whose boot sector this seems to be.
func bootSectorOf(sector []byte) string {
	for _, s := range []struct {
		at   int
		text string
	}{{3, "NTFS    "}, {3, "EXFAT   "}, {54, "FAT12   "}, {54, "FAT16   "}, {82, "FAT32   "}} {
		if bytes.HasPrefix(sector[s.at:], []byte(s.text)) {
			return string(bytes.TrimSpace([]byte(s.text)))
		}
	}
	return ""
}

func (t *Table) readMBR(r io.ReaderAt) error {
	t.Kind, t.LastUsable = MBR, t.Sectors
	if fs := bootSectorOf(t.mbr.raw); fs != "" {
		t.note("sector 0 holds partitions, but also looks like the boot sector of a %s filesystem", fs)
	}
	k := t.scale()
	var container *Partition
	for i, e := range entries(t.mbr.raw) {
		if !e.used() {
			if e.kind() != 0 {
				t.note("entry %d of the MBR has a type (%#02x) but no size and is left alone", i+1, e.kind())
			}
			continue
		}
		p := Partition{Number: i + 1, Start: e.start() * k, Sectors: e.count() * k, Type: e.kind(), Active: e[0] != 0}
		t.Partitions = append(t.Partitions, p)
		if e.extended() {
			if container != nil {
				return bad("partitions %d and %d are both extended", container.Number, p.Number)
			}
			container = &p
		}
	}
	spans := []Span{{0, k}}
	if container != nil {
		if container.End() > t.Sectors {
			return bad("the extended partition %d has sectors %d to %d, the disk %d", container.Number, container.Start, container.End(), t.Sectors)
		}
		if err := t.readChain(r, *container); err != nil {
			return err
		}
	}
	for _, e := range t.chain {
		spans = append(spans, Span{e.at * k, (e.at + 1) * k})
	}
	t.setMeta(spans)
	return nil
}

// readChain follows the tables of the logical partitions: each describes one and says where the next table is.
func (t *Table) readChain(r io.ReaderAt, c Partition) error {
	k := t.scale()
	first, end := c.Start/k, c.End()/k
	number := 5
	for at := first; ; {
		if slices.ContainsFunc(t.chain, func(e boot) bool { return e.at == at }) {
			return bad("the chain of logical partitions comes back to sector %d", at*k)
		}
		if len(t.chain) >= maxLogical {
			return bad("more than %d logical partitions", maxLogical)
		}
		raw, err := readSector(r, at, t.SectorSize)
		if err != nil {
			return err
		}
		if !hasMagic(raw) {
			if at == first {
				t.note("the extended partition %d holds no table: it has no logical partitions", c.Number)
				return nil
			}
			return bad("sector %d should hold the table of logical partition %d, but does not", at*k, number)
		}
		list := entries(raw)
		t.chain = append(t.chain, boot{at: at, raw: raw})
		for i, e := range list {
			if i >= 2 && e.used() {
				t.note("entry %d of the table of logical partitions at sector %d is not looked at", i+1, at*k)
			}
		}
		var next uint64
		for _, e := range list[:2] {
			switch {
			case !e.used():
			case e.extended():
				if next != 0 {
					return bad("the table of logical partitions at sector %d has two successors", at*k)
				}
				if next = first + e.start(); e.start() == 0 {
					return bad("the chain of logical partitions comes back to sector %d", first*k)
				}
			default:
				p := Partition{Number: number, Start: (at + e.start()) * k, Sectors: e.count() * k, Type: e.kind(), Logical: true, Active: e[0] != 0}
				if p.End() > c.End() {
					return bad("logical partition %d has sectors %d to %d, beyond the extended partition, which ends at %d", number, p.Start, p.End(), c.End())
				}
				if number-4 > maxLogical {
					return bad("more than %d logical partitions", maxLogical)
				}
				t.Partitions = append(t.Partitions, p)
				number++
			}
		}
		if next == 0 {
			return nil
		}
		if next >= end {
			return bad("the table of logical partition %d should be at sector %d, beyond the extended partition, which ends at %d", number, next*k, c.End())
		}
		at = next
	}
}
