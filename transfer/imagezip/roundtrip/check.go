package roundtrip

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/transfer/disk"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// Result is what Check leaves.
type Result struct {
	Filesystem *free.Filesystem // as the probe found it
	Path       string           // of the restored copy
}

// Check captures the filesystem in the file at path, restores it onto random bytes, and requires that
//   - the probe recognises it, calls it clean and stays within the file,
//   - Capture recognises it as well, and leaves out just the sectors the probe calls free,
//   - the restored copy has every other sector byte for byte, and random bytes where the filesystem is free,
//   - fsck, which is called with the path, is content with the original and with the copy.
//
// What is in the files is compared by the caller; see Mounted.
func Check(t testing.TB, path string, probe free.Probe, fsck func(t testing.TB, path string)) Result {
	t.Helper()
	fsck(t, path)
	fs := Probe(t, path, probe)
	require.False(t, fs.Unclean)
	restored := path + ".restored"
	Restore(t, restored, Image(t, path, fs), size(t, path))
	Compare(t, path, restored, fs)
	fsck(t, restored)
	return Result{Filesystem: fs, Path: restored}
}

// Probe calls a probe for the filesystem in a file, and requires that it is found.
func Probe(t testing.TB, path string, probe free.Probe) *free.Filesystem {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	fs, found, err := probe(context.Background(), f, size(t, path), free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	require.LessOrEqual(t, fs.Sectors, uint64(size(t, path))/free.SectorSize)
	require.LessOrEqual(t, free.Total(fs.Free.Used(fs.Sectors))+fs.Free.Total(), fs.Sectors, "free space behind the end")
	return fs
}

// Image captures the filesystem in a file, and requires that the capture leaves out what fs calls free.
func Image(t testing.TB, path string, fs *free.Filesystem) []byte {
	t.Helper()
	src, err := disk.Open(path, disk.Options{ReadOnly: true})
	require.NoError(t, err)
	defer src.Close()
	var image bytes.Buffer
	stats, err := imagezip.Capture(context.Background(), src, &image, imagezip.Options{Level: 1})
	require.NoError(t, err)
	require.Equal(t, fs.Kind, stats.Kind)
	require.Equal(t, fs.Free.Total(), stats.Free)
	return image.Bytes()
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	require.NoError(t, err)
	return st.Size()
}

// unsynced is a target that is not flushed: what is looked at here is gone before a disk would have it.
type unsynced struct{ disk.Target }

func (unsynced) Sync() error { return nil }

// Restore installs an image over a file of size random bytes, which are always the same.
func Restore(t testing.TB, path string, image []byte, size int64) {
	t.Helper()
	noise(t, path, size)
	target, err := disk.Open(path, disk.Options{Regular: true})
	require.NoError(t, err)
	defer target.Close()
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	in, err := install.New(install.Config{Target: unsynced{target}, Manifest: m})
	require.NoError(t, err)
	for i := range m.Chunks {
		require.NoError(t, in.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize]))
	}
	_, err = in.Finish(context.Background())
	require.NoError(t, err)
	require.Equal(t, size, target.Size())
}

// Compare requires that a copy has all sectors that are not free, and nothing but the random bytes of Restore where
// they are.
func Compare(t testing.TB, path, restored string, fs *free.Filesystem) {
	t.Helper()
	a, b, random := mapped(t, path), mapped(t, restored), randomBytes()
	for _, s := range fs.Free.Used(uint64(len(a)) / free.SectorSize) {
		from, to := s.Start*free.SectorSize, s.End*free.SectorSize
		require.True(t, bytes.Equal(a[from:to], b[from:to]), "sectors %d to %d differ", s.Start, s.End)
	}
	for _, s := range fs.Free.Spans() {
		for n := s.Start; n < s.End; n++ {
			if !sameAsNoise(random, b[n*free.SectorSize:][:free.SectorSize], n) {
				require.Fail(t, "free space is in the image", "sector %d", n)
			}
		}
	}
}

// mapped gives the content of a file without reading it into memory that the race detector watches.
func mapped(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, int(size(t, path)), unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}
