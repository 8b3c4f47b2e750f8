package grow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/internal/tool"
	"loadnode/transfer/disk/loop"
	"loadnode/transfer/disk/ptable"
)

const mib = 1 << 20

// sparse copies what is not zero.
func sparse(t *testing.T, to *os.File, off int64, from string) {
	f, err := os.Open(from)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, mib)
	zero := make([]byte, mib)
	for at := int64(0); ; at += mib {
		n, err := io.ReadFull(f, b)
		if n > 0 && !bytes.Equal(b[:n], zero[:n]) {
			_, err := to.WriteAt(b[:n], off+at)
			require.NoError(t, err)
		}
		if err != nil {
			return
		}
	}
}

// content is a folder with one file, and the file's bytes.
func content(t *testing.T) (dir string, data []byte) {
	dir = t.TempDir()
	data = make([]byte, mib)
	rand.NewChaCha8([32]byte{1}).Read(data)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), data, 0o644))
	return dir, data
}

// makeFS makes a filesystem with one file in it.
func makeFS(t *testing.T, kind string, size int64) (path string, data []byte) {
	dir, data := content(t)
	path = filepath.Join(t.TempDir(), "fs")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	switch kind {
	case "ext4", "ext3":
		tool.Run(t, "mkfs."+kind, "-q", "-d", dir, path)
	case "xfs":
		proto := filepath.Join(t.TempDir(), "proto")
		require.NoError(t, os.WriteFile(proto, []byte("/stand/boot\n0 0\nd--755 0 0\nfile ---644 0 0 "+filepath.Join(dir, "file")+"\n$\n"), 0o600))
		tool.Run(t, "mkfs.xfs", "-q", "-p", proto, path)
	case "btrfs":
		tool.Run(t, "mkfs.btrfs", "-q", "--rootdir", dir, path)
	case "swap":
		tool.Run(t, "mkswap", path)
	}
	return path, data
}

// makeDisk is a disk of size bytes whose last partition holds a filesystem, then made longer.
func makeDisk(t *testing.T, table, fs string, start, size, larger int64) string {
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	tool.Feed(t, table, "sfdisk", "-q", path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	sparse(t, f, start, fs)
	require.NoError(t, f.Truncate(larger))
	return path
}

// mounted calls look with the filesystem mounted, in a namespace of its own.
func mounted(t *testing.T, kind, path string, off, n int64, look func(dir string)) {
	l, err := loop.Attach(path, off, n, false)
	require.NoError(t, err)
	defer func() { require.NoError(t, detach(l)) }()
	dir := t.TempDir()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
				return err
			}
			if err := unix.Mount(l.Name(), dir, kind, unix.MS_RDONLY, ""); err != nil {
				return err
			}
			look(dir)
			return unix.Unmount(dir, 0)
		}()
	}()
	require.NoError(t, <-done)
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices here")
	}
}

