package imagezip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/install"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/ndz"
)

// expand inflates an image over nothing.
func expand(t testing.TB, image []byte) []byte {
	var b bytes.Buffer
	s := install.NewStream(&b, 0, true)
	for i := range len(image) / ndz.ChunkSize {
		require.NoError(t, s.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize]))
	}
	_, err := s.Finish()
	require.NoError(t, err)
	return b.Bytes()
}

func TestCaptureRawAndFile(t *testing.T) {
	const size = 1<<20 + 128<<10 // two chunks, read in two pieces
	data := make([]byte, size+5)
	rand.NewChaCha8([32]byte{1}).Read(data)
	ctx := context.Background()
	for _, c := range []struct {
		name string
		size int
		o    Options
		want int
	}{
		{"raw", size, Options{Kind: Raw, Level: 4}, size},
		{"one sector", 512, Options{Kind: Raw, Level: 4}, 512},
		{"file", size + 5, Options{Kind: File, Level: 1}, size + 5},
		{"even file", 1024, Options{Kind: File, Level: 1}, 1024},
		{"five bytes", 5, Options{Kind: File, Level: 9}, 5},
		{"first sectors", size, Options{Kind: Raw, MaxSectors: 1001}, 1001 * 512},
		{"first sectors of a file", size + 5, Options{Kind: File, MaxSectors: 1001}, 1001 * 512},
		{"more sectors than there are", 5, Options{Kind: File, MaxSectors: 1001}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			var image, streamed bytes.Buffer
			stats, err := Capture(ctx, memory(data[:c.size]), &image, c.o)
			require.NoError(t, err)
			require.Equal(t, image.Len(), stats.Chunks*ndz.ChunkSize)
			require.True(t, bytes.Equal(data[:c.want], expand(t, image.Bytes())))
			_, err = CaptureStream(ctx, io.LimitReader(bytes.NewReader(data), int64(c.size)), &streamed, c.o)
			require.NoError(t, err)
			require.True(t, bytes.Equal(image.Bytes(), streamed.Bytes()), "a pipe gives the same image as the file")
		})
	}
	_, err := CaptureStream(ctx, bytes.NewReader(data), io.Discard, Options{Kind: Raw})
	require.ErrorContains(t, err, "-f")
	_, err = CaptureStream(ctx, bytes.NewReader(nil), io.Discard, Options{Kind: File})
	require.ErrorContains(t, err, "nothing to write")
	_, err = CaptureStream(ctx, bytes.NewReader(data), io.Discard, Options{})
	require.ErrorContains(t, err, "-r")
	_, err = CaptureStream(ctx, bytes.NewReader(data), io.Discard, Options{Kind: Raw, Partition: 1})
	require.ErrorContains(t, err, "-s")
	broken := io.MultiReader(bytes.NewReader(data), iotestErr{})
	_, err = CaptureStream(ctx, broken, io.Discard, Options{Kind: File})
	require.ErrorContains(t, err, "read byte 1179653: cable pulled")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Capture(canceled, memory(data[:1024]), io.Discard, Options{Kind: Raw})
	require.ErrorIs(t, err, context.Canceled)
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("cable pulled") }

// badSectors is a source some sectors of which cannot be read.
type badSectors struct {
	memory
	bad map[int64]bool
}

func (b badSectors) ReadAt(p []byte, off int64) (int, error) {
	for s := off / 512; s*512 < off+int64(len(p)); s++ {
		if b.bad[s] {
			n, _ := b.memory.ReadAt(p[:max(0, s*512-off)], off)
			return n, errors.New("medium error")
		}
	}
	return b.memory.ReadAt(p, off)
}

func TestSkipErrors(t *testing.T) {
	data := bytes.Repeat([]byte{0x5a}, 2<<20)
	src := badSectors{memory(data), map[int64]bool{100: true, 3000: true, 3001: true}}
	_, err := Capture(context.Background(), src, io.Discard, Options{Kind: Raw})
	require.ErrorContains(t, err, "read bytes 51200 to")
	require.ErrorContains(t, err, "medium error")
	var image bytes.Buffer
	stats, err := Capture(context.Background(), src, &image, Options{Kind: Raw, SkipErrors: true})
	require.NoError(t, err)
	require.EqualValues(t, 3, stats.BadSectors)
	want := bytes.Clone(data)
	clear(want[100*512 : 101*512])
	clear(want[3000*512 : 3002*512])
	require.True(t, bytes.Equal(want, expand(t, image.Bytes())))
}

