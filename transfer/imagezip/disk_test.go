package imagezip

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/internal/large"
)

// Where the partitions of the test disk lie, in sectors.
const (
	extAt, extSize     = 2048, 8192
	lvmAt, lvmSize     = 10304, 256 // behind a gap of 64 sectors
	insideAt           = 11264      // extended partition
	swapAt, swapSize   = insideAt + 64, 4096
	ebr2At             = swapAt + swapSize
	otherAt, otherSize = ebr2At + 64, 300
	diskSize           = 20000
)

func entry(b []byte, i int, kind byte, start, sectors uint32) {
	e := b[446+16*i:][:16]
	e[4] = kind
	binary.LittleEndian.PutUint32(e[8:], start)
	binary.LittleEndian.PutUint32(e[12:], sectors)
	copy(b[510:], "\x55\xaa")
}

// testDisk is a disk with MBR: ext4 as 1, LVM as 2, logical partitions 5 (swap) and 6 (nothing that is known). What no
// partition has is random.
func testDisk(t testing.TB) []byte {
	dir := t.TempDir()
	files, path := filepath.Join(dir, "files"), filepath.Join(dir, "fs")
	tree(t, files, 300<<10)
	makeFS(t, path, files, extSize/2048, "-t", "ext4", "-b", "1024", "-J", "size=1", "-L", "root")
	fs, err := os.ReadFile(path)
	require.NoError(t, err)
	disk := make([]byte, diskSize*512)
	rand.NewChaCha8([32]byte{9}).Read(disk)
	clear(disk[:512])
	copy(disk[extAt*512:], fs)
	lvm := disk[lvmAt*512:]
	clear(lvm[:2048])
	copy(lvm[512:], "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00LVM2 001")
	swap := disk[swapAt*512:]
	clear(swap[:4096])
	binary.LittleEndian.PutUint32(swap[1024:], 1)
	binary.LittleEndian.PutUint32(swap[1028:], swapSize/8-1)
	copy(swap[4086:], "SWAPSPACE2")
	entry(disk, 0, 0x83, extAt, extSize)
	entry(disk, 1, 0x83, lvmAt, lvmSize) // the type is wrong, and does not matter
	entry(disk, 2, 0x05, insideAt, diskSize-insideAt-1000)
	clear(disk[insideAt*512:][:512])
	entry(disk[insideAt*512:], 0, 0x82, swapAt-insideAt, swapSize)
	entry(disk[insideAt*512:], 1, 0x05, ebr2At-insideAt, otherAt+otherSize-ebr2At)
	clear(disk[ebr2At*512:][:512])
	entry(disk[ebr2At*512:], 0, 0x83, otherAt-ebr2At, otherSize)
	return disk
}

// check captures a disk, and compares what is in the image with what the plan says.
func check(t testing.TB, disk []byte, o Options) Plan {
	var image bytes.Buffer
	stats, err := Capture(context.Background(), memory(disk), &image, o)
	require.NoError(t, err)
	at, out := uint64(0), expand(t, image.Bytes())
	require.Len(t, out, int(stats.Sectors)*512)
	for _, p := range stats.Parts {
		require.Equal(t, at, p.Start, "parts leave nothing out")
		at += p.Sectors
		require.Equal(t, p.Sectors, p.Used+p.Free)
	}
	require.Equal(t, stats.Sectors, at)
	zeros := make([]byte, 512)
	used := map[uint64]bool{}
	for _, s := range stats.spans {
		for i := s.Start; i < s.End; i++ {
			used[i] = true
		}
	}
	for i := range stats.Sectors {
		want := zeros
		if used[i] {
			want = disk[(stats.offset+i)*512:][:512]
		}
		require.True(t, bytes.Equal(want, out[i*512:][:512]), "sector %d", i)
	}
	return stats.Plan
}