func TestFilesystems(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		kind, label string
		size        int64
		logical     bool
		device      bool // through a real block device
		check       []string
	}{
		{"ext4", "gpt", 24 * mib, false, false, []string{"e2fsck", "-fn"}},
		{"ext4", "dos", 24 * mib, true, true, []string{"e2fsck", "-fn"}},
		{"ext3", "dos", 24 * mib, false, false, []string{"e2fsck", "-fn"}},
		{"xfs", "gpt", 320 * mib, false, true, []string{"xfs_repair", "-n", "-f"}},
		{"btrfs", "gpt", 128 * mib, false, false, []string{"btrfs", "check"}},
	} {
		t.Run(fmt.Sprintf("%s on %s", c.kind, c.label), func(t *testing.T) {
			fs, data := makeFS(t, c.kind, c.size)
			start := int64(2 * mib)
			table := fmt.Sprintf("label: %s\nstart=2048, size=2048\nstart=4096, size=%d\n", c.label, c.size/512)
			if c.logical {
				start = 3 * mib
				table = fmt.Sprintf("label: dos\nstart=2048, size=2048, type=83\nstart=4096, size=%d, type=5\nstart=6144, size=%d, type=83\n", c.size/512+2048, c.size/512)
			}
			size, larger := start+c.size+2*mib, start+2*c.size+7*mib+512
			path := makeDisk(t, table, fs, start, size, larger)
			where := path
			if c.device {
				where = strings.TrimSpace(tool.Run(t, "losetup", "--find", "--show", path))
				defer tool.Run(t, "losetup", "--detach", where)
			}
			res, err := Disk(context.Background(), where, Options{})
			if errors.Is(err, errCannotMount) {
				t.Skipf("the kernel here does not know %s: %v", c.kind, err)
			}
			require.NoError(t, err)
			require.Equal(t, c.label == "gpt", res.BackupMoved)
			require.True(t, res.FilesystemGrown, "%+v", res)
			require.Equal(t, c.size, res.Before)
			require.Greater(t, res.After, 2*c.size)
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			got, err := ptable.Read(f, larger)
			require.NoError(t, err)
			require.Empty(t, got.Notes)
			last := got.Partitions[len(got.Partitions)-1]
			require.EqualValues(t, res.After, last.Sectors*512)
			require.EqualValues(t, start, last.Start*512)
			require.Zero(t, (last.Start+last.Sectors)%2048)
			if c.label == "gpt" {
				require.Contains(t, tool.Run(t, "sgdisk", "-v", path), "No problems found")
			} else {
				require.Contains(t, tool.Run(t, "sfdisk", "-V", path), "No errors detected")
			}
			mounted(t, strings.Replace(c.kind, "ext3", "ext4", 1), path, start, res.After, func(dir string) {
				b, err := os.ReadFile(filepath.Join(dir, "file"))
				if err != nil || !bytes.Equal(data, b) {
					t.Errorf("the file changed: %v", err)
				}
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Bsize < c.size*3/2 {
					t.Errorf("%d blocks of %d: %v", st.Blocks, st.Bsize, err)
				}
			})
			alone := filepath.Join(t.TempDir(), "part")
			out, err := os.Create(alone)
			require.NoError(t, err)
			require.NoError(t, out.Truncate(res.After))
			copySection(t, out, f, start, res.After)
			require.NoError(t, out.Close())
			tool.Run(t, c.check[0], append(c.check[1:], alone)...)

			again, err := Disk(context.Background(), where, Options{})
			require.NoError(t, err)
			require.Equal(t, again.Before, again.After, "the second time there is nothing to do")
			require.False(t, again.FilesystemGrown)
			require.NotEmpty(t, again.Notes)
		})
	}
}

func copySection(t *testing.T, to *os.File, from io.ReaderAt, off, n int64) {
	b, zero := make([]byte, mib), make([]byte, mib)
	for at := int64(0); at < n; at += mib {
		k := min(mib, n-at)
		_, err := from.ReadAt(b[:k], off+at)
		require.NoError(t, err)
		if !bytes.Equal(b[:k], zero[:k]) {
			_, err = to.WriteAt(b[:k], at)
			require.NoError(t, err)
		}
	}
}