// Short free runs: saved as they are, saved as zeros, or not saved.
func TestShortFreeRuns(t *testing.T) {
	large.Test(t)
	dir := t.TempDir()
	files, path := filepath.Join(dir, "files"), filepath.Join(dir, "fs")
	tree(t, files, 1<<20)
	for i := range 20 {
		require.NoError(t, os.WriteFile(filepath.Join(files, fmt.Sprintf("small%d", i)), bytes.Repeat([]byte{1}, 5000), 0o644))
	}
	makeFS(t, path, files, 8, "-t", "ext4", "-b", "1024")
	for i := range 10 {
		tool.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("rm /small%d", 2*i), path)
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	free := oracle(t, path)
	old := bytes.Repeat([]byte("old secret "), 93)
	for b := range free {
		if free[b] { // what was left behind by deleted files
			copy(data[b*1024:], old)
		}
	}
	all, err := Examine(context.Background(), memory(data), Options{})
	require.NoError(t, err)
	require.Zero(t, all.Forgotten)
	for _, c := range []struct {
		least  uint64
		zero   bool
		forgot bool
	}{{DefaultMinFree, false, true}, {DefaultMinFree, true, true}, {1 << 20, true, true}, {0, true, false}} {
		var image bytes.Buffer
		stats, err := Capture(context.Background(), memory(data), &image, Options{Level: 4, MinFree: c.least, ZeroShort: c.zero})
		require.NoError(t, err)
		require.Equal(t, all.Free, stats.Free+stats.Forgotten)
		require.Equal(t, c.forgot, stats.Forgotten > 0)
		out := expand(t, image.Bytes())
		require.Equal(t, c.forgot && !c.zero, bytes.Contains(out, []byte("old secret")))
		for i := range int64(len(data) / 1024) {
			if !free[i] {
				require.True(t, bytes.Equal(data[i*1024:(i+1)*1024], out[i*1024:(i+1)*1024]), "block %d", i)
			}
		}
	}
}

// What lies behind the filesystem in its partition is saved, unless asked otherwise.
func TestSpaceBehindFilesystem(t *testing.T) {
	large.Test(t)
	dir := t.TempDir()
	files, path := filepath.Join(dir, "files"), filepath.Join(dir, "fs")
	tree(t, files, 300<<10)
	makeFS(t, path, files, 8, "-t", "ext4", "-b", "1024")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data = append(data, bytes.Repeat([]byte("behind! "), 64*100)...)
	for _, c := range []struct {
		o       Options
		sectors uint64
		behind  bool
	}{
		{Options{}, 16384 + 100, true},
		{Options{OnlyFS: true}, 16384, false},
		{Options{MaxSectors: 16390}, 16390, true},
		{Options{MaxSectors: 1000}, 1000, false},
		{Options{Kind: Ext}, 16384 + 100, true},
	} {
		var image bytes.Buffer
		stats, err := Capture(context.Background(), memory(data), &image, c.o)
		require.NoError(t, err)
		require.Equal(t, c.sectors, stats.Sectors)
		m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image.Bytes()), int64(image.Len()))
		require.NoError(t, err)
		require.Equal(t, c.sectors, m.Sectors)
		require.Equal(t, c.behind, bytes.Contains(expand(t, image.Bytes()), []byte("behind!")))
	}
}

func TestProgress(t *testing.T) {
	var last, calls int64
	_, err := Capture(context.Background(), memory(make([]byte, 5<<20)), io.Discard, Options{Kind: Raw, Progress: func(done, total int64) {
		require.Greater(t, done, last)
		require.EqualValues(t, 5<<20, total)
		last, calls = done, calls+1
	}})
	require.NoError(t, err)
	require.EqualValues(t, 5<<20, last)
	require.Greater(t, calls, int64(2))
}

// FuzzExamine: no superblock or descriptor may panic, and what would be saved stays inside the source.
func FuzzExamine(f *testing.F) {
	path := filepath.Join(f.TempDir(), "fs")
	for _, args := range [][]string{{"-t", "ext4", "-b", "1024"}, {"-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"},
		{"-t", "ext4", "-b", "1024", "-g", "512", "-O", "meta_bg,^resize_inode,^metadata_csum,uninit_bg"}} {
		file, err := os.Create(path)
		require.NoError(f, err)
		require.NoError(f, file.Truncate(1<<20))
		require.NoError(f, file.Close())
		tool.Run(f, "mke2fs", append(append([]string{"-q", "-F"}, args...), path)...)
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(b[1024:4096])
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		data := make(memory, 1<<20)
		copy(data[1024:], head)
		p, err := Examine(context.Background(), data, Options{Unclean: true, Kind: Ext})
		if err != nil {
			return
		}
		var at uint64
		for _, s := range p.spans {
			require.True(t, s.Start >= at && s.End > s.Start)
			at = s.End
		}
		require.LessOrEqual(t, at, p.Sectors)
		require.LessOrEqual(t, p.Sectors, uint64(2048))
		require.NotEmpty(t, p.spans)
		require.Zero(t, p.spans[0].Start, "the superblock is always saved")
	})
}
