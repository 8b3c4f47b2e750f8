package ndz

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// BuildManifest reads a whole image of size bytes, inflates and checks every chunk on all cores, and returns its
// manifest. The error names the first chunk that is wrong and its place in the file ([*CorruptError]), or says how a
// file is truncated. Memory is at most 6 MiB per core, whatever the image claims.
func BuildManifest(ctx context.Context, r io.ReaderAt, size int64) (*Manifest, error) {
	if err := checkFileSize(size); err != nil {
		return nil, err
	}
	n := int(size / ChunkSize)
	m := &Manifest{Format: ManifestFormat, Version: ManifestVersion, Size: size, SectorSize: SectorSize,
		Chunks: make([]ChunkInfo, n)}
	tails := make([]int, n)

	var (
		next   atomic.Int64
		failed atomic.Int64 // lowest chunk that failed so far
		mu     sync.Mutex
		first  error
		wg     sync.WaitGroup
	)
	failed.Store(int64(n))
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			d := describer{chunk: make([]byte, ChunkSize)}
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= failed.Load() {
					return
				}
				info, tail, err := d.describe(r, int(i))
				if err != nil {
					mu.Lock()
					if i < failed.Load() {
						failed.Store(i)
						first = err
					}
					mu.Unlock()
					return
				}
				m.Chunks[i], tails[i] = info, tail
			}
		})
	}
	wg.Wait()
	if first != nil {
		return nil, first
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	for i, c := range m.Chunks {
		m.DataBytes += c.DataSize
		if c.Last > m.Sectors {
			m.Sectors, m.ShortTail = c.Last, tails[i]
		}
	}
	for i, c := range m.Chunks {
		if tails[i] != 0 && c.Last != m.Sectors {
			return nil, Corrupt(i, fmt.Errorf("%w: a short sector at %d, but the image goes on to sector %d", ErrFormat, c.Last-1, m.Sectors))
		}
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// wholeData is the most data of a chunk that is inflated in one go. What is more goes through in pieces.
const wholeData = 4 << 20

// describer describes one chunk after the other in the same memory.
type describer struct {
	chunk, data []byte
	header      Header
}

// describe reads and checks one chunk. It returns also how many bytes of its last sector do not belong to the image.
func (d *describer) describe(r io.ReaderAt, i int) (ChunkInfo, int, error) {
	if n, err := r.ReadAt(d.chunk, int64(i)*ChunkSize); n < len(d.chunk) {
		return ChunkInfo{}, 0, fmt.Errorf("read chunk %d (bytes %d to %d of the image): %w", i, int64(i)*ChunkSize, int64(i+1)*ChunkSize, unexpected(err))
	}
	h := &d.header
	if err := h.Parse(d.chunk); err != nil {
		return ChunkInfo{}, 0, Corrupt(i, err)
	}
	data, err := d.digest()
	if err != nil {
		return ChunkInfo{}, 0, Corrupt(i, err)
	}
	return ChunkInfo{SHA256: sha256.Sum256(d.chunk), DataSHA256: data, DataSize: h.DataSize(), First: h.First, Last: h.Last}, h.ShortTail(), nil
}

// digest inflates the chunk and returns the digest of its data.
func (d *describer) digest() (Digest, error) {
	if need := min(d.header.DataSize(), wholeData); int64(cap(d.data)) < need {
		d.data = make([]byte, 0, need)
	}
	if d.header.DataSize() <= int64(cap(d.data)) {
		data, err := Inflate(d.chunk, d.header, d.data)
		if err != nil {
			return Digest{}, err
		}
		return sha256.Sum256(data), nil
	}
	sum := sha256.New()
	if err := inflateTo(sum, d.chunk, d.header, d.data[:cap(d.data)]); err != nil {
		return Digest{}, err
	}
	return Digest(sum.Sum(nil)), nil
}

// inflateTo writes the data of a chunk to a hash, in pieces that fit buf.
func inflateTo(w io.Writer, chunk []byte, h Header, buf []byte) error {
	s, err := NewStream(chunk, h)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		n, err := s.Read(buf)
		w.Write(buf[:n]) // a hash: it takes everything
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