// What cannot be grown keeps its content; what is not as expected is not touched at all.
func TestRefusals(t *testing.T) {
	ext, _ := makeFS(t, "ext4", 4*mib)
	const table = "label: gpt\nstart=2048, size=8192\n"
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		name, table string
		size        Size
		spoil       func(b []byte)
		says        string
	}{
		{"no table", table, Size{}, func(b []byte) { clear(b[:4096]) }, "no partition table"},
		{"primary damaged", table, Size{}, func(b []byte) { b[512+40] ^= 1 }, "damaged"},
		{"backup damaged", table, Size{}, func(b []byte) { b[6*mib-512+40] ^= 1 }, "not as expected"},
		{"unclean", table, Size{}, func(b []byte) { b[mib+1024+58] = 0 }, "not cleanly unmounted"},
		{"journal to replay", table, Size{}, func(b []byte) { b[mib+1024+96] |= 4 }, "not cleanly unmounted"},
		{"errors", table, Size{}, func(b []byte) { b[mib+1024+58] = 3 }, "e2fsck"},
		{"lies about its size", table, Size{}, func(b []byte) { b[mib+1024+7] = 1 }, "the partition"},
		{"raid", table, Size{}, func(b []byte) { copy(b[5*mib-65536:], "\xfc\x4e\x2b\xa9") }, "RAID"},
		{"too much", table, Size{Bytes: 10 * mib}, nil, "there is room for"},
		{"too little", table, Size{Bytes: 2 * mib}, nil, "making it smaller"},
		{"no partition", "label: dos\nstart=2048, size=8192, type=5\n", Size{}, nil, "no partition to grow"},
		{"empty container last", "label: dos\nstart=2048, size=2048, type=83\nstart=4096, size=8192, type=5\n", Size{}, nil, "extended one without"},
	} {
		path := makeDisk(t, c.table, ext, mib, 6*mib, 10*mib)
		if strings.HasPrefix(c.table, "label: dos") {
			path = makeDisk(t, c.table, os.DevNull, mib, 6*mib, 10*mib)
		}
		b := read(path)
		if c.spoil != nil {
			c.spoil(b)
			require.NoError(t, os.WriteFile(path, b, 0o600))
		}
		_, err := Disk(context.Background(), path, Options{Size: c.size})
		require.ErrorIs(t, err, ErrRefused, c.name)
		require.ErrorContains(t, err, c.says, c.name)
		require.True(t, bytes.Equal(b, read(path)), c.name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := makeDisk(t, table, ext, mib, 6*mib, 10*mib)
	_, err := Disk(ctx, path, Options{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = Disk(context.Background(), filepath.Join(t.TempDir(), "missing"), Options{})
	require.ErrorIs(t, err, ErrRefused)
}

func TestSizesAndOthers(t *testing.T) {
	swap, _ := makeFS(t, "swap", 4*mib)
	for _, c := range []struct {
		size Size
		want int64
	}{{Size{}, 31 * mib}, {Size{Bytes: 10 * mib}, 10 * mib}, {Size{Bytes: 10*mib + 5000}, 10 * mib}, {Size{Percent: 50}, 15 * mib}, {Size{Percent: 1}, 4 * mib}} {
		path := makeDisk(t, "label: dos\nstart=2048, size=8192, type=82\n", swap, mib, 8*mib, 32*mib)
		res, err := Disk(context.Background(), path, Options{Size: c.size})
		require.NoError(t, err)
		require.Equal(t, c.want, res.After, "%+v", c)
		require.Equal(t, "swap", res.Filesystem)
		require.False(t, res.FilesystemGrown)
		require.Len(t, res.Notes, 1)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]Size{"0": {}, "20G": {Bytes: 20 << 30}, "20GiB": {Bytes: 20 << 30}, "5mb": {Bytes: 5 << 20}, "50%": {Percent: 50}, "0.5%": {Percent: 0.5}, "1048576": {Bytes: mib}} {
		got, err := ParseSize(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "%", "0%", "101%", "NaN%", "-1", "G", "1X", "1GG", "99999999999T", "1.5G"} {
		_, err := ParseSize(s)
		require.Error(t, err, s)
	}
}

// Whatever a partition holds, looking at it ends with a filesystem that fits it, a name or an error.
func FuzzExamine(f *testing.F) {
	ext := make([]byte, 128<<10)
	ext[1024+56], ext[1024+57], ext[1024+58], ext[1024+4] = 0x53, 0xef, 1, 64
	f.Add(ext)
	xfs := make([]byte, 128<<10)
	copy(xfs, "XFSB\x00\x00\x10\x00")
	f.Add(xfs)
	btrfs := make([]byte, 128<<10)
	copy(btrfs[65536+64:], "_BHRfS_M")
	f.Add(btrfs)
	f.Fuzz(func(t *testing.T, b []byte) {
		sectors := uint64(len(b) / 512)
		if sectors == 0 {
			return
		}
		fs, _, err := examine(bytes.NewReader(b), ptable.Partition{Number: 1, Sectors: sectors})
		if err == nil && fs != nil && (fs.size < 0 || fs.size > int64(len(b)) || fs.block < 512) {
			t.Fatalf("%+v in %d bytes", fs, len(b))
		}
	})
}
