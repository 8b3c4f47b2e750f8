package install

import (
	"context"
	"errors"
	"fmt"
	"io"

	"loadnode/transfer/ndz"
)

// Stream writes an image, chunk after chunk, to something that only goes forward: a pipe, a checksum. Free space
// becomes zeros, or the pattern. The chunks must come in the order of the disk.
type Stream struct {
	inflater
	w       io.Writer
	fill    []byte
	buf     []byte
	at      int64 // sectors written so far
	tail    int   // bytes missing from the last of them
	chunks  int
	gaps    bool
	written int64
}

// NewStream returns a stream to w. With gaps false, free space is left out altogether.
func NewStream(w io.Writer, fill uint32, gaps bool) *Stream {
	s := &Stream{inflater: newInflater(), w: w, fill: make([]byte, 64<<10), buf: make([]byte, pieceSize), gaps: gaps}
	pattern(s.fill, fill)
	return s
}

// Install checks a chunk completely and writes it. Its errors are those of Installer.Install; a [*WriteError] counts in
// bytes of the output.
func (s *Stream) Install(ctx context.Context, index int, chunk []byte) error {
	if len(chunk) != ndz.ChunkSize {
		return ndz.Corrupt(index, fmt.Errorf("%w: %d bytes instead of %d", ndz.ErrFormat, len(chunk), ndz.ChunkSize))
	}
	h, err := ndz.ParseHeader(chunk)
	if err != nil {
		return ndz.Corrupt(index, err)
	}
	if int64(h.First) < s.at || s.tail != 0 {
		return fmt.Errorf("chunk %d describes sector %d, but the output is at sector %d already: this image needs an output that can be positioned",
			index, h.First, s.at)
	}
	src, err := s.inflate(index, chunk, h, nil)
	if err != nil {
		return err
	}
	defer src.Close()
	for i, r := range h.Regions {
		if err := s.skipTo(ctx, int64(r.Start)); err != nil {
			return err
		}
		size := int64(r.Size) * ndz.SectorSize
		if i == len(h.Regions)-1 {
			s.tail = h.ShortTail()
			size -= int64(s.tail)
		}
		for size > 0 {
			n, err := src.Read(s.buf[:min(size, int64(len(s.buf)))])
			if n == 0 && err != nil {
				return ndz.Corrupt(index, err)
			}
			if err := s.write(ctx, s.buf[:n]); err != nil {
				return err
			}
			size -= int64(n)
		}
		s.at = int64(r.End())
	}
	s.chunks++
	return s.skipTo(ctx, int64(h.Last))
}

// Finish returns what was written.
func (s *Stream) Finish() (Result, error) {
	if s.chunks == 0 {
		return Result{}, fmt.Errorf("%w: no chunks", ErrIncomplete)
	}
	return Result{Chunks: s.chunks, BytesWritten: s.written, BytesDescribed: s.at*ndz.SectorSize - int64(s.tail), Assurance: AssuranceWritten}, nil
}

func (s *Stream) skipTo(ctx context.Context, sector int64) error {
	n := (sector - s.at) * ndz.SectorSize
	s.at = sector
	for s.gaps && n > 0 {
		k := min(n, int64(len(s.fill)))
		if err := s.write(ctx, s.fill[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

func (s *Stream) write(ctx context.Context, p []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return &WriteError{Off: s.written + int64(n), Len: int64(len(p) - n), Err: err}
	}
	s.written += int64(n)
	return nil
}
