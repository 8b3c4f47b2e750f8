package ptable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

const (
	gptMagic      = "EFI PART"
	gptRevision   = 0x00010000
	minHeaderSize = 92
	minEntrySize  = 128
)

// header is one of the two GPT headers. Numbers are sectors of the disk.
type header struct {
	raw           []byte // the whole sector
	at, alternate uint64
	first, last   uint64 // usable, inclusive
	entries       uint64 // where the array is
	count, size   int
	crc           uint32 // of the array
}

// sectors is how long the array is.
func (h *header) sectors() uint64 {
	s := len(h.raw)
	return uint64((h.count*h.size + s - 1) / s)
}

// gpt is what Write needs besides the exported fields.
type gpt struct {
	header                // of the copy that counts; raw is the base of both
	array          []byte // whole sectors
	fromBackup     bool   // the primary was damaged
	primaryEntries uint64
	backup         uint64 // where the backup header belongs
	backupEntries  uint64
	hybrid         bool
	noRoom         bool // there is no place for a backup
}

// readGPT reads both copies. The sector size is the one with which a valid header is found.
func (t *Table) readGPT(r io.ReaderAt, size int64) error {
	t.Kind = GPT
	type found struct {
		sectorSize int
		g          *gpt
	}
	var good []found
	var damage error
	for _, ss := range []int{512, 4096} {
		if size/int64(ss) < 6 {
			continue
		}
		g, err := readCopy(r, 1, ss, size)
		switch {
		case err == nil:
			good = append(good, found{ss, g})
		case !errors.Is(err, ErrTable):
			return err
		case !errors.Is(err, errNoHeader) || damage == nil:
			damage = err
		}
	}
	if len(good) == 2 { // one is left over from a disk with other sectors: the protective entry decides
		for _, e := range entries(t.mbr.raw) {
			for _, f := range good {
				if total := uint64(size) / uint64(f.sectorSize); e.protective() && e.count() == min(total-1, 1<<32-1) {
					good = []found{f}
				}
			}
		}
		if len(good) == 2 {
			return bad("there are GPT headers for sectors of 512 and of 4096 bytes")
		}
	}
	if len(good) == 1 {
		t.gpt, t.SectorSize = good[0].g, good[0].sectorSize
	} else {
		for _, ss := range []int{512, 4096} {
			if size/int64(ss) < 6 {
				continue
			}
			g, err := readCopy(r, uint64(size)/uint64(ss)-1, ss, size)
			if err == nil {
				t.gpt, t.SectorSize = g, ss
				break
			}
			if !errors.Is(err, ErrTable) {
				return err
			}
		}
		if t.gpt == nil {
			if damage == nil {
				damage = bad("the disk is too small for its GPT")
			}
			return damage
		}
		t.gpt.fromBackup = true
		t.note("the primary GPT is damaged (%v): the backup was read instead", damage)
	}
	if err := t.readProtective(r); err != nil {
		return err
	}
	if err := t.place(r, size); err != nil {
		return err
	}
	t.describe()
	return t.readEntries()
}

var errNoHeader = bad("there is a protective MBR, but no GPT header")

// readCopy reads the header at a sector and its array. Its error wraps ErrTable if they are not valid.
func readCopy(r io.ReaderAt, at uint64, sectorSize int, size int64) (*gpt, error) {
	raw, err := readSector(r, at, sectorSize)
	if err != nil {
		return nil, err
	}
	if string(raw[:8]) != gptMagic {
		return nil, errNoHeader
	}
	le := binary.LittleEndian
	length := le.Uint32(raw[12:])
	if le.Uint32(raw[8:]) != gptRevision || length < minHeaderSize || int(length) > sectorSize {
		return nil, bad("GPT header at sector %d: revision %#x with %d bytes", at, le.Uint32(raw[8:]), length)
	}
	if headerCRC(raw) != le.Uint32(raw[16:]) {
		return nil, bad("GPT header at sector %d: wrong checksum", at)
	}
	h := header{raw: raw, at: le.Uint64(raw[24:]), alternate: le.Uint64(raw[32:]), first: le.Uint64(raw[40:]), last: le.Uint64(raw[48:]),
		entries: le.Uint64(raw[72:]), crc: le.Uint32(raw[88:])}
	count, each := le.Uint32(raw[80:]), le.Uint32(raw[84:])
	total := uint64(size) / uint64(sectorSize)
	switch {
	case h.at != at:
		return nil, bad("GPT header at sector %d: it says it is at sector %d", at, h.at)
	case count == 0 || count > maxEntries || each < minEntrySize || each > maxEntrySize || each&(each-1) != 0:
		return nil, bad("GPT header at sector %d: %d entries of %d bytes; up to %d of %d to %d bytes are read", at, count, each, maxEntries, minEntrySize, maxEntrySize)
	case h.last >= total || h.first > h.last:
		return nil, bad("GPT header at sector %d: usable sectors %d to %d of a disk of %d", at, h.first, h.last, total)
	}
	h.count, h.size = int(count), int(each)
	n := h.sectors()
	inFront := h.entries > 1 && h.entries < h.first && n <= h.first-h.entries
	behind := h.entries > h.last && h.entries < at && n <= at-h.entries
	if at == 1 && !inFront || at != 1 && !behind {
		return nil, bad("GPT header at sector %d: its entries at sector %d lie where they cannot", at, h.entries)
	}
	array, err := readBytes(r, int64(h.entries)*int64(sectorSize), int(n)*sectorSize)
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(array[:h.count*h.size]) != h.crc {
		return nil, bad("GPT entries at sector %d: wrong checksum", h.entries)
	}
	return &gpt{header: h, array: array}, nil
}

