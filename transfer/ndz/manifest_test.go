package ndz

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func sha1Of(b []byte) []byte {
	c := bytes.Clone(b)
	clear(c[72 : 72+256])
	sum := sha1.Sum(c)
	return sum[:]
}

// sampleOnce is what sample made the first time.
var sampleOnce struct {
	sync.Mutex
	image    []byte
	manifest *Manifest
}

// sample is an image of several chunks with its manifest; they belong to all tests and must not be changed.
func sample(t testing.TB) ([]byte, *Manifest) {
	sampleOnce.Lock()
	defer sampleOnce.Unlock()
	if sampleOnce.manifest != nil {
		return sampleOnce.image, sampleOnce.manifest
	}
	data := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{3}).Read(data)
	var image bytes.Buffer
	w, err := NewWriter(WriterConfig{Output: &image, Level: 1})
	require.NoError(t, err)
	require.NoError(t, w.Append(100, data))
	require.NoError(t, w.Finish(20000, 0))
	m, err := BuildManifest(context.Background(), bytes.NewReader(image.Bytes()), int64(image.Len()))
	require.NoError(t, err)
	require.Greater(t, len(m.Chunks), 4)
	sampleOnce.image, sampleOnce.manifest = image.Bytes(), m
	return image.Bytes(), m
}

