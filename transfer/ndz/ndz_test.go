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
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

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
