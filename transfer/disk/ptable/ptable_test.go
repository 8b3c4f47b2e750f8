package ptable

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/internal/vectors"
	"loadnode/transfer/ndz"
)

const mib = 1 << 20

// disk is a file of a size, with a table made by a program.
func disk(t *testing.T, size int64, stdin, name string, args ...string) string {
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	tool.Feed(t, stdin, name, append(args, path)...)
	return path
}

func open(t *testing.T, path string) (*os.File, int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	require.NoError(t, err)
	return f, st.Size()
}

func read(t *testing.T, path string) *Table {
	f, size := open(t, path)
	table, err := Read(f, size)
	require.NoError(t, err)
	return table
}

func clean(t *testing.T, path string, kind Kind) {
	if kind == GPT {
		require.Contains(t, tool.Run(t, "sgdisk", "-v", path), "No problems found")
		return
	}
	require.Contains(t, tool.Run(t, "sfdisk", "-V", path), "No errors detected")
}

const mbrScript = `label: dos
start=2048, size=20480, type=83, bootable
start=22528, size=2048, type=82
start=24576, size=100000, type=5
start=26624, size=8192, type=c
start=38912, size=8192, type=83
`

func TestMBR(t *testing.T) {
	path := disk(t, 96*mib, mbrScript, "sfdisk", "-q")
	table := read(t, path)
	require.Equal(t, MBR, table.Kind)
	require.Empty(t, table.Notes)
	require.Equal(t, []Partition{
		{Number: 1, Start: 2048, Sectors: 20480, Type: 0x83, Active: true},
		{Number: 2, Start: 22528, Sectors: 2048, Type: 0x82},
		{Number: 3, Start: 24576, Sectors: 100000, Type: 5},
		{Number: 5, Start: 26624, Sectors: 8192, Type: 0x0c, Logical: true},
		{Number: 6, Start: 38912, Sectors: 8192, Type: 0x83, Logical: true},
	}, table.Partitions)
	require.Equal(t, Span{0, 1}, table.Meta[0])
	require.Equal(t, Span{24576, 24577}, table.Meta[1])
	require.Len(t, table.Meta, 3)

	require.Error(t, table.Resize(5, 20000), "the next logical partition is in the way")
	require.Error(t, table.Resize(2, 4096), "the extended partition is in the way")
	require.Error(t, table.SetType(3, Type{MBR: 0x83}))
	require.Error(t, table.SetType(7, Type{MBR: 0x83}))
	require.Error(t, table.SetType(5, Type{GUID: GUID{1}}))
	require.NoError(t, table.SetType(5, Type{MBR: 0x83}))
	limit, err := table.Limit(6)
	require.NoError(t, err)
	require.EqualValues(t, 96*mib/512, limit)
	require.NoError(t, table.Resize(6, limit-38912))
	f, _ := open(t, path)
	require.NoError(t, table.Write(f))
	again := read(t, path)
	require.Equal(t, table.Partitions, again.Partitions)
	require.EqualValues(t, limit, again.Partitions[2].End(), "the extended partition grew")
	clean(t, path, MBR)
}

