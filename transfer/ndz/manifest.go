package ndz

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The values of Manifest.Format and Manifest.Version that this package writes and reads.
const (
	ManifestFormat  = "loadnode.ndz.manifest"
	ManifestVersion = 1
)

// maxManifest bounds the JSON form of a manifest, in bytes: about a million chunks.
const maxManifest = 256 << 20

// ErrManifest is wrapped by every error that says a manifest contradicts itself or its root digest.
var ErrManifest = errors.New("manifest is damaged")

// ChunkInfo is what a manifest knows of one chunk.
type ChunkInfo struct {
	SHA256     Digest `json:"sha256"`     // of the chunk as it lies in the file, all 1 MiB of it
	DataSHA256 Digest `json:"dataSha256"` // of what it inflates to
	DataSize   int64  `json:"dataSize"`   // bytes it inflates to
	First      uint64 `json:"first"`      // sectors described: [First, Last)
	Last       uint64 `json:"last"`
}

// Manifest describes one image completely enough to check every chunk of it, in any order, before anything is written.
type Manifest struct {
	Format     string      `json:"format"`
	Version    int         `json:"version"`
	Size       int64       `json:"size"`       // bytes of the image file
	SectorSize int         `json:"sectorSize"` // bytes; always 512
	Sectors    uint64      `json:"sectors"`    // size of the described unit: the highest Last of all chunks
	ShortTail  int         `json:"shortTail"`  // bytes of the last sector which do not belong to the unit, 0 to 511 (§5, type 6)
	DataBytes  int64       `json:"dataBytes"`  // sum of all DataSize
	Chunks     []ChunkInfo `json:"chunks,omitempty"`
}

// CorruptError says that a chunk is not what it should be. Nothing of it was used.
type CorruptError struct {
	Chunk       int
	First, Last int64  // its bytes in the image file: [First, Last)
	Want, Got   Digest // zero when no manifest was there to compare with
	Err         error  // why, when it is not the digest
}

