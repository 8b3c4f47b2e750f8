package imagezip

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/ndz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool runs a program of e2fsprogs and returns its output, exit code included.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Skipf("%s is not installed (package e2fsprogs)", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_DETERMINISTIC=1")
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		require.NoError(t, err)
	}
	return fmt.Sprintf("%sexit %d\n", out, cmd.ProcessState.ExitCode())
}

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

// sameTree compares two directories; some files of the first must not be in the second.
func sameTree(t testing.TB, want, got string, removed []string) {
	files := 0
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(want, path)
		require.NoError(t, err)
		other := filepath.Join(got, rel)
		if slices.Contains(removed, rel) {
			require.NoFileExists(t, other)
			return nil
		}
		st, err := os.Lstat(other)
		require.NoError(t, err)
		require.Equal(t, d.Type(), st.Mode().Type(), rel)
		if d.Type().IsRegular() {
			files++
			a, err := os.ReadFile(path)
			require.NoError(t, err)
			b, err := os.ReadFile(other)
			require.NoError(t, err)
			require.True(t, bytes.Equal(a, b), rel)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 10)
}

// makeFS makes a filesystem of so many MiB holding the files below dir.
func makeFS(t testing.TB, path, dir string, megabytes int, args ...string) {
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(megabytes)<<20))
	require.NoError(t, f.Close())
	out := tool(t, "mke2fs", append(append([]string{"-q", "-F", "-d", dir}, args...), path)...)
	require.Contains(t, out, "exit 0", out)
}

// capture makes an image of the file at path.
func captureFile(t testing.TB, path string, o Options) ([]byte, Stats) {
	src, err := disk.Open(path, disk.Options{ReadOnly: true})
	require.NoError(t, err)
	defer src.Close()
	var image bytes.Buffer
	stats, err := Capture(context.Background(), src, &image, o)
	require.NoError(t, err)
	return image.Bytes(), stats
}

// unsynced is a target that is not flushed: what is looked at here is gone before a disk would have it.
type unsynced struct{ disk.Target }

func (unsynced) Sync() error { return nil }

// random makes a file of random bytes.
func random(t testing.TB, path string, megabytes int) {
	f, err := os.Create(path)
	require.NoError(t, err)
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{5}).Read(b)
	for range megabytes {
		_, err := f.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// restoreFile installs an image over the first bytes of old.
func restoreFile(t testing.TB, path, old string, image []byte, size int64) {
	from, err := os.Open(old)
	require.NoError(t, err)
	defer from.Close()
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.CopyN(f, from, size)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	target, err := disk.Open(path, disk.Options{Regular: true})
	require.NoError(t, err)
	defer target.Close()
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	in, err := install.New(install.Config{Target: unsynced{target}, Manifest: m, ReadBack: true})
	require.NoError(t, err)
	for i := range m.Chunks {
		require.NoError(t, in.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize]))
	}
	_, err = in.Finish(context.Background())
	require.NoError(t, err)
	require.Equal(t, size, target.Size())
}

var (
	freeBlocks = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)
	backupAt   = regexp.MustCompile(`Backup superblock at (\d+)`)
	blockSize  = regexp.MustCompile(`(?m)^Block size: +(\d+)$`)
	groupLine  = regexp.MustCompile(`(?m)^Group \d+:`)
	clusters   = regexp.MustCompile(`(?m)^Cluster size: +(\d+)$`)
	blockCount = regexp.MustCompile(`(?m)^Block count: +(\d+)$`)
)

// oracle is what dumpe2fs says of a filesystem: block size, groups, whether each block is free, backup superblocks.
func oracle(t testing.TB, path string) (bs, groups int64, free []bool, backups []string) {
	out := tool(t, "dumpe2fs", path)
	require.Contains(t, out, "exit 0", out)
	var err error
	bs, err = strconv.ParseInt(blockSize.FindStringSubmatch(out)[1], 10, 64)
	require.NoError(t, err)
	blocks, err := strconv.ParseInt(blockCount.FindStringSubmatch(out)[1], 10, 64)
	require.NoError(t, err)
	ratio := int64(1) // of bigalloc: then only the first block of each cluster is named
	if m := clusters.FindStringSubmatch(out); m != nil {
		size, err := strconv.ParseInt(m[1], 10, 64)
		require.NoError(t, err)
		ratio = size / bs
	}
	free = make([]bool, blocks)
	for _, m := range freeBlocks.FindAllStringSubmatch(out, -1) {
		for _, part := range strings.Split(m[1], ", ") {
			if part == "" {
				continue
			}
			from, to, isRun := strings.Cut(part, "-")
			if !isRun {
				to = from
			}
			a, err := strconv.ParseInt(from, 10, 64)
			require.NoError(t, err)
			b, err := strconv.ParseInt(to, 10, 64)
			require.NoError(t, err)
			for ; a <= min(b+ratio-1, blocks-1); a++ {
				free[a] = true
			}
		}
	}
	for _, m := range backupAt.FindAllStringSubmatch(out, -1) {
		backups = append(backups, m[1])
	}
	return bs, int64(len(groupLine.FindAllString(out, -1))), free, backups
}