func TestGPT(t *testing.T) {
	path := disk(t, 32*mib, "", "sgdisk", "-n", "1:2048:+4M", "-t", "1:8300", "-c", "1:röot", "-n", "3:20480:+2M", "-t", "3:ef00")
	clean(t, path, GPT)
	table := read(t, path)
	require.Equal(t, GPT, table.Kind)
	require.Empty(t, table.Notes)
	require.Len(t, table.Partitions, 2)
	require.Equal(t, "röot", table.Partitions[0].Name)
	require.Equal(t, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", table.Partitions[0].GUID.String())
	require.Equal(t, []Span{{0, 34}, {65503, 65536}}, table.Meta)
	require.EqualValues(t, 34, table.FirstUsable)
	require.EqualValues(t, 65503, table.LastUsable)

	require.NoError(t, os.Truncate(path, 64*mib+512))
	f, size := open(t, path)
	table, err := Read(f, size)
	require.NoError(t, err)
	require.Contains(t, table.Notes[0], "not at the end")
	swap, err := ParseType("0x82")
	require.NoError(t, err)
	require.Error(t, table.SetType(3, Type{MBR: 0x77}))
	require.NoError(t, table.SetType(3, swap))
	require.NoError(t, table.Relocate(size))
	require.Error(t, table.Resize(1, 20000))
	require.NoError(t, table.Resize(3, table.LastUsable-20480))
	require.NoError(t, table.Write(f))
	clean(t, path, GPT)
	again := read(t, path)
	require.Empty(t, again.Notes)
	require.Equal(t, table.Partitions, again.Partitions)
	require.Equal(t, swap.GUID, again.Partitions[1].GUID)
	require.Equal(t, table.Meta, again.Meta)

	// A table that is larger than the disk is not believed, nor one whose partition does not fit any more.
	require.Error(t, again.Relocate(16*mib))
	_, err = Read(f, 48*mib)
	require.ErrorIs(t, err, ErrTable)
}

func TestDamagedGPT(t *testing.T) {
	path := disk(t, 32*mib, "", "sgdisk", "-n", "1:2048:+4M", "-t", "1:8300")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	want := read(t, path)
	n := int64(len(whole))
	for _, c := range []struct {
		name string
		at   []int64
		note string
		err  bool
	}{
		{"primary header", []int64{512 + 40}, "primary GPT is damaged", false},
		{"primary magic", []int64{512}, "primary GPT is damaged", false},
		{"primary entries", []int64{1024 + 33}, "primary GPT is damaged", false},
		{"backup header", []int64{n - 512 + 40}, "backup GPT is damaged", false},
		{"backup magic", []int64{n - 512}, "backup GPT is missing", false},
		{"backup entries", []int64{n - 512 - 16384 + 40}, "backup GPT is damaged", false},
		{"both", []int64{512 + 40, n - 512 + 40}, "", true},
	} {
		b := bytes.Clone(whole)
		for _, at := range c.at {
			b[at] ^= 0xff
		}
		table, err := Read(bytes.NewReader(b), n)
		if c.err {
			require.ErrorIs(t, err, ErrTable, c.name)
			continue
		}
		require.NoError(t, err, c.name)
		require.Len(t, table.Notes, 1, c.name)
		require.Contains(t, table.Notes[0], c.note, c.name)
		require.Equal(t, want.Partitions, table.Partitions, c.name)
		require.Equal(t, want.Meta, table.Meta, c.name)
		// Written, it is whole again, to the bit.
		require.NoError(t, os.WriteFile(path, b, 0o600))
		f, _ := open(t, path)
		require.NoError(t, table.Write(f))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(whole, got), c.name)
	}
}

// A crash between any two writes leaves a table that reads.
func TestWriteLeavesOneValidCopy(t *testing.T) {
	path := disk(t, 4*mib, "", "sgdisk", "-n", "1:40:+1M")
	require.NoError(t, os.Truncate(path, 6*mib))
	for _, damage := range []int64{-1, 512 + 40} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		size := int64(len(b))
		if damage >= 0 { // only a backup at the end can stand in
			b, size = b[:4*mib], 4*mib
			b[damage] ^= 0xff
		}
		table, err := Read(bytes.NewReader(b), size)
		require.NoError(t, err)
		require.NoError(t, table.Relocate(size))
		require.NoError(t, table.Resize(1, 1024))
		m := &memory{b: b, after: func() {
			_, err := Read(bytes.NewReader(b), size)
			require.NoError(t, err)
		}}
		require.NoError(t, table.Write(m))
		require.GreaterOrEqual(t, m.writes, 4)
	}
}

type memory struct {
	b      []byte
	writes int
	after  func()
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	for i := range p { // torn in the middle of a sector
		m.b[off+int64(i)] = p[i]
		if i == len(p)/2 {
			m.after()
		}
	}
	m.writes++
	m.after()
	return len(p), nil
}

// sized says which sectors a disk has.
type sized struct {
	io.ReaderAt
	sector int
}

func (s sized) SectorSize() int { return s.sector }