// Error names the chunk and its place in the file.
func (e *CorruptError) Error() string {
	where := fmt.Sprintf("chunk %d (bytes %d to %d of the image) is damaged", e.Chunk, e.First, e.Last)
	if e.Err != nil {
		return where + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: SHA-256 is %s, manifest says %s", where, e.Got, e.Want)
}

// Unwrap gives the reason, if there is one beside the digest.
func (e *CorruptError) Unwrap() error { return e.Err }

// Corrupt makes the error for chunk i.
func Corrupt(i int, err error) *CorruptError {
	return &CorruptError{Chunk: i, First: int64(i) * ChunkSize, Last: int64(i+1) * ChunkSize, Err: err}
}

// Bytes is the size of the described unit in bytes: what a disk must have room for.
func (m *Manifest) Bytes() int64 { return int64(m.Sectors)*SectorSize - int64(m.ShortTail) }

// Root is the digest on which the whole manifest hangs: SHA-256 over the following, integers as 64-bit little-endian.
//
//	Format, a zero byte, Version, Size, SectorSize, Sectors, ShortTail, DataBytes, number of chunks,
//	then for each chunk SHA256, DataSHA256, DataSize, First, Last
func (m *Manifest) Root() Digest {
	sum := sha256.New()
	b := append([]byte(m.Format), 0)
	for _, v := range []uint64{uint64(m.Version), uint64(m.Size), uint64(m.SectorSize), m.Sectors, uint64(m.ShortTail),
		uint64(m.DataBytes), uint64(len(m.Chunks))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum.Write(b)
	for _, c := range m.Chunks {
		b = append(b[:0], c.SHA256[:]...)
		b = append(b, c.DataSHA256[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(c.DataSize))
		b = binary.LittleEndian.AppendUint64(b, c.First)
		b = binary.LittleEndian.AppendUint64(b, c.Last)
		sum.Write(b)
	}
	return Digest(sum.Sum(nil))
}

// DataDigest identifies the content of the image, whatever the compression: SHA-256 over DataSHA256, First and Last
// (64-bit little-endian) of all chunks in their order.
func (m *Manifest) DataDigest() Digest {
	sum := sha256.New()
	var b []byte
	for _, c := range m.Chunks {
		b = append(b[:0], c.DataSHA256[:]...)
		b = binary.LittleEndian.AppendUint64(b, c.First)
		b = binary.LittleEndian.AppendUint64(b, c.Last)
		sum.Write(b)
	}
	return Digest(sum.Sum(nil))
}

// Validate checks that the manifest agrees with itself: sizes, sums, and no sector described twice.
func (m *Manifest) Validate() error {
	if err := m.validateHead(); err != nil {
		return err
	}
	if int64(len(m.Chunks)) != m.Size/ChunkSize {
		return fmt.Errorf("%w: %d chunks listed, a file of %d bytes has %d", ErrManifest, len(m.Chunks), m.Size, m.Size/ChunkSize)
	}
	var data int64
	var sectors uint64
	for i, c := range m.Chunks {
		if c.First >= c.Last || c.Last > MaxSector {
			return fmt.Errorf("%w: chunk %d describes sectors %d to %d", ErrManifest, i, c.First, c.Last)
		}
		if c.DataSize <= 0 || c.DataSize%SectorSize != 0 || uint64(c.DataSize/SectorSize) > c.Last-c.First {
			return fmt.Errorf("%w: chunk %d holds %d bytes for sectors %d to %d", ErrManifest, i, c.DataSize, c.First, c.Last)
		}
		data += c.DataSize
		sectors = max(sectors, c.Last)
	}
	if data != m.DataBytes {
		return fmt.Errorf("%w: chunks hold %d bytes of data, manifest says %d", ErrManifest, data, m.DataBytes)
	}
	if sectors != m.Sectors {
		return fmt.Errorf("%w: chunks describe %d sectors, manifest says %d", ErrManifest, sectors, m.Sectors)
	}
	return m.checkOverlap()
}

func (m *Manifest) validateHead() error {
	switch {
	case m.Format != ManifestFormat || m.Version != ManifestVersion:
		return fmt.Errorf("%w: format %.40q version %d, want %q version %d", ErrManifest, m.Format, m.Version, ManifestFormat, ManifestVersion)
	case m.SectorSize != SectorSize:
		return fmt.Errorf("%w: sector size %d, want %d", ErrManifest, m.SectorSize, SectorSize)
	case m.ShortTail < 0 || m.ShortTail >= SectorSize:
		return fmt.Errorf("%w: short tail of %d bytes, must be 0 to %d", ErrManifest, m.ShortTail, SectorSize-1)
	}
	if err := checkFileSize(m.Size); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

// checkOverlap refuses two chunks that describe one sector: chunks arrive in any order, so which of them wins would be
// chance.
func (m *Manifest) checkOverlap() error {
	order := make([]int, len(m.Chunks))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if m.Chunks[a].First < m.Chunks[b].First {
			return -1
		}
		return 1
	})
	for k := 1; k < len(order); k++ {
		a, b := order[k-1], order[k]
		if m.Chunks[b].First < m.Chunks[a].Last {
			return fmt.Errorf("%w: chunks %d and %d both describe sector %d (are these several images in one file?)",
				ErrManifest, a, b, m.Chunks[b].First)
		}
	}
	return nil
}

// checkFileSize says whether an image file can have this size.
func checkFileSize(size int64) error {
	switch {
	case size == 0:
		return fmt.Errorf("%w: the image is empty", ErrFormat)
	case size < 0 || size/ChunkSize > MaxChunks:
		return fmt.Errorf("%w: image of %d bytes, at most %d chunks of %d are read", ErrFormat, size, MaxChunks, ChunkSize)
	case size%ChunkSize != 0:
		return fmt.Errorf("%w: image of %d bytes is truncated: %d whole chunks and %d bytes of the next", ErrFormat, size,
			size/ChunkSize, size%ChunkSize)
	}
	return nil
}

// CheckChunk compares the bytes of a whole chunk with the manifest. The error is a [*CorruptError]; an i that the
// image does not have is an error, too.
func (m *Manifest) CheckChunk(i int, chunk []byte) error {
	if i < 0 || i >= len(m.Chunks) {
		return fmt.Errorf("chunk %d of an image of %d chunks", i, len(m.Chunks))
	}
	if len(chunk) != ChunkSize {
		return Corrupt(i, fmt.Errorf("%w: %d bytes instead of %d", ErrFormat, len(chunk), ChunkSize))
	}
	if got := Digest(sha256.Sum256(chunk)); got != m.Chunks[i].SHA256 {
		err := Corrupt(i, nil)
		err.Want, err.Got = m.Chunks[i].SHA256, got
		return err
	}
	return nil
}

// Head is the manifest without its chunks, as it is sent before the pages.
func (m *Manifest) Head() Manifest {
	head := *m
	head.Chunks = nil
	return head
}

// Page returns up to n chunks from chunk number from on; an empty page is the end. The slice belongs to the manifest.
func (m *Manifest) Page(from, n int) []ChunkInfo {
	if from < 0 || n <= 0 || from >= len(m.Chunks) {
		return nil
	}
	return m.Chunks[from:min(len(m.Chunks), from+min(n, len(m.Chunks)))]
}

// Assemble puts a manifest together from what a remote image service sent in parts, and returns it only if it has the
// root digest that the caller got from a trusted place.
func Assemble(head Manifest, chunks []ChunkInfo, root Digest) (*Manifest, error) {
	m := head
	m.Chunks = slices.Clone(chunks)
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return &m, m.checkRoot(root)
}

func (m *Manifest) checkRoot(root Digest) error {
	if got := m.Root(); got != root {
		return fmt.Errorf("%w: root digest is %s, want %s", ErrManifest, got, root)
	}
	return nil
}

// manifestFile is the JSON form that lies beside an image.
type manifestFile struct {
	Root Digest `json:"root"`
	Manifest
}

// Encode writes the JSON form, with the root digest inside.
func (m *Manifest) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(manifestFile{Root: m.Root(), Manifest: *m})
}

// DecodeManifest reads what Encode wrote, checks it, and compares it with the root digest inside. It reads at most
// 256 MiB.
func DecodeManifest(r io.Reader) (*Manifest, error) {
	var f manifestFile
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, unexpected(err))
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return &f.Manifest, f.checkRoot(f.Root)
}
