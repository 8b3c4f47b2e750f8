package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"loadnode/transfer/ndz"
)

// Installer puts chunks on a target. Its methods may be called from several goroutines at once, except Finish.
type Installer struct {
	cfg  Config
	seed maphash.Seed
	inflater

	mu     sync.Mutex
	chunks map[int]*record

	done, duplicates         atomic.Int64
	written, filled, covered atomic.Int64
}

// record is what the installer remembers of a chunk.
type record struct {
	done        bool
	described   bool
	first, last uint64
	tail        int
	data        ndz.Digest
	regions     []ndz.Region // only for read-back
	hashes      []uint64     // only for read-back: of each piece of each region
}

// New checks the configuration. With a manifest it also checks that the image has room.
func New(cfg Config) (*Installer, error) {
	if cfg.Target == nil {
		return nil, errors.New("install: no target")
	}
	if cfg.Offset < 0 || cfg.Limit < 0 {
		return nil, fmt.Errorf("install: slice at byte %d with %d bytes", cfg.Offset, cfg.Limit)
	}
	if cfg.Fill < Skip || cfg.Fill > Pattern {
		return nil, fmt.Errorf("install: unknown fill %d", cfg.Fill)
	}
	in := &Installer{cfg: cfg, seed: maphash.MakeSeed(), inflater: newInflater(),
		chunks: make(map[int]*record)}
	if m := cfg.Manifest; m != nil {
		if err := m.Validate(); err != nil {
			return nil, err
		}
		if err := in.checkRoom(m.Bytes()); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// room is the number of bytes the unit may have, -1 for no limit.
func (in *Installer) room() int64 {
	room := int64(-1)
	if in.cfg.Target.Fixed() {
		room = max(0, in.cfg.Target.Size()-in.cfg.Offset)
	}
	if in.cfg.Limit > 0 && (room < 0 || in.cfg.Limit < room) {
		room = in.cfg.Limit
	}
	return room
}

func (in *Installer) checkRoom(need int64) error {
	if room := in.room(); room >= 0 && need > room {
		return fmt.Errorf("%w: it describes %d bytes, there is room for %d", ErrTooLarge, need, room)
	}
	return nil
}

// Install checks a chunk and writes it. A [*ndz.CorruptError] means that nothing of it was written and that it may be
// tried again with other bytes; a [*WriteError] is final. A chunk that was installed before, or is being installed, is
// left alone. index counts from 0 in the image file.
func (in *Installer) Install(ctx context.Context, index int, chunk []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if index < 0 || index >= ndz.MaxChunks {
		return fmt.Errorf("install: chunk number %d", index)
	}
	if !in.claim(index) {
		in.duplicates.Add(1)
		return nil
	}
	rec, err := in.install(ctx, index, chunk)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		delete(in.chunks, index)
		return err
	}
	rec.done = true
	in.chunks[index] = rec
	in.done.Add(1)
	return nil
}

func (in *Installer) claim(index int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.chunks[index] != nil {
		return false
	}
	in.chunks[index] = &record{}
	return true
}

func (in *Installer) install(ctx context.Context, index int, chunk []byte) (*record, error) {
	h, err := in.check(index, chunk)
	if err != nil {
		return nil, err
	}
	if err := in.checkRoom(int64(h.Last)*ndz.SectorSize - int64(h.ShortTail())); err != nil {
		return nil, err
	}
	rec := &record{described: h.Described, first: h.First, last: h.Last, tail: h.ShortTail()}
	src, err := in.data(index, chunk, h, rec)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	w := writer{in: in, ctx: ctx, rec: rec}
	if err := w.chunk(src, h); err != nil {
		return nil, err
	}
	in.covered.Add(int64(h.Last-h.First)*ndz.SectorSize - int64(rec.tail))
	return rec, nil
}

// check compares the chunk with the manifest and decodes its header.
func (in *Installer) check(index int, chunk []byte) (ndz.Header, error) {
	m := in.cfg.Manifest
	if m != nil {
		if err := m.CheckChunk(index, chunk); err != nil {
			return ndz.Header{}, err
		}
	} else if len(chunk) != ndz.ChunkSize {
		return ndz.Header{}, ndz.Corrupt(index, fmt.Errorf("%w: %d bytes instead of %d", ndz.ErrFormat, len(chunk), ndz.ChunkSize))
	}
	h, err := ndz.ParseHeader(chunk)
	if err != nil {
		return h, ndz.Corrupt(index, err)
	}
	if m != nil {
		if c := m.Chunks[index]; c.First != h.First || c.Last != h.Last || c.DataSize != h.DataSize() {
			return h, ndz.Corrupt(index, fmt.Errorf("%w: the header differs from what the manifest says", ndz.ErrFormat))
		}
	}
	return h, nil
}

// data returns the inflated data, compared with the manifest.
func (in *Installer) data(index int, chunk []byte, h ndz.Header, rec *record) (source, error) {
	if in.cfg.Manifest == nil {
		return in.inflate(index, chunk, h, nil)
	}
	sum := sha256.New()
	src, err := in.inflate(index, chunk, h, sum)
	if err != nil {
		return nil, err
	}
	rec.data = ndz.Digest(sum.Sum(nil))
	if want := in.cfg.Manifest.Chunks[index].DataSHA256; rec.data != want {
		src.Close()
		return nil, ndz.Corrupt(index, fmt.Errorf("it inflates to data with SHA-256 %s, the manifest says %s (is the memory of this machine sound?)",
			rec.data, want))
	}
	return src, nil
}

// Stats returns the counters. It is cheap and may be called at any time.
func (in *Installer) Stats() Stats {
	return Stats{
		Chunks:       int(in.done.Load()),
		Duplicates:   int(in.duplicates.Load()),
		BytesWritten: in.written.Load(),
		BytesFilled:  in.filled.Load(),
		BytesCovered: in.covered.Load(),
	}
}