// A GPT for sectors of 4096 bytes, made here: the tools need a device for that.
func TestSectorsOf4096(t *testing.T) {
	b := make([]byte, 8*mib)
	e := entries(b)[0]
	e[4] = typeProtective
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], 8*mib/4096-1)
	b[510], b[511] = 0x55, 0xaa
	raw := make([]byte, 4096)
	copy(raw, gptMagic)
	binary.LittleEndian.PutUint32(raw[8:], gptRevision)
	binary.LittleEndian.PutUint32(raw[12:], 92)
	binary.LittleEndian.PutUint32(raw[80:], 128)
	binary.LittleEndian.PutUint32(raw[84:], 128)
	linux, err := ParseType("linux")
	require.NoError(t, err)
	g := &gpt{header: header{raw: raw, first: 6, count: 128, size: 128}, array: make([]byte, 4*4096), primaryEntries: 2}
	copy(g.entry(2), linux.GUID[:])
	binary.LittleEndian.PutUint64(g.entry(2)[32:], 256)
	binary.LittleEndian.PutUint64(g.entry(2)[40:], 511)
	made := &Table{Kind: GPT, SectorSize: 4096, gpt: g, mbr: boot{raw: b[:4096]}, dirty: map[uint64]bool{}}
	require.NoError(t, made.Relocate(8*mib))
	require.NoError(t, made.Write(&memory{b: b, after: func() {}}))
	table, err := Read(bytes.NewReader(b), 8*mib)
	require.NoError(t, err)
	require.Empty(t, table.Notes)
	require.Equal(t, 4096, table.SectorSize)
	require.Equal(t, []Partition{{Number: 2, Start: 2048, Sectors: 2048, GUID: linux.GUID}}, table.Partitions)
	require.Equal(t, []Span{{0, 48}, {16384 - 40, 16384}}, table.Meta)
	require.Error(t, table.Resize(2, 2049))
	require.NoError(t, table.Resize(2, 4096))
	// The backup alone tells the sector size as well.
	clear(b[4096:8192])
	table, err = Read(bytes.NewReader(b), 8*mib)
	require.NoError(t, err)
	require.Equal(t, 4096, table.SectorSize)

	path := disk(t, 16*mib, "label: dos\nstart=2048, size=1024, type=83\n", "sfdisk", "-q")
	f, size := open(t, path)
	table, err = Read(sized{f, 4096}, size)
	require.NoError(t, err)
	require.Equal(t, []Partition{{Number: 1, Start: 16384, Sectors: 8192, Type: 0x83}}, table.Partitions)
}

// chain makes an extended partition of sectors 100 to 1000 with these tables: where, where the partition is relative to
// it and how long, and the next table relative to the extended partition.
func chain(ebrs ...[4]uint32) []byte {
	b := make([]byte, 1024*512)
	sign := func(at uint32) []byte {
		s := b[at*512:][:512]
		s[510], s[511] = 0x55, 0xaa
		return s
	}
	set := func(e entry, typ byte, start, n uint32) {
		e[4] = typ
		binary.LittleEndian.PutUint32(e[8:], start)
		binary.LittleEndian.PutUint32(e[12:], n)
	}
	set(entries(sign(0))[0], 5, 100, 900)
	for _, e := range ebrs {
		s := sign(e[0])
		if e[2] > 0 {
			set(entries(s)[0], 0x83, e[1], e[2])
		}
		if e[3] > 0 {
			set(entries(s)[1], 5, e[3], 1)
		}
	}
	return b
}

func TestChains(t *testing.T) {
	var many [][4]uint32
	for i := range uint32(200) {
		many = append(many, [4]uint32{100 + 4*i, 1, 1, 4 * (i + 1)})
	}
	for _, c := range []struct {
		name  string
		disk  []byte
		want  []uint64 // starts of the logical partitions
		error string
	}{
		{"one", chain([4]uint32{100, 1, 9, 0}), []uint64{101}, ""},
		{"empty first", chain([4]uint32{100, 0, 0, 50}, [4]uint32{150, 1, 9, 0}), []uint64{151}, ""},
		{"out of order", chain([4]uint32{100, 1, 9, 500}, [4]uint32{600, 1, 9, 300}, [4]uint32{400, 1, 9, 0}), []uint64{101, 601, 401}, ""},
		{"no table", chain(), nil, ""},
		{"loop", chain([4]uint32{100, 1, 9, 50}, [4]uint32{150, 1, 9, 50}), nil, "comes back"},
		{"to itself", chain([4]uint32{100, 1, 9, 20}, [4]uint32{120, 1, 9, 300}, [4]uint32{400, 1, 9, 20}), nil, "comes back"},
		{"overlap", chain([4]uint32{100, 1, 100, 50}, [4]uint32{150, 60, 100, 0}), nil, "overlaps"},
		{"beyond", chain([4]uint32{100, 1, 900, 0}), nil, "beyond the extended"},
		{"next beyond", chain([4]uint32{100, 1, 9, 900}), nil, "beyond the extended"},
		{"next is none", chain([4]uint32{100, 1, 9, 200}), nil, "should hold the table"},
		{"too many", chain(many...), nil, "more than 128"},
	} {
		table, err := Read(bytes.NewReader(c.disk), int64(len(c.disk)))
		if c.error != "" {
			require.ErrorIs(t, err, ErrTable, c.name)
			require.ErrorContains(t, err, c.error, c.name)
			continue
		}
		require.NoError(t, err, c.name)
		var got []uint64
		for _, p := range table.Partitions[1:] {
			require.True(t, p.Logical)
			got = append(got, p.Start)
		}
		require.Equal(t, c.want, got, c.name)
	}
}

