package install

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"loadnode/transfer/ndz"
)

// writeSize is the most that is written in one call, and a multiple of where all but the first of a region begin: large
// enough for any disk, small enough that an end of the context is not noticed late.
const writeSize = 1 << 20

// writer puts one chunk after the other on the target.
type writer struct {
	in     *Installer
	ctx    context.Context
	rec    *record
	hash   maphash.Hash
	header ndz.Header
}

// chunk writes the regions of a chunk and fills what it describes as free. V1 describes only what lies between its
// regions (§6).
func (w *writer) chunk(src source, h *ndz.Header) error {
	if w.in.cfg.ReadBack {
		w.rec.regions = slices.Clone(h.Regions)
		w.hash.Reset()
		w.hash.SetSeed(w.in.seed)
	}
	at := h.First
	for i, r := range h.Regions {
		if err := w.in.fill(w.ctx, w.in.byteOf(at), int64(r.Start-at)*ndz.SectorSize); err != nil {
			return err
		}
		size := int64(r.Size) * ndz.SectorSize
		if i == len(h.Regions)-1 {
			size -= int64(h.ShortTail())
		}
		if err := w.region(src, w.in.byteOf(r.Start), size); err != nil {
			return err
		}
		at = r.End()
	}
	return w.in.fill(w.ctx, w.in.byteOf(at), int64(h.Last-at)*ndz.SectorSize)
}

// byteOf is where a sector of the unit lies on the target.
func (in *Installer) byteOf(sector uint64) int64 {
	return in.cfg.Offset + int64(sector)*ndz.SectorSize
}

func (w *writer) region(src source, off, size int64) error {
	if b, ok := src.(*buffer); ok {
		for size > 0 {
			n := min(size, writeSize-off%writeSize)
			size -= n
			if err := w.write(off, b.next(int(n)), size == 0); err != nil {
				return err
			}
			off += n
		}
		return nil
	}
	b := w.in.pieces.get()
	defer b.Close()
	for size > 0 {
		piece := b.data[:min(size, int64(len(b.data)))]
		if _, err := io.ReadFull(src, piece); err != nil {
			return fmt.Errorf("install: the chunk changed while it was written to byte %d of the disk: %w", off, err)
		}
		size -= int64(len(piece))
		if err := w.write(off, piece, size == 0); err != nil {
			return err
		}
		off += int64(len(piece))
	}
	return nil
}

// write writes and, for read-back, hashes. last says that the region ends with these bytes.
func (w *writer) write(off int64, p []byte, last bool) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	n, err := w.in.cfg.Target.WriteAt(p, off)
	w.in.written.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return &WriteError{Off: off + int64(n), Len: int64(len(p) - n), Err: err}
	}
	if w.in.cfg.ReadBack {
		w.remember(off, p, last)
	}
	return nil
}

// remember keeps a hash of each piece of p, cut at multiples of readBackSize on the disk.
func (w *writer) remember(off int64, p []byte, last bool) {
	for len(p) > 0 {
		n := min(int64(len(p)), readBackSize-off%readBackSize)
		w.hash.Write(p[:n])
		off, p = off+n, p[n:]
		if off%readBackSize == 0 || last && len(p) == 0 {
			w.rec.hashes = append(w.rec.hashes, w.hash.Sum64())
			w.hash.Reset()
		}
	}
}

// fill makes n bytes of free space what the configuration asks for.
func (in *Installer) fill(ctx context.Context, off, n int64) error {
	if n <= 0 || in.cfg.Fill == Skip && !in.cfg.Discard {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if in.cfg.Discard {
		if err := in.discard(off, n); err != nil || in.cfg.Fill == Skip {
			return err
		}
	}
	if in.cfg.Fill == Zero {
		if err := in.cfg.Target.Zero(off, n); err != nil {
			return &WriteError{Off: off, Len: n, Err: err}
		}
		in.filled.Add(n)
		return nil
	}
	b := in.pieces.get()
	defer b.Close()
	pattern(b.data, in.cfg.Pattern)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := in.cfg.Target.WriteAt(b.data[:min(n, int64(len(b.data)))], off)
		in.filled.Add(int64(k))
		off, n = off+int64(k), n-int64(k)
		if err != nil {
			return &WriteError{Off: off, Len: n, Err: err}
		}
	}
	return nil
}

// pattern fills p, whose length is a multiple of 4.
func pattern(p []byte, v uint32) {
	for i := 0; i+4 <= len(p); i += 4 {
		binary.LittleEndian.PutUint32(p[i:], v)
	}
}
