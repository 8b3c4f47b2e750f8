package ndz

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// extents is a random allocation map with random content.
type extents struct {
	starts []uint64
	data   [][]byte
	end    uint64
}

func drawExtents(t *rapid.T) extents {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], rapid.Uint64().Draw(t, "seed"))
	r := rand.NewChaCha8(seed)
	var e extents
	at := uint64(rapid.IntRange(0, 3).Draw(t, "lead"))
	for range rapid.IntRange(1, 6).Draw(t, "extents") {
		sectors := rapid.SampledFrom([]int{1, 2, 7, 64, 600, 1500}).Draw(t, "sectors")
		b := make([]byte, sectors*SectorSize)
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			r.Read(b)
		case 2:
			r.Read(b)
			for i := range b {
				b[i] &= 7
			}
		}
		e.starts, e.data = append(e.starts, at), append(e.data, b)
		at += uint64(sectors) + uint64(rapid.SampledFrom([]int{0, 1, 100}).Draw(t, "gap"))
	}
	e.end = at + uint64(rapid.IntRange(0, 50).Draw(t, "rest"))
	return e
}

func (e extents) write(t require.TestingT, out io.Writer, level, workers int) WriterStats {
	w, err := NewWriter(WriterConfig{Output: out, Level: level, Workers: workers})
	require.NoError(t, err)
	for i, s := range e.starts {
		require.NoError(t, w.Append(s, e.data[i]))
	}
	require.NoError(t, w.Finish(e.end, 0))
	return w.Stats()
}

func TestWriterRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := drawExtents(rt)
		level := rapid.SampledFrom([]int{Stored, 0, 1, 6}).Draw(rt, "level")
		var one, three bytes.Buffer
		stats := e.write(rt, &one, level, 1)
		e.write(rt, &three, level, 3)
		require.True(rt, bytes.Equal(one.Bytes(), three.Bytes()), "the image must not depend on the number of workers")

		want := make([]byte, e.end*SectorSize)
		for i, s := range e.starts {
			copy(want[s*SectorSize:], e.data[i])
		}
		require.True(rt, bytes.Equal(want, restore(t, one.Bytes())))

		m, err := BuildManifest(context.Background(), bytes.NewReader(one.Bytes()), int64(one.Len()))
		require.NoError(rt, err)
		require.Equal(rt, stats.DataBytes, m.DataBytes)
		require.Equal(rt, stats.Chunks, len(m.Chunks))
		require.Equal(rt, e.end, m.Sectors)
		var at uint64
		for _, c := range m.Chunks {
			require.Equal(rt, at, c.First, "chunks must tile the unit")
			at = c.Last
		}
		require.Equal(rt, e.end, at)
	})
}

// The payload must be readable by the zlib of the standard library, too, and be well filled.
func TestWriterFillsChunks(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 4<<20)
	r.Read(data)
	for i := range data {
		data[i] &= 0x3f
	}
	var image bytes.Buffer
	w, err := NewWriter(WriterConfig{Output: &image, Level: 4})
	require.NoError(t, err)
	require.NoError(t, w.Append(0, data))
	require.NoError(t, w.Finish(uint64(len(data)/SectorSize), 0))
	chunks := image.Len() / ChunkSize
	require.Greater(t, chunks, 2)
	var got []byte
	for i := range chunks {
		chunk := image.Bytes()[i*ChunkSize : (i+1)*ChunkSize]
		h, err := ParseHeader(chunk)
		require.NoError(t, err)
		require.Equal(t, i, h.Index)
		if i < chunks-1 {
			require.Greater(t, h.PayloadSize, MaxPayload-minRoom-zlibTail, "chunk %d is not full", i)
		}
		zr, err := zlib.NewReader(bytes.NewReader(chunk[HeaderSize : HeaderSize+h.PayloadSize]))
		require.NoError(t, err)
		b, err := io.ReadAll(zr)
		require.NoError(t, err)
		got = append(got, b...)
		padding := chunk[HeaderSize+h.PayloadSize:]
		require.True(t, bytes.Equal(make([]byte, len(padding)), padding))
	}
	require.True(t, bytes.Equal(data, got))
}

func TestWriterManyRegions(t *testing.T) {
	var e extents
	for i := range uint64(2000) {
		e.starts, e.data = append(e.starts, 2*i), append(e.data, bytes.Repeat([]byte{byte(i)}, SectorSize))
	}
	e.end = 4000
	// Regions that fit beside a relocation (§2), by version.
	for version, fit := range map[int]int{1: 507, 3: 505, 4: 467} {
		image, err := os.Create(filepath.Join(t.TempDir(), "image"))
		require.NoError(t, err)
		defer image.Close()
		w, err := NewWriter(WriterConfig{Output: image, Totals: image, Version: version, UUID: [16]byte{1}, Workers: 2})
		require.NoError(t, err)
		for i, s := range e.starts {
			require.NoError(t, w.Append(s, e.data[i]))
		}
		require.NoError(t, w.Finish(e.end, 0))
		require.Equal(t, 2000, w.Stats().Regions)
		require.Equal(t, (2000+fit-1)/fit, w.Stats().Chunks)
		b, err := os.ReadFile(image.Name())
		require.NoError(t, err)
		out := restore(t, b)
		for i := range 2000 {
			require.Equal(t, byte(i), out[2*i*SectorSize])
			if i < 1999 {
				require.Equal(t, byte(0), out[(2*i+1)*SectorSize])
			}
		}
	}
}