func TestNoTable(t *testing.T) {
	fat := make([]byte, 64<<10)
	copy(fat, "\xeb\x58\x90MSDOS5.0")
	copy(fat[82:], "FAT32   ")
	copy(fat[440:], "\r\nDisk error\xff\r\nPress any key to restart\r\n")
	fat[510], fat[511] = 0x55, 0xaa
	grub := make([]byte, 64<<10) // a boot loader in front of a filesystem
	grub[0], grub[510], grub[511] = 0xeb, 0x55, 0xaa
	floppy := make([]byte, 64<<10) // what mkfs.fat writes to a whole disk: one entry that claims all of it
	floppy[446+4], floppy[446+12], floppy[510], floppy[511] = 4, 128, 0x55, 0xaa
	for name, b := range map[string][]byte{"floppy": floppy, "nothing": nil, "short": make([]byte, 511), "zeros": make([]byte, 64<<10), "fat": fat, "grub": grub,
		"ones": bytes.Repeat([]byte{0xff}, 64<<10)} {
		_, err := Read(bytes.NewReader(b), int64(len(b)))
		require.ErrorIs(t, err, ErrNone, name)
	}
	for _, kind := range []string{"mkfs.vfat", "mkfs.ntfs"} {
		t.Run(kind, func(t *testing.T) {
			args := []string{}
			if kind == "mkfs.ntfs" {
				args = []string{"-F", "-q"}
			}
			f, size := open(t, disk(t, 8*mib, "", kind, args...))
			_, err := Read(f, size)
			require.ErrorIs(t, err, ErrNone)
		})
	}
}

func TestVectors(t *testing.T) {
	for name, want := range map[string]Kind{"disk-mbr.ndz": MBR, "disk-gpt.ndz": GPT} {
		image := vectors.Read(t, "ndz/"+name)
		path := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(path)
		require.NoError(t, err)
		for at := 0; at < len(image); at += ndz.ChunkSize {
			chunk := image[at : at+ndz.ChunkSize]
			h, err := ndz.ParseHeader(chunk)
			require.NoError(t, err)
			data, err := ndz.Inflate(chunk, h, nil)
			require.NoError(t, err)
			for _, r := range h.Regions {
				n := int(r.Size) * 512
				_, err := f.WriteAt(data[:n], int64(r.Start)*512)
				require.NoError(t, err)
				data = data[n:]
			}
			require.NoError(t, f.Truncate(int64(h.Last)*512))
		}
		require.NoError(t, f.Close())
		table := read(t, path)
		require.Equal(t, want, table.Kind)
		require.Empty(t, table.Notes)
		require.NotEmpty(t, table.Partitions)
		clean(t, path, want)
	}
}

func TestTypes(t *testing.T) {
	for s, want := range map[string]byte{"131": 0x83, "0x83": 0x83, "linux": 0x83, "efi": 0xef, "0x77": 0x77, "0FC63DAF-8483-4772-8E79-3D69D8477DE4": 0} {
		typ, err := ParseType(s)
		require.NoError(t, err)
		require.Equal(t, want, typ.MBR)
	}
	for _, s := range []string{"", "0", "5", "15", "0xee", "256", "beos", "0FC63DAF-8483-4772-8E79", "00000000-0000-0000-0000-000000000000", "ZZC63DAF-8483-4772-8E79-3D69D8477DE4"} {
		_, err := ParseType(s)
		require.Error(t, err, s)
	}
}

// Whatever lies on a disk, reading it ends, and what is believed is consistent and can be written back.
func FuzzRead(f *testing.F) {
	f.Add(chain([4]uint32{100, 1, 9, 500}, [4]uint32{600, 1, 9, 300}, [4]uint32{400, 1, 9, 0}))
	f.Add(chain([4]uint32{100, 1, 100, 50}, [4]uint32{150, 60, 100, 0}))
	gpt := make([]byte, 64<<10)
	entries(gpt)[0][4] = typeProtective
	gpt[510], gpt[511] = 0x55, 0xaa
	copy(gpt[512:], gptMagic)
	f.Add(gpt)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		table, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Sectors == 0 || p.End() > uint64(len(b))/512 {
				t.Fatalf("partition %+v of a disk of %d bytes", p, len(b))
			}
			if _, err := table.Limit(p.Number); err != nil {
				t.Fatal(err)
			}
		}
		if err := table.Write(&memory{b: b, after: func() {}}); err != nil {
			return
		}
		again, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(again.Partitions) != len(table.Partitions) {
			t.Fatalf("what was written does not read: %v", err)
		}
	})
}
