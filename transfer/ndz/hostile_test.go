package ndz

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/internal/large"
)

// smallChunk is a chunk of two regions with data that does not compress to nothing.
func smallChunk() []byte {
	data := make([]byte, 3*SectorSize)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range data {
		data[i] = byte(r.IntN(4)) * 60
	}
	return makeChunk(3, 2, 40, []Region{{4, 2}, {20, 1}}, nil, data)
}

// A payload that ends anywhere before its end is an error, whether it is the header that says so or the chunk.
func TestTruncatedAtEveryByte(t *testing.T) {
	large.Test(t)
	chunk := smallChunk()
	whole, err := ParseHeader(chunk)
	require.NoError(t, err)
	buf := make([]byte, 0, 4096)
	for n := range HeaderSize + whole.PayloadSize {
		h, err := ParseHeader(chunk[:n])
		if n < HeaderSize {
			require.ErrorIs(t, err, ErrFormat)
			continue
		}
		require.NoError(t, err)
		_, err = Inflate(chunk[:n], h, buf)
		require.ErrorIsf(t, err, ErrFormat, "chunk of %d bytes", n)

		short := bytes.Clone(chunk)
		binary.LittleEndian.PutUint32(short[4:], uint32(n-HeaderSize))
		if h, err = ParseHeader(short); err != nil {
			require.Equal(t, HeaderSize, n)
			require.ErrorIs(t, err, ErrFormat)
			continue
		}
		_, err = Inflate(short, h, buf)
		require.ErrorIsf(t, err, ErrFormat, "payload of %d bytes", n-HeaderSize)
		require.NotErrorIs(t, err, io.EOF)
		require.ErrorIs(t, inflateTo(io.Discard, short, h, make([]byte, 100)), ErrFormat)
	}
	data, err := Inflate(chunk, whole, buf)
	require.NoError(t, err)
	require.Len(t, data, 3*SectorSize)
}

// An image file that ends anywhere but at the end of a chunk is truncated, and it is said where.
func TestImageTruncated(t *testing.T) {
	image, m := sample(t)
	for _, n := range []int64{1, 2, HeaderSize, ChunkSize - 1, ChunkSize + 1, 2*ChunkSize + HeaderSize, int64(len(image)) - 1} {
		_, err := BuildManifest(context.Background(), bytes.NewReader(image), n)
		require.ErrorIs(t, err, ErrFormat)
		require.ErrorContains(t, err, "truncated")
		_, err = Inspect(bytes.NewReader(image), n)
		require.ErrorIs(t, err, ErrFormat)
		// The file became shorter after its size was asked for.
		_, err = BuildManifest(context.Background(), bytes.NewReader(image[:n]), int64(len(image)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	require.NotEmpty(t, m.Chunks)
}

// Headers that lie about the data: always an error, and memory for what is really there.
func TestHeadersThatLie(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h []byte, put func(at int, v uint32))
	}{
		{"a sector more", func(_ []byte, put func(int, uint32)) { put(48, 2) }},
		{"a sector less", func(_ []byte, put func(int, uint32)) { put(40, 1) }},
		{"two terabytes", func(_ []byte, put func(int, uint32)) { put(48, 1<<32-1-20); put(28, 1<<32-1) }},
		{"beyond 32 bits", func(_ []byte, put func(int, uint32)) { put(48, 1<<32-1) }},
		{"overlapping regions", func(_ []byte, put func(int, uint32)) { put(44, 5) }},
		{"touching regions", func(_ []byte, put func(int, uint32)) { put(44, 6) }},
		{"regions backwards", func(_ []byte, put func(int, uint32)) { put(44, 1) }},
		{"first behind the data", func(_ []byte, put func(int, uint32)) { put(24, 5) }},
		{"last within the data", func(_ []byte, put func(int, uint32)) { put(28, 20) }},
		{"no regions", func(_ []byte, put func(int, uint32)) { put(20, 0) }},
		{"many regions", func(_ []byte, put func(int, uint32)) { put(20, 1<<31) }},
		{"many relocations", func(_ []byte, put func(int, uint32)) { put(32, 1<<32-1) }},
		{"payload longer than a chunk", func(_ []byte, put func(int, uint32)) { put(4, MaxPayload+1) }},
		{"payload with padding", func(h []byte, put func(int, uint32)) { put(4, binary.LittleEndian.Uint32(h[4:])+1) }},
		{"payload of all padding", func(_ []byte, put func(int, uint32)) { put(4, MaxPayload) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunk := smallChunk()
			c.change(chunk, func(at int, v uint32) { binary.LittleEndian.PutUint32(chunk[at:], v) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			h, err := ParseHeader(chunk)
			if err == nil {
				_, err = Inflate(chunk, h, nil)
			}
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrFormat)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6<<20))
			_, err = BuildManifest(context.Background(), bytes.NewReader(chunk), ChunkSize)
			require.ErrorIs(t, err, ErrFormat)
		})
	}
}

// Wrong totals: chunks that are right one by one do not make an image if they describe the same sectors.
func TestChunksThatOverlap(t *testing.T) {
	chunk := func(first, last uint64) []byte {
		return makeChunk(3, first, last, []Region{{first, 1}}, nil, make([]byte, SectorSize))
	}
	for _, c := range []struct {
		name   string
		chunks [][]byte
		says   string
	}{
		{"the same", [][]byte{chunk(0, 10), chunk(0, 10)}, "both describe sector 0"},
		{"by one sector", [][]byte{chunk(0, 10), chunk(9, 20)}, "both describe sector 9"},
		{"within", [][]byte{chunk(0, 100), chunk(10, 20)}, "both describe sector 10"},
		{"far apart in the file", [][]byte{chunk(5, 10), chunk(20, 30), chunk(7, 8)}, "both describe sector 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := bytes.Join(c.chunks, nil)
			_, err := BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
			require.ErrorContains(t, err, c.says)
		})
	}
}
