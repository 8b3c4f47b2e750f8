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
// file is truncated. Memory is about 1.3 MiB per core, whatever the image claims.
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
			chunk, buf := make([]byte, ChunkSize), make([]byte, 256<<10)
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= failed.Load() {
					return
				}
				info, tail, err := describe(r, int(i), chunk, buf)
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

// describe reads and checks one chunk. chunk and buf are scratch space.
func describe(r io.ReaderAt, i int, chunk, buf []byte) (ChunkInfo, int, error) {
	var info ChunkInfo
	if n, err := r.ReadAt(chunk, int64(i)*ChunkSize); n < len(chunk) {
		return info, 0, fmt.Errorf("read chunk %d (bytes %d to %d of the image): %w", i, int64(i)*ChunkSize, int64(i+1)*ChunkSize, unexpected(err))
	}
	h, err := ParseHeader(chunk)
	if err != nil {
		return info, 0, Corrupt(i, err)
	}
	sum := sha256.New()
	if err := inflateTo(sum, chunk, h, buf); err != nil {
		return info, 0, Corrupt(i, err)
	}
	info = ChunkInfo{SHA256: sha256.Sum256(chunk), DataSHA256: Digest(sum.Sum(nil)), DataSize: h.DataSize(), First: h.First, Last: h.Last}
	return info, h.ShortTail(), nil
}

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