func count(flags []bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

// mapped gives the content of a file without reading it into memory that the race detector watches.
func mapped(t testing.TB, path string) []byte {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}

// Every layout of ext is tested in package ext, with its probe; here a few go all the way.
func TestCaptureFilesystems(t *testing.T) {
	large.Test(t)
	files := filepath.Join(t.TempDir(), "files")
	tree(t, files, 2<<20)
	noise := filepath.Join(t.TempDir(), "noise")
	random(t, noise, 260)
	removed := []string{"d1/e1/f1", "d3/e0/f3", "d5/e2/f5", "d2/e0/f9"}
	for _, c := range []struct {
		name string
		mb   int
		args []string
		kind string
	}{
		{"default", 140, []string{"-t", "ext4"}, "ext4"},
		{"uninit_bg", 140, []string{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"}, "ext4"},
		{"bigalloc 1k", 160, []string{"-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"}, "ext4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // there are many programs and files to wait for
			dir := t.TempDir()
			path := filepath.Join(dir, "fs")
			c.args = append(c.args, "-i", "32768") // few inodes and a small journal: what is in them is nothing to look at
			switch {
			case c.kind == "ext2":
			case strings.Contains(strings.Join(c.args, " "), "-b 1024"):
				c.args = append(c.args, "-J", "size=1")
			default:
				c.args = append(c.args, "-J", "size=4")
			}
			makeFS(t, path, files, c.mb, c.args...)
			for _, f := range removed { // holes in what is in use
				tool(t, "debugfs", "-w", "-R", "rm /"+f, path)
			}
			require.Contains(t, tool(t, "e2fsck", "-fn", path), "exit 0")
			bs, groups, free, backups := oracle(t, path)
			freeBlocks := count(free)

			// Not a block more or less than the filesystem itself says.
			src, err := disk.Open(path, disk.Options{ReadOnly: true})
			require.NoError(t, err)
			defer src.Close()
			plan, err := Examine(context.Background(), src, Options{MinFree: 0})
			require.NoError(t, err)
			require.Equal(t, c.kind, plan.Kind)
			require.Empty(t, plan.Notes)
			require.EqualValues(t, freeBlocks, plan.Free/uint64(bs/512))

			image, stats := captureFile(t, path, Options{Level: 4, MinFree: DefaultMinFree})
			require.Less(t, int64(stats.Used)*512, int64(60<<20))
			restored := filepath.Join(dir, "restored")
			restoreFile(t, restored, noise, image, int64(c.mb)<<20)

			// Every block in use is the same, by the filesystem's own account of what is in use.
			a, b := mapped(t, path), mapped(t, restored)
			differ := 0
			for i := range int64(len(free)) {
				if !bytes.Equal(a[i*bs:(i+1)*bs], b[i*bs:(i+1)*bs]) {
					require.True(t, free[i], "block %d", i)
					differ++
				}
			}
			require.Greater(t, differ, freeBlocks/2, "free blocks should not be in the image")

			require.Contains(t, tool(t, "e2fsck", "-fn", restored), "exit 0")
			out := filepath.Join(dir, "out")
			require.NoError(t, os.Mkdir(out, 0o755))
			tool(t, "debugfs", "-R", "rdump / "+out, restored)
			sameTree(t, files, out, removed)
			if groups > 1 {
				require.NotEmpty(t, backups)
			}
			for _, at := range backups {
				want := tool(t, "e2fsck", "-fn", "-b", at, "-B", strconv.FormatInt(bs, 10), path)
				got := tool(t, "e2fsck", "-fn", "-b", at, "-B", strconv.FormatInt(bs, 10), restored)
				require.NotContains(t, got, "Bad magic")
				require.Equal(t, strings.ReplaceAll(want, path, "X"), strings.ReplaceAll(got, restored, "X"))
			}
		})
	}
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
