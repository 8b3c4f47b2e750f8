package ndz

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"loadnode/internal/vectors"
	"loadnode/transfer/internal/large"
)

func TestMain(m *testing.M) {
	// Each case moves megabytes; -rapid.checks on the command line asks for more.
	if err := flag.Set("rapid.checks", "12"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// shortVector is the 5-byte image, which is small enough to be in testdata.
func shortVector(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/v3-short-sector.head")
	require.NoError(t, err)
	return append(b, make([]byte, ChunkSize-len(b))...)
}

// makeChunk builds a chunk of any version by hand, with the zlib of the standard library.
func makeChunk(version int, first, last uint64, regions []Region, relocs []Reloc, data []byte) []byte {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(data)
	w.Close()
	c := make([]byte, ChunkSize)
	le := binary.LittleEndian
	le.PutUint32(c, magicBase+uint32(version-1))
	le.PutUint32(c[4:], uint32(z.Len()))
	le.PutUint32(c[16:], HeaderSize)
	le.PutUint32(c[20:], uint32(len(regions)))
	if version > 1 {
		le.PutUint32(c[24:], uint32(first))
		le.PutUint32(c[28:], uint32(last))
		le.PutUint32(c[32:], uint32(len(relocs)))
	}
	at := c[headerBytes[version]:]
	for _, r := range regions {
		le.PutUint32(at, uint32(r.Start))
		le.PutUint32(at[4:], uint32(r.Size))
		at = at[8:]
	}
	for _, r := range relocs {
		le.PutUint32(at, r.Type)
		le.PutUint32(at[4:], r.Sector)
		le.PutUint32(at[8:], r.Offset)
		le.PutUint32(at[12:], r.Size)
		at = at[16:]
	}
	copy(c[HeaderSize:], z.Bytes())
	return c
}

// restore inflates a whole image over zeros.
func restore(t testing.TB, image []byte) []byte {
	var out []byte
	grow := func(n int64) {
		if n > int64(len(out)) {
			out = append(out, make([]byte, n-int64(len(out)))...)
		}
	}
	for ; len(image) > 0; image = image[ChunkSize:] {
		h, err := ParseHeader(image)
		require.NoError(t, err)
		data, err := Inflate(image[:ChunkSize], h, nil)
		require.NoError(t, err)
		require.EqualValues(t, h.DataSize(), len(data))
		for _, r := range h.Regions {
			grow(int64(r.End()) * SectorSize)
			data = data[copy(out[r.Start*SectorSize:r.End()*SectorSize], data):]
		}
		grow(int64(h.Last) * SectorSize)
		out = out[:len(out)-h.ShortTail()]
	}
	return out
}

func TestRestoreVectors(t *testing.T) {
	large.Test(t)
	for _, v := range []struct {
		name    string
		version int
		size    int
		sum     string
	}{
		{"v1-ext4.ndz", 1, 1039360, "2543aa4fc94c9f05ed647d65e1bb3f9be33eb56af9721ca04414935fecf77413"},
		{"v2-ext2.ndz", 2, 1036288, "26c553c5651e39bcea45edc7fa01ca967890ba54fabd3ddbe00e6d92c9f5f1ae"},
		{"v3-ext4.ndz", 3, 8388608, "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275"},
		{"v4-uuid-ext4.ndz", 4, 8388608, "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275"},
		{"v3-short-sector.ndz", 3, 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
		{"disk-mbr.ndz", 3, 100663296, "e0ed19cebcda8eac84f528b81965786577c3d263784fbbb9f99a6f21d173361b"},
		{"disk-gpt.ndz", 3, 100663296, "8d1c27b791c1304f1f86b6faff1e02b7d1e957ea107c5e2aa78c8e31a142411a"},
	} {
		t.Run(v.name, func(t *testing.T) {
			var image []byte
			if v.name == "v3-short-sector.ndz" {
				image = shortVector(t)
			} else {
				image = vectors.Read(t, "ndz/"+v.name)
			}
			out := restore(t, image)
			require.Len(t, out, v.size)
			require.Equal(t, v.sum, Digest(sha256.Sum256(out)).String())

			info, err := Inspect(bytes.NewReader(image), int64(len(image)))
			require.NoError(t, err)
			require.Equal(t, v.version, info.Version)
			require.Equal(t, v.version > 1, info.Described)
			if v.version == 4 {
				require.Equal(t, "00112233445566778899aabbccddeeff", info.UUID)
			}
			m, err := BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
			require.NoError(t, err)
			require.NoError(t, m.Validate())
			require.EqualValues(t, v.size, m.Bytes())
			require.Equal(t, info.DataBytes, m.DataBytes)
		})
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	le := binary.LittleEndian
	data := make([]byte, 4*SectorSize)
	good := func() []byte { return makeChunk(3, 0, 16, []Region{{0, 2}, {8, 2}}, nil, data) }
	_, err := ParseHeader(good())
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(c []byte) []byte
		is     error
		says   string
	}{
		{"short", func(c []byte) []byte { return c[:HeaderSize-1] }, ErrFormat, "4095 bytes"},
		{"zeros", func(c []byte) []byte { return make([]byte, ChunkSize) }, ErrFormat, "magic"},
		{"V5", func(c []byte) []byte { c[0] = 0x6d; return c }, ErrFormat, "magic"},
		{"big endian", func(c []byte) []byte { copy(c, "\x69\x69\x69\x6b"); return c }, ErrUnsupported, "big-endian"},
		{"no payload", func(c []byte) []byte { le.PutUint32(c[4:], 0); return c }, ErrFormat, "payload size"},
		{"payload too long", func(c []byte) []byte { le.PutUint32(c[4:], MaxPayload+1); return c }, ErrFormat, "payload size"},
		{"header area", func(c []byte) []byte { le.PutUint32(c[16:], 8192); return c }, ErrFormat, "header area"},
		{"no regions", func(c []byte) []byte { le.PutUint32(c[20:], 0); return c }, ErrFormat, "no regions"},
		{"508 regions", func(c []byte) []byte { le.PutUint32(c[20:], 508); return c }, ErrFormat, "do not fit"},
		{"negative regions", func(c []byte) []byte { le.PutUint32(c[20:], 0xffffffff); return c }, ErrFormat, "do not fit"},
		{"many relocations", func(c []byte) []byte { le.PutUint32(c[32:], 0x10000000); return c }, ErrFormat, "do not fit"},
		{"first behind region", func(c []byte) []byte { le.PutUint32(c[24:], 1); return c }, ErrFormat, "first sector 1"},
		{"last before region", func(c []byte) []byte { le.PutUint32(c[28:], 9); return c }, ErrFormat, "last sector 9"},
		{"empty region", func(c []byte) []byte { le.PutUint32(c[40:], 0); return c }, ErrFormat, "region 0 is empty"},
		{"overlap", func(c []byte) []byte { le.PutUint32(c[44:], 1); return c }, ErrFormat, "region 1 starts at sector 1"},
		{"touching", func(c []byte) []byte { le.PutUint32(c[44:], 2); return c }, ErrFormat, "region 1 starts at sector 2"},
		{"beyond 32 bits", func(c []byte) []byte { le.PutUint32(c[48:], 0xffffffff); return c }, ErrFormat, "beyond 32 bits"},
		{"LILO", func([]byte) []byte { return makeChunk(3, 0, 4, []Region{{0, 4}}, []Reloc{{Type: 3, Size: 5}}, data) }, ErrUnsupported, "LILO"},
		{"disklabel", func([]byte) []byte { return makeChunk(3, 0, 4, []Region{{0, 4}}, []Reloc{{Type: 1, Size: 276}}, data) }, ErrUnsupported, "disklabel"},
		{"unknown relocation", func([]byte) []byte { return makeChunk(3, 0, 4, []Region{{0, 4}}, []Reloc{{Type: 100}}, data) }, ErrUnsupported, "unknown type 100"},
		{"short sector inside", func([]byte) []byte {
			return makeChunk(3, 0, 4, []Region{{0, 4}}, []Reloc{{Type: 6, Sector: 2, Size: 5}}, data)
		}, ErrFormat, "short sector 2"},
		{"short sector in free space", func([]byte) []byte {
			return makeChunk(3, 0, 8, []Region{{0, 4}}, []Reloc{{Type: 6, Sector: 7, Size: 5}}, data)
		}, ErrFormat, "short sector 7"},
		{"short sector too long", func([]byte) []byte {
			return makeChunk(3, 0, 4, []Region{{0, 4}}, []Reloc{{Type: 6, Sector: 3, Size: 512}}, data)
		}, ErrFormat, "short sector 3"},
		{"encrypted", func([]byte) []byte {
			c := makeChunk(4, 0, 4, []Region{{0, 4}}, nil, data)
			c[36] = 1
			return c
		}, ErrUnsupported, "encrypted"},
		{"signed", func([]byte) []byte {
			c := makeChunk(4, 0, 4, []Region{{0, 4}}, nil, data)
			le.PutUint16(c[38:], 0x8001)
			return c
		}, ErrUnsupported, "signed"},
		{"other checksum", func([]byte) []byte {
			c := makeChunk(4, 0, 4, []Region{{0, 4}}, nil, data)
			c[38] = 2
			return c
		}, ErrUnsupported, "checksum type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseHeader(c.change(good()))
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestInflateRefuses(t *testing.T) {
	data := make([]byte, 4*SectorSize)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, c := range []struct {
		name   string
		size   uint64 // sectors the header claims
		change func(c []byte)
		says   string
	}{
		{"too little", 5, func([]byte) {}, "ends 512 bytes before"},
		{"too much", 3, func([]byte) {}, "more than the size"},
		{"adler", 4, func(c []byte) { c[HeaderSize+int(binary.LittleEndian.Uint32(c[4:]))-1] ^= 1 }, "invalid checksum"},
		{"not zlib", 4, func(c []byte) { c[HeaderSize] = 0 }, "zlib header"},
		{"cut", 4, func(c []byte) { binary.LittleEndian.PutUint32(c[4:], binary.LittleEndian.Uint32(c[4:])-5) }, "unexpected EOF"},
		{"no tail", 4, func(c []byte) { binary.LittleEndian.PutUint32(c[4:], binary.LittleEndian.Uint32(c[4:])-4) }, "unexpected EOF"},
		{"trailing", 4, func(c []byte) { binary.LittleEndian.PutUint32(c[4:], binary.LittleEndian.Uint32(c[4:])+3) }, "3 bytes follow"},
		{"terabytes", MaxSector - 1, func([]byte) {}, "ends"},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunk := makeChunk(3, 0, c.size, []Region{{0, c.size}}, nil, data)
			c.change(chunk)
			h, err := ParseHeader(chunk)
			require.NoError(t, err)
			_, err = Inflate(chunk, h, nil)
			require.ErrorIs(t, err, ErrFormat)
			require.ErrorContains(t, err, c.says)
			require.False(t, errors.Is(err, io.EOF), "io.EOF would look like a good end")

			_, err = BuildManifest(context.Background(), bytes.NewReader(chunk), ChunkSize)
			var corrupt *CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, 0, corrupt.Chunk)
		})
	}
}

func TestInflateReusesBuffer(t *testing.T) {
	chunk := shortVector(t)
	h, err := ParseHeader(chunk)
	require.NoError(t, err)
	buf := make([]byte, 0, 4096)
	out, err := Inflate(chunk, h, buf)
	require.NoError(t, err)
	require.Same(t, &buf[:1][0], &out[0])
	require.Equal(t, "hello", string(bytes.TrimRight(out, "\x00")))
}

// A megabyte of payload that inflates to a gigabyte of zeros is a legal chunk; it must not cost a gigabyte.
func TestStreamOfManyZerosInBoundedMemory(t *testing.T) {
	var image bytes.Buffer
	w, err := NewWriter(WriterConfig{Output: &image, Level: 9})
	require.NoError(t, err)
	zeros := make([]byte, 1<<20)
	const megabytes = 50
	for i := range uint64(megabytes) {
		require.NoError(t, w.Append(i*2048, zeros))
	}
	require.NoError(t, w.Finish(megabytes*2048, 0))
	require.Equal(t, ChunkSize, image.Len(), "zeros should fit one chunk")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := BuildManifest(context.Background(), bytes.NewReader(image.Bytes()), ChunkSize)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.EqualValues(t, megabytes<<20, m.DataBytes)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
}

func TestChecksumSHA1(t *testing.T) {
	chunk := makeChunk(4, 0, 1, []Region{{0, 1}}, nil, make([]byte, SectorSize))
	binary.LittleEndian.PutUint16(chunk[38:], 1)
	h, err := ParseHeader(chunk)
	require.NoError(t, err)
	_, err = Inflate(chunk, h, nil)
	require.ErrorContains(t, err, "SHA-1")
	// Computed here as §7 says, not by the code under test.
	sum := sha1Of(chunk[:HeaderSize+h.PayloadSize])
	copy(chunk[72:], sum)
	_, err = Inflate(chunk, h, nil)
	require.NoError(t, err)
}

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