func headerCRC(raw []byte) uint32 {
	b := bytes.Clone(raw[:binary.LittleEndian.Uint32(raw[12:])])
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}

// readProtective reads sector 0 again as it is long, and looks for other partitions in it.
func (t *Table) readProtective(r io.ReaderAt) error {
	raw, err := readSector(r, 0, t.SectorSize)
	if err != nil {
		return err
	}
	t.mbr.raw = raw
	for _, e := range entries(raw) {
		t.gpt.hybrid = t.gpt.hybrid || e.used() && !e.protective()
	}
	if t.gpt.hybrid {
		t.note("the MBR is a hybrid: it describes partitions besides the GPT; the GPT was read")
	}
	return nil
}

// place finds where both copies belong, and compares the one that was read with the other.
func (t *Table) place(r io.ReaderAt, size int64) error {
	g := t.gpt
	n, end := g.sectors(), uint64(size)/uint64(t.SectorSize)-1
	if g.fromBackup {
		g.backup, g.backupEntries, g.primaryEntries = g.at, g.entries, 2
		if g.first < 2+n {
			return bad("the backup GPT leaves no room for the primary: usable from sector %d", g.first)
		}
		return nil
	}
	g.primaryEntries, g.backup = g.entries, g.alternate
	if g.backup <= g.last || g.backup-g.last <= n || g.backup > end {
		g.backup, g.noRoom = end, end-g.last <= n
		g.backupEntries = end - n
		t.note("the backup GPT is missing: the table expects it at sector %d", g.alternate)
		if g.noRoom {
			g.backup, g.backupEntries = 0, 0
		}
		return nil
	}
	g.backupEntries = g.backup - n
	b, err := readCopy(r, g.backup, t.SectorSize, size)
	switch {
	case errors.Is(err, errNoHeader):
		t.note("the backup GPT is missing: there is no header at sector %d", g.backup)
	case errors.Is(err, ErrTable):
		t.note("the backup GPT is damaged: %v", err)
	case err != nil:
		return err
	default:
		if b.first != g.first || b.last != g.last || b.crc != g.crc || b.count != g.count || b.size != g.size || !bytes.Equal(b.raw[56:72], g.raw[56:72]) {
			t.note("the backup GPT differs from the primary, which was read")
		} else {
			g.backupEntries = b.entries
		}
	}
	if t.Moved = g.backup != end; t.Moved {
		t.note("the backup GPT is at sector %d, not at the end of the disk (sector %d): the disk is larger than the table knows", g.backup, end)
	}
	return nil
}

// describe sets the exported fields that follow from where the copies are.
func (t *Table) describe() {
	g, k := t.gpt, t.scale()
	n := g.sectors()
	t.FirstUsable, t.LastUsable = g.first*k, (g.last+1)*k
	spans := []Span{{0, 2 * k}, {g.primaryEntries * k, (g.primaryEntries + n) * k}}
	if g.backup != 0 {
		spans = append(spans, Span{g.backupEntries * k, (g.backupEntries + n) * k}, Span{g.backup * k, (g.backup + 1) * k})
	}
	t.setMeta(spans)
}

func (t *Table) readEntries() error {
	g, k := t.gpt, t.scale()
	le := binary.LittleEndian
	for i := range g.count {
		e := g.entry(i + 1)
		typ := GUID(e[:16])
		if typ == (GUID{}) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > last || first < g.first || last > g.last {
			return bad("partition %d has sectors %d to %d of %d bytes, but those that may be used are %d to %d", i+1, first, last, t.SectorSize, g.first, g.last)
		}
		var name []uint16
		for at := 56; at < 128; at += 2 {
			c := le.Uint16(e[at:])
			if c == 0 {
				break
			}
			name = append(name, c)
		}
		t.Partitions = append(t.Partitions, Partition{Number: i + 1, Start: first * k, Sectors: (last - first + 1) * k, GUID: typ,
			Unique: GUID(e[16:32]), Name: string(utf16.Decode(name)), Active: e[48]&4 != 0})
	}
	return nil
}

// entry is the part of the array that describes a partition.
func (g *gpt) entry(number int) []byte { return g.array[(number-1)*g.size:][:g.size] }
