package ptable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// Numbers that lie under right checksums: reading ends with an error or with a table that fits the disk, may be written,
// relocated to a larger disk and read again.
func FuzzGPT(f *testing.F) {
	f.Add(uint64(127), uint64(34), uint64(94), uint64(2), uint32(128), uint32(128), uint64(40), uint64(50), uint64(60), uint64(70))
	f.Add(uint64(1<<63), uint64(0), uint64(1<<63), uint64(1<<54), uint32(1024), uint32(4096), uint64(1<<63), uint64(1<<63), uint64(0), uint64(0))
	f.Add(uint64(127), uint64(34), uint64(94), uint64(2), uint32(4), uint32(128), uint64(40), uint64(50), uint64(45), uint64(70))
	f.Add(uint64(127), uint64(3), uint64(126), uint64(2), uint32(4), uint32(128), uint64(3), uint64(126), uint64(9), uint64(8))
	f.Fuzz(func(t *testing.T, alternate, first, last, array uint64, count, size uint32, s1, e1, s2, e2 uint64) {
		le := binary.LittleEndian
		b := make([]byte, 64<<10)
		entries(b)[0][4] = typeProtective
		le.PutUint32(entries(b)[0][8:], 1)
		b[510], b[511] = 0x55, 0xaa
		h := b[512:1024]
		copy(h, gptMagic)
		le.PutUint32(h[8:], gptRevision)
		le.PutUint32(h[12:], minHeaderSize)
		le.PutUint64(h[24:], 1)
		le.PutUint64(h[32:], alternate)
		le.PutUint64(h[40:], first)
		le.PutUint64(h[48:], last)
		le.PutUint64(h[72:], array)
		le.PutUint32(h[80:], count)
		le.PutUint32(h[84:], size)
		if at, n := array*512, uint64(count)*uint64(size); array >= 2 && array < 128 && n >= 256 && n <= uint64(len(b))-at && size >= 128 {
			for i, p := range [2][2]uint64{{s1, e1}, {s2, e2}} {
				if e := b[at+uint64(i)*uint64(size):]; len(e) >= 128 && uint64(i) < uint64(count) {
					e[0] = 1
					le.PutUint64(e[32:], p[0])
					le.PutUint64(e[40:], p[1])
				}
			}
			le.PutUint32(h[88:], crc32.ChecksumIEEE(b[at:at+n]))
		}
		le.PutUint32(h[16:], headerCRC(h))
		table, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrTable) && !errors.Is(err, ErrNone) {
				t.Fatal(err)
			}
			return
		}
		for _, p := range table.Partitions {
			if p.Start < table.FirstUsable || p.End() > table.LastUsable || p.End() > 128 || p.Sectors == 0 {
				t.Fatalf("%+v", p)
			}
		}
		larger := append(b, make([]byte, 64<<10)...)
		if err := table.Relocate(int64(len(larger))); err != nil {
			return
		}
		if err := table.Write(&memory{b: larger, after: func() {}}); err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(larger), int64(len(larger)))
		if err != nil || len(again.Notes) != 0 || len(again.Partitions) != len(table.Partitions) {
			t.Fatalf("what was written does not read: %v %+v", err, again)
		}
	})
}
