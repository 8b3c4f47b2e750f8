package install

import (
	"context"
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

	mu      sync.Mutex
	chunks  map[int]*record
	records []record // of the chunks that are expected, so that none has to be made while they come
	writers sync.Pool

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

// mostRecords is for how many chunks memory is set aside at once: an image of 32 GiB. The number may be the word of a
// stranger.
const mostRecords = 1 << 15

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
	expected := cfg.Chunks
	if cfg.Manifest != nil {
		expected = len(cfg.Manifest.Chunks)
	}
	expected = max(0, min(expected, mostRecords))
	if err := cfg.checkDiscard(); err != nil {
		return nil, err
	}
	in := &Installer{cfg: cfg, seed: maphash.MakeSeed(), inflater: newInflater(),
		chunks: make(map[int]*record, expected), records: make([]record, expected)}
	in.writers.New = func() any { return &writer{in: in} }
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
	rec := in.claim(index)
	if rec == nil {
		in.duplicates.Add(1)
		return nil
	}
	err := in.install(ctx, index, chunk, rec)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		*rec = record{}
		delete(in.chunks, index)
		return err
	}
	rec.done = true
	in.done.Add(1)
	return nil
}

// claim returns the record of a chunk to whom comes first, nil to others.
func (in *Installer) claim(index int) *record {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.chunks[index] != nil {
		return nil
	}
	rec := &record{}
	if index < len(in.records) {
		rec = &in.records[index]
	}
	in.chunks[index] = rec
	return rec
}

func (in *Installer) install(ctx context.Context, index int, chunk []byte, rec *record) error {
	w := in.writers.Get().(*writer)
	defer in.writers.Put(w)
	h := &w.header
	if err := in.check(index, chunk, h); err != nil {
		return err
	}
	if err := in.checkRoom(int64(h.Last)*ndz.SectorSize - int64(h.ShortTail())); err != nil {
		return err
	}
	rec.described, rec.first, rec.last, rec.tail = h.Described, h.First, h.Last, h.ShortTail()
	src, err := in.data(index, chunk, h, rec)
	if err != nil {
		return err
	}
	defer src.Close()
	w.ctx, w.rec = ctx, rec
	defer func() { w.ctx, w.rec = nil, nil }()
	if err := w.chunk(src, h); err != nil {
		return err
	}
	in.covered.Add(int64(h.Last-h.First)*ndz.SectorSize - int64(rec.tail))
	return nil
}

// check compares the chunk with the manifest and decodes its header.
func (in *Installer) check(index int, chunk []byte, h *ndz.Header) error {
	m := in.cfg.Manifest
	if m != nil {
		if err := m.CheckChunk(index, chunk); err != nil {
			return err
		}
	} else if len(chunk) != ndz.ChunkSize {
		return ndz.Corrupt(index, fmt.Errorf("%w: %d bytes instead of %d", ndz.ErrFormat, len(chunk), ndz.ChunkSize))
	}
	if err := h.Parse(chunk); err != nil {
		return ndz.Corrupt(index, err)
	}
	if m != nil {
		if c := m.Chunks[index]; c.First != h.First || c.Last != h.Last || c.DataSize != h.DataSize() {
			return ndz.Corrupt(index, fmt.Errorf("%w: the header differs from what the manifest says", ndz.ErrFormat))
		}
	}
	return nil
}

// data returns the inflated data, compared with the manifest. That is no repetition of check: the digest of the chunk
// says that what came is what the manifest means, the digest of the data that this machine made of it what the maker of
// the manifest did. A bit that falls over in memory, or a decoder that is wrong, is found here, before the disk is
// touched.
func (in *Installer) data(index int, chunk []byte, h *ndz.Header, rec *record) (source, error) {
	if in.cfg.Manifest == nil {
		return in.inflate(index, chunk, *h, nil)
	}
	src, err := in.inflate(index, chunk, *h, &rec.data)
	if err != nil {
		return nil, err
	}
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