func TestWholeDisk(t *testing.T) {
	large.Test(t)
	disk := testDisk(t)
	plan := check(t, disk, Options{Level: 1, MinFree: DefaultMinFree})
	require.Equal(t, "mbr", plan.Kind)
	kinds := func(p Plan) (out []string) {
		for _, q := range p.Parts {
			out = append(out, q.String())
		}
		return out
	}
	const out = "space outside"
	require.Equal(t, []string{"tables", out, "partition 1 (ext4)", out, "partition 2 (LVM2 physical volume)", out, "tables", out,
		"partition 5 (swap)", "tables", out, "partition 6 (raw)", out}, kinds(plan))
	require.Equal(t, "root", plan.Parts[2].Label)
	require.Greater(t, plan.Parts[2].Free, uint64(2000))
	require.Greater(t, plan.Parts[8].Free, uint64(swapSize-100))
	for i, q := range plan.Parts {
		if last := i == len(plan.Parts)-1; last {
			require.Zero(t, q.Used, "behind the last partition is nothing")
		} else if i != 2 && i != 8 {
			require.Zero(t, q.Free, "%v", q)
		}
	}

	ignored := check(t, disk, Options{Level: 1, Ignore: []int{1, 6}, Whole: []int{5}})
	require.Equal(t, "partition 1 (ignored)", ignored.Parts[2].String())
	require.Zero(t, ignored.Parts[2].Used+ignored.Parts[11].Used)
	require.Zero(t, ignored.Parts[8].Free)
	first := check(t, disk, Options{Level: 1, MaxSectors: 5000})
	require.EqualValues(t, 5000, first.Sectors)
	require.Len(t, first.Parts, 3)

	one := check(t, disk, Options{Level: 1, Partition: 1, MinFree: DefaultMinFree})
	require.EqualValues(t, extSize, one.Sectors)
	require.Equal(t, plan.Parts[2].Used, one.Used)
	require.Equal(t, "ext4", one.Kind)
	swap := check(t, disk, Options{Level: 1, Partition: 5})
	require.Equal(t, "swap", swap.Kind)
	raw := check(t, disk, Options{Level: 1, Kind: Raw})
	require.EqualValues(t, diskSize, raw.Used)
	require.Equal(t, plan, check(t, disk, Options{Level: 1, Kind: Disk, MinFree: DefaultMinFree}))
}

// TestMemberWithTable: the table of a disk that belongs to a firmware RAID says nothing of what is on this disk; it is
// saved whole, unless somebody says that it is right.
func TestMemberWithTable(t *testing.T) {
	large.Test(t)
	disk := testDisk(t)
	copy(disk[len(disk)-1024:], "Intel Raid ISM Cfg Sig. 1.1.00")
	plan := check(t, disk, Options{Level: 1})
	require.Equal(t, "raw", plan.Kind)
	require.Zero(t, plan.Free)
	require.Len(t, plan.Parts, 1)
	require.Contains(t, plan.Parts[0].Holds, "Intel")
	require.Equal(t, "mbr", check(t, disk, Options{Level: 1, Kind: Disk}).Kind)
}

func TestRefusesDisks(t *testing.T) {
	large.Test(t)
	good := testDisk(t)
	for _, c := range []struct {
		name   string
		o      Options
		change func(b []byte)
		says   []string
	}{
		{"no partition", Options{Partition: 7}, nil, []string{"no partition 7 (it has 1, 2, 3, 5, 6)"}},
		{"extended", Options{Partition: 3}, nil, []string{"partition 3 is extended"}},
		{"nothing to ignore", Options{Ignore: []int{9}}, nil, []string{"no partition 9"}},
		{"nothing to save whole", Options{Whole: []int{3}}, nil, []string{"no partition 3"}},
		{"unclean", Options{}, func(b []byte) { b[extAt*512+1024+0x60] |= 4 }, []string{"partition 1: ext4 filesystem is mounted", "e2fsck", "-R 1", "-I 1"}},
		{"damaged", Options{}, func(b []byte) { b[extAt*512+1024+0x18] = 7 }, []string{"partition 1: ext2, ext3 or ext4", "block size", "-R 1"}},
		{"loop of logical partitions", Options{}, func(b []byte) { entry(b[ebr2At*512:], 1, 5, ebr2At-insideAt, 100) }, []string{"partition table is damaged", "-r"}},
		{"wrong kind", Options{Partition: 2, Kind: NTFS}, nil, []string{"partition 2", "want NTFS, found LVM2"}},
		{"no table", Options{Partition: 1}, func(b []byte) { clear(b[:512]) }, []string{"no partition table"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := bytes.Clone(good)
			if c.change != nil {
				c.change(disk)
			}
			_, err := Examine(context.Background(), memory(disk), c.o)
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			require.Error(t, err)
		})
	}
	// What is refused is saved whole if that is asked for.
	unclean := bytes.Clone(good)
	unclean[extAt*512+1024+0x60] |= 4
	plan := check(t, unclean, Options{Level: 1, Unclean: true})
	require.Zero(t, plan.Parts[2].Free)
	require.Contains(t, plan.Notes[0], "partition 1 (ext4): was mounted")
	require.Zero(t, check(t, unclean, Options{Level: 1, Whole: []int{1}}).Parts[2].Free)

	// Reading fails: the message says where.
	broken := badSectors{memory(good), map[int64]bool{extAt + 4: true}}
	_, err := Capture(context.Background(), broken, &bytes.Buffer{}, Options{Whole: []int{1}})
	require.ErrorContains(t, err, "read bytes 1050624 to")
	require.ErrorContains(t, err, "(partition 1 (raw))")

	// 2 TiB and more.
	_, err = Examine(context.Background(), huge{memory(good)}, Options{})
	require.ErrorContains(t, err, "2 TiB")
	_, err = Examine(context.Background(), huge{memory(good)}, Options{MaxSectors: 1 << 32})
	require.ErrorContains(t, err, "2 TiB")
	for _, o := range []Options{{Partition: 1}, {MaxSectors: 1<<32 - 1}} {
		_, err = Examine(context.Background(), huge{memory(good)}, o)
		require.NoError(t, err)
	}
}

