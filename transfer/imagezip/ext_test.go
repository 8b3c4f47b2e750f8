package imagezip

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/internal/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree makes files of all sorts below dir, about size bytes of them.
func tree(t testing.TB, dir string, size int) {
	r := rand.New(rand.NewPCG(11, 12))
	content := rand.NewChaCha8([32]byte{11})
	for i := 0; size > 0; i++ {
		n := min(size, []int{0, 1, 700, 5000, 20000, 70000, 300000}[r.IntN(7)])
		b := make([]byte, n)
		content.Read(b)
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%7), fmt.Sprintf("e%d", i%3))
		require.NoError(t, os.MkdirAll(sub, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", i)), b, 0o644))
		size -= n
	}
	require.NoError(t, os.Symlink("d0/e0", filepath.Join(dir, "link")))
}

// makeFS makes a filesystem of so many MiB holding the files below dir.
func makeFS(t testing.TB, path, dir string, megabytes int, args ...string) {
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(megabytes)<<20))
	require.NoError(t, f.Close())
	tool.Run(t, "mke2fs", append(append([]string{"-q", "-F", "-d", dir}, args...), path)...)
}

var blockCount = regexp.MustCompile(`(?m)^Block count: +(\d+)$`)

// oracle is what dumpe2fs says of a filesystem: whether each block is free.
func oracle(t testing.TB, path string) (free []bool) {
	out := tool.Run(t, "dumpe2fs", path)
	blocks, err := strconv.Atoi(blockCount.FindStringSubmatch(out)[1])
	require.NoError(t, err)
	free = make([]bool, blocks)
	for _, run := range tool.FreeBlocks(t, out) {
		for b := run[0]; b <= run[1]; b++ {
			free[b] = true
		}
	}
	return free
}

func TestRefusesFilesystems(t *testing.T) {
	dir := t.TempDir()
	files, path := filepath.Join(dir, "files"), filepath.Join(dir, "fs")
	tree(t, files, 100<<10)
	makeFS(t, path, files, 4, "-t", "ext4", "-b", "1024", "-g", "1024")
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		kind   Kind
		change func(b []byte) []byte
		is     error
		says   string
	}{
		{"mounted", Auto, func(b []byte) []byte { b[1024+0x60] |= 0x4; return b }, ErrUnclean, "unmount it, or run e2fsck"},
		{"not clean", Auto, func(b []byte) []byte { b[1024+0x3A] = 0; return b }, ErrUnclean, "e2fsck"},
		{"with errors", Ext, func(b []byte) []byte { b[1024+0x3A] = 3; return b }, ErrUnclean, "e2fsck"},
		{"journal", Auto, func(b []byte) []byte { b[1024+0x60] |= 0x8; return b }, ErrFilesystem, "journal_dev"},
		{"new feature", Auto, func(b []byte) []byte { b[1024+0x63] |= 0x80; return b }, ErrFilesystem, "0x80000000"},
		{"snapshot", Auto, func(b []byte) []byte { b[1024+0x64] |= 0x80; return b }, ErrFilesystem, "snapshot"},
		{"truncated", Auto, func(b []byte) []byte { return b[:2<<20] }, ErrFilesystem, "truncated"},
		{"block size", Auto, func(b []byte) []byte { b[1024+0x18] = 7; return b }, ErrFilesystem, "block size"},
		{"descriptor size", Auto, func(b []byte) []byte { b[1024+0xFE] = 65; return b }, ErrFilesystem, "65 bytes"},
		{"bitmap size", Auto, func(b []byte) []byte { b[1024+0x20] = 1; return b }, ErrFilesystem, "bits in the bitmap"},
		{"inodes", Auto, func(b []byte) []byte { b[1024+0x2B] = 1; return b }, ErrFilesystem, "inodes"},
		{"first block", Auto, func(b []byte) []byte { b[1024+0x14] = 200; return b }, ErrFilesystem, "from block 200"},
		{"bitmap outside", Auto, func(b []byte) []byte { b[2048+3] = 0x7f; return b }, ErrFilesystem, "group 0 has metadata at block"},
		{"MBR beyond the end", Auto, func(b []byte) []byte { return withMBR(b, 65536) }, nil, "-l"},
		{"MBR", Auto, func(b []byte) []byte { return withMBR(b, 4096) }, nil, "say which is right with --disk or -l"},
		{"no table", Disk, func(b []byte) []byte { return b }, nil, "no partition table"},
		{"nothing, ext wanted", Ext, func(b []byte) []byte { return make([]byte, 1<<20) }, ErrNoFilesystem, "want ext2, ext3 or ext4 or XFS: use -r"},
		{"ext, NTFS wanted", NTFS, func(b []byte) []byte { return b }, ErrNoFilesystem, "want NTFS"},
		{"tiny", Swap, func(b []byte) []byte { return make([]byte, 512) }, ErrNoFilesystem, "-r"},
		{"empty", Raw, func(b []byte) []byte { return nil }, nil, "empty"},
		{"odd", Raw, func(b []byte) []byte { return b[:1000] }, nil, "-f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Examine(context.Background(), memory(c.change(bytes.Clone(good))), Options{Kind: c.kind})
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			require.ErrorContains(t, err, c.says)
		})
	}
	// Wrong counts in one group: it is saved whole, the others as they are.
	bad := bytes.Clone(good)
	bad[2048+0xC] ^= 1
	want, err := Examine(context.Background(), memory(good), Options{})
	require.NoError(t, err)
	got, err := Examine(context.Background(), memory(bad), Options{})
	require.NoError(t, err)
	require.Contains(t, got.Notes[0], "1 block groups contradict")
	require.Greater(t, got.Used, want.Used)
	// A boot sector with code is no partition table, and -l says what it is anyway.
	boot := bytes.Clone(good)
	copy(boot[440:], bytes.Repeat([]byte{0x77}, 70))
	copy(boot[510:], "\x55\xaa")
	_, err = Examine(context.Background(), memory(boot), Options{})
	require.NoError(t, err)
	// Unclean, but the caller insists: what it says of free space is not the truth, so all of it is saved.
	bad = bytes.Clone(good)
	bad[1024+0x3A] = 0
	got, err = Examine(context.Background(), memory(bad), Options{Unclean: true})
	require.NoError(t, err)
	require.Zero(t, got.Free)
	require.Equal(t, "ext4", got.Kind)
	require.Contains(t, got.Notes[0], "saved whole")
	// Nothing that is recognised, and nothing big enough to be: saved whole.
	for _, size := range []int{512, 1 << 20} {
		got, err = Examine(context.Background(), memory(make([]byte, size)), Options{})
		require.NoError(t, err)
		require.Equal(t, "raw", got.Kind)
		require.EqualValues(t, size/512, got.Used)
	}
	// With -l, a left-over table is no matter.
	got, err = Examine(context.Background(), memory(withMBR(bytes.Clone(good), 4096)), Options{Kind: Ext})
	require.NoError(t, err)
	require.Equal(t, want.Used, got.Used)
}

// withMBR puts a table with one partition, from sector 2048 on, into the first sector.
func withMBR(b []byte, sectors uint32) []byte {
	copy(b[446:], "\x80\x01\x01\x00\x83\x02\x03\x04\x00\x08\x00\x00")
	binary.LittleEndian.PutUint32(b[446+12:], sectors)
	copy(b[510:], "\x55\xaa")
	return b
}

// memory is a source in memory.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }
func (m memory) Size() int64                             { return int64(len(m)) }