func TestManifestJSON(t *testing.T) {
	_, m := sample(t)
	var b bytes.Buffer
	require.NoError(t, m.Encode(&b))
	back, err := DecodeManifest(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.Equal(t, m, back)
	require.Contains(t, b.String(), m.Root().String())

	changed := bytes.Replace(b.Bytes(), []byte(m.Chunks[1].SHA256.String()), []byte(m.Chunks[0].SHA256.String()), 1)
	_, err = DecodeManifest(bytes.NewReader(changed))
	require.ErrorIs(t, err, ErrManifest)
	require.ErrorContains(t, err, "root digest")
	_, err = DecodeManifest(bytes.NewReader(b.Bytes()[:b.Len()/2]))
	require.ErrorIs(t, err, ErrManifest)
}

// The root must change with every field: whatever is not in it could be forged.
func TestRootCoversEveryField(t *testing.T) {
	_, m := sample(t)
	root := m.Root()
	for name, change := range map[string]func(m *Manifest){
		"format":     func(m *Manifest) { m.Format += "x" },
		"version":    func(m *Manifest) { m.Version++ },
		"size":       func(m *Manifest) { m.Size++ },
		"sectorSize": func(m *Manifest) { m.SectorSize++ },
		"sectors":    func(m *Manifest) { m.Sectors++ },
		"shortTail":  func(m *Manifest) { m.ShortTail++ },
		"dataBytes":  func(m *Manifest) { m.DataBytes++ },
		"chunks":     func(m *Manifest) { m.Chunks = m.Chunks[1:] },
		"sha256":     func(m *Manifest) { m.Chunks[2].SHA256[31]++ },
		"dataSHA256": func(m *Manifest) { m.Chunks[2].DataSHA256[0]++ },
		"dataSize":   func(m *Manifest) { m.Chunks[2].DataSize++ },
		"first":      func(m *Manifest) { m.Chunks[2].First++ },
		"last":       func(m *Manifest) { m.Chunks[2].Last++ },
	} {
		other := *m
		other.Chunks = append([]ChunkInfo(nil), m.Chunks...)
		change(&other)
		require.NotEqual(t, root, other.Root(), name)
		require.Equal(t, root, m.Root())
	}
}

func TestAssemble(t *testing.T) {
	_, m := sample(t)
	var chunks []ChunkInfo
	for page := m.Page(0, 2); len(page) > 0; page = m.Page(len(chunks), 2) {
		chunks = append(chunks, page...)
	}
	head, err := json.Marshal(m.Head())
	require.NoError(t, err)
	require.NotContains(t, string(head), "chunks")
	var remote Manifest
	require.NoError(t, json.Unmarshal(head, &remote))
	got, err := Assemble(remote, chunks, m.Root())
	require.NoError(t, err)
	require.Equal(t, m, got)

	_, err = Assemble(remote, chunks[1:], m.Root())
	require.ErrorIs(t, err, ErrManifest)
	forged := append([]ChunkInfo(nil), chunks...)
	forged[0].SHA256[0] ^= 1
	_, err = Assemble(remote, forged, m.Root())
	require.ErrorContains(t, err, "root digest")
	require.Empty(t, m.Page(len(m.Chunks), 5))
	require.Empty(t, m.Page(-1, 5))
	require.Len(t, m.Page(1, 1<<62), len(m.Chunks)-1)
}

func TestValidateRefuses(t *testing.T) {
	_, m := sample(t)
	for _, c := range []struct {
		name   string
		change func(m *Manifest)
		says   string
	}{
		{"format", func(m *Manifest) { m.Format = "zip" }, "format"},
		{"version", func(m *Manifest) { m.Version = 2 }, "version 2"},
		{"sector size", func(m *Manifest) { m.SectorSize = 4096 }, "sector size 4096"},
		{"empty", func(m *Manifest) { m.Size = 0 }, "empty"},
		{"huge", func(m *Manifest) { m.Size = 1 << 60 }, "at most"},
		{"negative", func(m *Manifest) { m.Size = -ChunkSize }, "at most"},
		{"odd", func(m *Manifest) { m.Size++ }, "truncated"},
		{"missing chunk", func(m *Manifest) { m.Chunks = m.Chunks[1:] }, "chunks listed"},
		{"tail", func(m *Manifest) { m.ShortTail = 512 }, "short tail"},
		{"nothing described", func(m *Manifest) { m.Chunks[1].Last = m.Chunks[1].First }, "chunk 1 describes"},
		{"too much data", func(m *Manifest) { m.Chunks[1].DataSize = 1 << 40 }, "chunk 1 holds"},
		{"half sectors", func(m *Manifest) { m.Chunks[1].DataSize-- }, "chunk 1 holds"},
		{"sum", func(m *Manifest) { m.DataBytes++ }, "bytes of data"},
		{"sectors", func(m *Manifest) { m.Sectors++ }, "sectors"},
		{"overlap", func(m *Manifest) { m.Chunks[1].First-- }, "chunks 0 and 1 both describe"},
	} {
		other := *m
		other.Chunks = append([]ChunkInfo(nil), m.Chunks...)
		c.change(&other)
		err := other.Validate()
		require.ErrorIs(t, err, ErrManifest, c.name)
		require.ErrorContains(t, err, c.says, c.name)
	}
}

func TestCheckChunk(t *testing.T) {
	image, m := sample(t)
	for i := range m.Chunks {
		require.NoError(t, m.CheckChunk(i, image[i*ChunkSize:(i+1)*ChunkSize]))
	}
	bad := bytes.Clone(image[2*ChunkSize : 3*ChunkSize])
	bad[ChunkSize-1] ^= 1 // in the padding: the digest covers that, too
	var corrupt *CorruptError
	require.ErrorAs(t, m.CheckChunk(2, bad), &corrupt)
	require.Equal(t, 2, corrupt.Chunk)
	require.EqualValues(t, 2*ChunkSize, corrupt.First)
	require.EqualValues(t, 3*ChunkSize, corrupt.Last)
	require.Equal(t, m.Chunks[2].SHA256, corrupt.Want)
	require.NotEqual(t, corrupt.Want, corrupt.Got)
	require.ErrorContains(t, corrupt, "bytes 2097152 to 3145728")
	require.ErrorAs(t, m.CheckChunk(2, bad[:100]), &corrupt)
	require.ErrorContains(t, m.CheckChunk(99, bad), "chunk 99")
	require.ErrorContains(t, m.CheckChunk(-1, bad), "chunk -1")
}

func TestBuildManifestErrors(t *testing.T) {
	image, _ := sample(t)
	ctx := context.Background()
	_, err := BuildManifest(ctx, bytes.NewReader(nil), 0)
	require.ErrorContains(t, err, "empty")
	_, err = BuildManifest(ctx, bytes.NewReader(image), int64(len(image)-1))
	require.ErrorContains(t, err, "truncated: 5 whole chunks and 1048575 bytes")
	_, err = BuildManifest(ctx, bytes.NewReader(image), int64(len(image)+ChunkSize))
	require.ErrorContains(t, err, "read chunk 6")

	bad := bytes.Clone(image)
	bad[3*ChunkSize+HeaderSize+500] ^= 0x10
	bad[4*ChunkSize] = 0
	_, err = BuildManifest(ctx, bytes.NewReader(bad), int64(len(bad)))
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, 3, corrupt.Chunk, "the first bad chunk is named, whichever worker was faster")
	require.EqualValues(t, 3*ChunkSize, corrupt.First)

	twice := append(bytes.Clone(image), image...)
	_, err = BuildManifest(ctx, bytes.NewReader(twice), int64(len(twice)))
	require.ErrorContains(t, err, "both describe sector")

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = BuildManifest(canceled, bytes.NewReader(image), int64(len(image)))
	require.ErrorIs(t, err, context.Canceled)
}

func TestDigestText(t *testing.T) {
	d := Digest{0xab, 31: 0x01}
	back, err := ParseDigest(d.String())
	require.NoError(t, err)
	require.Equal(t, d, back)
	for _, s := range []string{"", "ab", d.String() + "00", "zz" + d.String()[2:]} {
		_, err := ParseDigest(s)
		require.Error(t, err, s)
	}
}