// huge is a disk that says it is larger.
type huge struct{ memory }

func (huge) Size() int64 { return 3 << 40 }

// sectors4k is a disk with sectors of 4096 bytes.
type sectors4k struct{ memory }

func (sectors4k) SectorSize() int { return 4096 }

func TestLargeSectors(t *testing.T) {
	disk := make(memory, 3000*4096)
	entry(disk, 0, 0x83, 256, 2000)
	plan, err := Examine(context.Background(), sectors4k{disk}, Options{})
	require.NoError(t, err)
	require.EqualValues(t, 3000*8, plan.Sectors)
	at := slices.IndexFunc(plan.Parts, func(p Part) bool { return p.Number == 1 })
	require.EqualValues(t, 256*8, plan.Parts[at].Start)
	require.EqualValues(t, 2000*8, plan.Parts[at].Used)
	require.EqualValues(t, (256+2000)*8, plan.Used)
}

// LILO and BSD labels would have to be relocated.
func TestRelocations(t *testing.T) {
	disk := testDisk(t)
	_, err := Examine(context.Background(), memory(disk), Options{Partition: 1, Relocate: true})
	require.NoError(t, err)
	copy(disk[extAt*512+6:], "LILO")
	plan, err := Examine(context.Background(), memory(disk), Options{Partition: 1})
	require.NoError(t, err)
	require.Contains(t, plan.Notes[0], "LILO")
	_, err = Examine(context.Background(), memory(disk), Options{Partition: 1, Relocate: true})
	require.ErrorContains(t, err, "LILO")
}

// A sparse file is captured as if it were not sparse, without reading its holes.
func TestHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	data := make([]byte, 6<<20)
	for _, at := range []int{1 << 20, 3<<20 + 4096} {
		rand.NewChaCha8([32]byte{byte(at)}).Read(data[at:][:8192])
		_, err = f.WriteAt(data[at:][:8192], int64(at))
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(int64(len(data))))
	src := &counting{sparse: sparse{f, int64(len(data))}}
	var dense, thin bytes.Buffer
	_, err = Capture(context.Background(), memory(data), &dense, Options{Kind: Raw, Level: 1})
	require.NoError(t, err)
	_, err = Capture(context.Background(), src, &thin, Options{Kind: Raw, Level: 1})
	require.NoError(t, err)
	require.True(t, bytes.Equal(dense.Bytes(), thin.Bytes()))
	require.Less(t, src.read, 1<<20, "holes are not read")
}

type sparse struct {
	*os.File
	size int64
}

func (s sparse) Size() int64 { return s.size }

type counting struct {
	sparse
	read int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.read += len(p)
	return c.sparse.ReadAt(p, off)
}

// With zero fill, an image without its zeros gives the same.
func TestDropZeros(t *testing.T) {
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(data[1<<20 : 1<<20+100])
	for _, zero := range []bool{false, true} {
		if zero {
			clear(data)
		}
		var image bytes.Buffer
		stats, err := Capture(context.Background(), memory(data), &image, Options{Kind: Raw, Level: 1, DropZeros: true})
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, expand(t, image.Bytes())))
		require.Equal(t, stats.DataBytes/512, int64(stats.Sectors-stats.Dropped))
		require.LessOrEqual(t, stats.DataBytes, int64(2*dropped))
	}
}
