package install

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/disk"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/ndz"
)

// bomb is a chunk that inflates to so many sectors of zeros.
func bomb(t testing.TB, sectors uint64) []byte {
	var image bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &image, Level: 9})
	require.NoError(t, err)
	zeros := make([]byte, 1<<20)
	for at := uint64(0); at < sectors; at += 2048 {
		require.NoError(t, w.Append(at, zeros[:min(2048, sectors-at)*ndz.SectorSize]))
	}
	require.NoError(t, w.Finish(sectors, 0))
	require.Equal(t, ndz.ChunkSize, image.Len())
	return image.Bytes()
}

// sink takes everything and remembers only how much it was.
type sink struct {
	null
	writes []int64 // the length of each
}

func (s *sink) WriteAt(p []byte, off int64) (int, error) {
	s.writes = append(s.writes, int64(len(p)))
	return len(p), nil
}

// A megabyte that inflates to many is installed, in memory of one buffer; one that lies by a single sector is refused
// before anything of it is written.
func TestBombs(t *testing.T) {
	large.Test(t)
	const sectors = 40 << 20 / ndz.SectorSize
	good := bomb(t, sectors)
	for _, c := range []struct {
		name  string
		claim uint32 // sectors of the only region
		ok    bool
	}{{"as described", sectors, true}, {"more", sectors - 1, false}, {"less", sectors + 1, false}, {"much less", 1 << 31, false}} {
		t.Run(c.name, func(t *testing.T) {
			chunk := bytes.Clone(good)
			binary.LittleEndian.PutUint32(chunk[40:], c.claim)
			binary.LittleEndian.PutUint32(chunk[28:], max(sectors, c.claim))
			target := &sink{null: null{1 << 42}}
			in, err := New(Config{Target: target})
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err = in.Install(context.Background(), 0, chunk)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(wholeInflate+4<<20))
			if !c.ok {
				var corrupt *ndz.CorruptError
				require.ErrorAs(t, err, &corrupt)
				require.Empty(t, target.writes)
				require.Zero(t, in.Stats())
				return
			}
			require.NoError(t, err)
			var sum int64
			for _, n := range target.writes {
				require.LessOrEqual(t, n, int64(writeSize))
				sum += n
			}
			require.EqualValues(t, sectors*ndz.SectorSize, sum)
		})
	}
}

// The chunk count is the word of a stranger: it costs nothing.
func TestManyChunksClaimed(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	in, err := New(Config{Target: newMemory(512), Chunks: ndz.MaxChunks})
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
	_, err = in.Finish(context.Background())
	require.ErrorIs(t, err, ErrIncomplete)
	require.Error(t, in.Install(context.Background(), ndz.MaxChunks, nil))
	require.Error(t, in.Install(context.Background(), -1, nil))
}

// Writes are large, and begin where large blocks of a disk do.
func TestWritesAreLargeAndAligned(t *testing.T) {
	const sectors = 5<<20/ndz.SectorSize + 3
	chunk := bomb(t, sectors)
	target := &sink{null: null{1 << 40}}
	in, err := New(Config{Target: target, Offset: 100 * ndz.SectorSize})
	require.NoError(t, err)
	require.NoError(t, in.Install(context.Background(), 0, chunk))
	first, last := int64(writeSize-100*ndz.SectorSize), int64(103*ndz.SectorSize)
	require.Equal(t, []int64{first, writeSize, writeSize, writeSize, writeSize, last}, target.writes)
}

// Installing a chunk takes no memory once the buffers are there.
func TestNoAllocationPerChunk(t *testing.T) {
	u := randomUnit(5000, 9)
	image, m := u.image(t, 4)
	in, err := New(Config{Target: newMemory(len(u.data)), Manifest: m})
	require.NoError(t, err)
	var failed error
	got := testing.AllocsPerRun(20, func() {
		clear(in.chunks)
		failed = errors.Join(failed, in.Install(context.Background(), 0, image[:ndz.ChunkSize]))
	})
	require.NoError(t, failed)
	require.LessOrEqual(t, got, 2.0) // what the race detector makes a sync.Pool forget
}

// FuzzChunk: whatever a chunk holds, it is installed where its header says or nothing of it is written.
func FuzzChunk(f *testing.F) {
	const size = 64 << 10
	for _, seed := range []uint64{1, 2, 3} {
		u := randomUnit(60, seed)
		for i := range u.data {
			u.data[i] &= 3
		}
		image, _ := u.image(f, 4)
		h, err := ndz.ParseHeader(image)
		require.NoError(f, err)
		f.Add(image[:100], image[ndz.HeaderSize:ndz.HeaderSize+h.PayloadSize])
	}
	chunk := make([]byte, ndz.ChunkSize)
	f.Fuzz(func(t *testing.T, head, payload []byte) {
		if len(head) > ndz.HeaderSize || len(payload) > size {
			return
		}
		clear(chunk[:ndz.HeaderSize+size])
		copy(chunk, head)
		copy(chunk[ndz.HeaderSize:], payload)
		target := newMemory(size)
		before := bytes.Clone(target.data)
		in, err := New(Config{Target: target, Fill: Pattern, Pattern: 0xcafe1234})
		require.NoError(t, err)
		if err := in.Install(context.Background(), 0, chunk); err != nil {
			require.Equal(t, before, target.data, "something was written")
			require.Zero(t, in.Stats())
			return
		}
		h, err := ndz.ParseHeader(chunk)
		require.NoError(t, err)
		end := int64(h.Last)*ndz.SectorSize - int64(h.ShortTail())
		require.LessOrEqual(t, end, int64(size))
		require.Equal(t, before[end:], target.data[end:], "behind what the chunk describes")
		require.Equal(t, before[:h.First*ndz.SectorSize], target.data[:h.First*ndz.SectorSize], "before it")
		require.EqualValues(t, h.DataSize()-int64(h.ShortTail()), in.Stats().BytesWritten)
	})
}

var _ disk.Target = (*sink)(nil)