// Other versions hold the same data; only what their headers can say differs (§2).
func TestWriterVersions(t *testing.T) {
	e := extents{starts: []uint64{3, 9000}, data: [][]byte{make([]byte, 1<<20), make([]byte, 1<<20)}, end: 20000}
	for _, d := range e.data {
		rand.NewChaCha8([32]byte{3}).Read(d)
	}
	var plain bytes.Buffer
	e.write(t, &plain, 1, 1)
	uuid := [16]byte{0, 0x11, 0x22, 15: 0xff}
	for _, version := range []int{1, 4} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		require.NoError(t, err)
		defer f.Close()
		w, err := NewWriter(WriterConfig{Output: f, Level: 1, Version: version, UUID: uuid, Totals: f})
		require.NoError(t, err)
		for i, s := range e.starts {
			require.NoError(t, w.Append(s, e.data[i]))
		}
		require.NoError(t, w.Finish(e.end, 0))
		image, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		require.Len(t, image, plain.Len())
		for i := range len(image) / ChunkSize {
			a, b := image[i*ChunkSize:][:ChunkSize], plain.Bytes()[i*ChunkSize:][:ChunkSize]
			h, err := ParseHeader(a)
			require.NoError(t, err)
			want, err := ParseHeader(b)
			require.NoError(t, err)
			require.Equal(t, version, h.Version)
			require.Equal(t, want.Regions, h.Regions)
			require.Equal(t, a[HeaderSize:], b[HeaderSize:])
			if version == 1 {
				require.Equal(t, []byte{byte(len(image) / ChunkSize), 0, 0, 0}, a[12:16])
				require.False(t, h.Described)
			} else {
				require.Equal(t, uuid, h.UUID)
				require.Equal(t, []uint64{want.First, want.Last}, []uint64{h.First, h.Last})
				require.Zero(t, h.Checksum)
			}
		}
	}
	_, err := NewWriter(WriterConfig{Output: io.Discard, Version: 1})
	require.ErrorContains(t, err, "positioned")
	_, err = NewWriter(WriterConfig{Output: io.Discard, Version: 2})
	require.ErrorContains(t, err, "version 2")
	w, err := NewWriter(WriterConfig{Output: io.Discard, Version: 1, Totals: os.Stdout})
	require.NoError(t, err)
	require.NoError(t, w.Append(0, make([]byte, SectorSize)))
	require.ErrorContains(t, w.Finish(1, 5), "incomplete")
}

func TestWriterShortTail(t *testing.T) {
	var image bytes.Buffer
	w, err := NewWriter(WriterConfig{Output: &image, Level: 4})
	require.NoError(t, err)
	require.NoError(t, w.Append(0, append([]byte("hello"), make([]byte, 507)...)))
	require.NoError(t, w.Finish(1, 507))
	// Header and first bytes are those of the original tool.
	require.Equal(t, shortVector(t)[24:60], image.Bytes()[24:60])
	require.Equal(t, "hello", string(restore(t, image.Bytes())))
}

func TestWriterRefuses(t *testing.T) {
	one := make([]byte, SectorSize)
	for _, c := range []struct {
		name string
		do   func(w *Writer) error
		says string
	}{
		{"odd", func(w *Writer) error { return w.Append(0, one[:511]) }, "not whole sectors"},
		{"backwards", func(w *Writer) error { return errors.Join(w.Append(5, one), w.Append(5, one)) }, "sector 5 comes after sector 6"},
		{"too far", func(w *Writer) error { return w.Append(MaxSector, one) }, "2 TiB"},
		{"nothing", func(w *Writer) error { return w.Finish(10, 0) }, "nothing to write"},
		{"end before data", func(w *Writer) error { return errors.Join(w.Append(5, one), w.Finish(5, 0)) }, "unit ends at sector 5"},
		{"tail in free space", func(w *Writer) error { return errors.Join(w.Append(5, one), w.Finish(9, 5)) }, "data ends at 6"},
		{"twice", func(w *Writer) error { return errors.Join(w.Append(5, one), w.Finish(9, 0), w.Finish(9, 0)) }, "already finished"},
		{"after the end", func(w *Writer) error { return errors.Join(w.Append(5, one), w.Finish(9, 0), w.Append(9, one)) }, "already finished"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := NewWriter(WriterConfig{Output: io.Discard})
			require.NoError(t, err)
			defer w.Close()
			require.ErrorContains(t, c.do(w), c.says)
		})
	}
	_, err := NewWriter(WriterConfig{Output: io.Discard, Level: 10})
	require.ErrorContains(t, err, "level 10")
	_, err = NewWriter(WriterConfig{})
	require.ErrorContains(t, err, "no output")
}

// fullWriter takes so many bytes and then has no room.
type fullWriter struct{ left int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.left < len(p) {
		return 0, errors.New("disk full")
	}
	w.left -= len(p)
	return len(p), nil
}

func TestWriterReportsFullDisk(t *testing.T) {
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{2}).Read(data)
	w, err := NewWriter(WriterConfig{Output: &fullWriter{left: 2 * ChunkSize}, Level: 1})
	require.NoError(t, err)
	for i := uint64(0); err == nil && i < 100; i++ {
		err = w.Append(i*2048, data)
	}
	require.ErrorContains(t, err, "disk full", "100 MiB cannot be accepted when the output took 2")
	require.ErrorContains(t, w.Finish(100*2048, 0), "disk full")
}
