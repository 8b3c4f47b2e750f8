package disk

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// conformance is what every target must do; size is at least 4 MiB.
func conformance(t *testing.T, target Target) {
	old := bytes.Repeat([]byte{0xee}, 4<<20)
	_, err := target.WriteAt(old, 0)
	require.NoError(t, err)
	size := target.Size()
	require.GreaterOrEqual(t, size, int64(4<<20))

	for _, c := range []struct{ off, n int64 }{
		{0, 512}, {1 << 20, 1 << 20}, {3<<20 + 512, 1024}, {2<<20 + 100, 10}, {4<<20 - 5, 5}, {1<<20 + 511, 4097}, {17, 0}, {17, -4},
	} {
		_, err := target.WriteAt(old, 0)
		require.NoError(t, err)
		require.NoError(t, target.Zero(c.off, c.n))
		want := bytes.Clone(old)
		if c.n > 0 {
			clear(want[c.off : c.off+c.n])
		}
		got := make([]byte, len(old))
		_, err = target.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%+v", c)
	}
	require.NoError(t, target.Zero(size-100, 1<<20), "zeroing beyond the end is no error")
	require.Equal(t, size, target.Size(), "and does not change the size")
	require.NoError(t, target.Extend(size-1))
	require.Equal(t, size, target.Size(), "extending never shrinks")
	err = target.Extend(size + 4096)
	if target.Fixed() {
		require.ErrorIs(t, err, ErrTooSmall)
	} else {
		require.NoError(t, err)
		require.Equal(t, size+4096, target.Size())
		got := make([]byte, 4096)
		_, err = target.ReadAt(got, size)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 4096), got)
	}
	// What is not whole sectors stays as it is; of the rest nothing is promised.
	_, err = target.WriteAt(old, 0)
	require.NoError(t, err)
	if d := target.(Discarder); d.CanDiscard() {
		require.NoError(t, d.Discard(4096+100, 64<<10))
		require.NoError(t, d.Discard(700, 100))
		require.NoError(t, d.Discard(size, 4096))
		got := make([]byte, len(old))
		_, err = target.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(old[1024:4096+100], got[1024:4096+100]), "before the range")
		require.True(t, bytes.Equal(old[128<<10:], got[128<<10:]), "behind the range")
	} else {
		require.ErrorIs(t, d.Discard(4096, 64<<10), ErrNoDiscard)
	}
	// Writes of all alignments.
	want := bytes.Clone(old)
	for i, c := range []struct{ off, n int }{{0, 4096}, {1, 5}, {4095, 2}, {512, 1 << 20}, {4096, 3 << 19}, {1<<21 + 512, 1<<20 + 1024}, {4<<20 - 512, 512}, {5, 0}} {
		p := bytes.Repeat([]byte{byte(i + 1)}, c.n)
		n, err := target.WriteAt(p, int64(c.off))
		require.NoError(t, err)
		require.Equal(t, c.n, n)
		copy(want[c.off:], p)
	}
	_, err = target.WriteAt(want[4096:128<<10], 4096)
	require.NoError(t, err)
	_, err = target.WriteAt(want[:4096], 0)
	require.NoError(t, err)
	require.NoError(t, target.Sync())
	require.NoError(t, target.(interface{ Uncache() error }).Uncache())
	back := make([]byte, len(want))
	_, err = target.ReadAt(back, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, back))
	_, err = target.ReadAt(make([]byte, 1), target.Size())
	require.ErrorIs(t, err, io.EOF)
}

func TestRegularFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	_, err := Open(path, Options{})
	require.ErrorIs(t, err, ErrNotFound)
	target, err := Open(path, Options{Create: true})
	require.NoError(t, err)
	require.Zero(t, target.Size())
	conformance(t, target)
	require.NoError(t, target.Close())

	_, err = Open(path, Options{})
	require.ErrorIs(t, err, ErrNotBlockDevice)
	target, err = Open(path, Options{ReadOnly: true})
	require.NoError(t, err)
	_, err = target.WriteAt([]byte{1}, 0)
	require.Error(t, err)
	require.NoError(t, target.Close())
	target, err = Open(path, Options{Regular: true, Truncate: true})
	require.NoError(t, err)
	require.Zero(t, target.Size())
	require.NoError(t, target.Close())
}

// Punching holes must really give the space back.
func TestZeroFreesSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	target, err := Open(path, Options{Create: true})
	require.NoError(t, err)
	defer target.Close()
	_, err = target.WriteAt(bytes.Repeat([]byte{1}, 8<<20), 0)
	require.NoError(t, err)
	require.NoError(t, target.Sync())
	blocks := func() int64 {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		return st.Blocks
	}
	before := blocks()
	if err := unix.Fallocate(int(target.(*file).Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); err != nil {
		t.Skipf("this filesystem cannot punch holes: %v", err)
	}
	require.NoError(t, target.Zero(0, 8<<20))
	require.Less(t, blocks(), before/2)
}

func TestDirect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	target, err := Open(path, Options{Create: true, Direct: true})
	if err != nil {
		require.ErrorContains(t, err, "direct I/O is not possible")
		t.Skip(err)
	}
	conformance(t, target)
	require.NoError(t, target.Close())
}

func TestOpenRefuses(t *testing.T) {
	for path, says := range map[string]string{"/dev/null": "a character device", t.TempDir(): "a directory"} {
		_, err := Open(path, Options{Create: true})
		require.ErrorIs(t, err, ErrNotBlockDevice)
		require.ErrorContains(t, err, says)
	}
}

// A real block device: a loop device over a file, where the machine lets us make one.
func TestBlockDevice(t *testing.T) {
	back := filepath.Join(t.TempDir(), "back")
	require.NoError(t, os.WriteFile(back, make([]byte, 4<<20), 0o644))
	out, err := exec.Command("losetup", "--find", "--show", back).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer func() { require.NoError(t, exec.Command("losetup", "--detach", dev).Run()) }()
	require.NoError(t, Check(dev, 4<<20, 512, false))
	require.ErrorIs(t, Check(dev, 4<<20+1, 512, false), ErrTooSmall)
	require.ErrorIs(t, Check(dev, 0, 4096, false), ErrSectorSize)
	target, err := Open(dev, Options{})
	require.NoError(t, err)
	require.EqualValues(t, 4<<20, target.Size())
	require.True(t, target.Fixed())
	_, err = Open(dev, Options{})
	require.ErrorIs(t, err, ErrInUse, "a second writer must be kept out")
	conformance(t, target)
	require.NoError(t, target.Close())
	target, err = Open(dev, Options{Direct: true})
	require.NoError(t, err)
	require.Equal(t, 512, target.(*direct).SectorSize())
	require.True(t, target.(*direct).CanDiscard(), "a loop device over a file punches holes")
	conformance(t, target)
	require.NoError(t, target.Close())
	readOnly, err := Open(dev, Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, readOnly.Close())
}
