package ndz

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Compression levels beside the 1 to 9 of zlib.
const (
	DefaultLevel = 4  // usual for images (§3), and what 0 means
	Stored       = -1 // no compression
)

// WriterConfig says how an image is written.
type WriterConfig struct {
	Output  io.Writer
	Level   int         // 1 to 9, in size at most what zlib makes of the same data at that level; 0: DefaultLevel; Stored
	Workers int         // goroutines that compress; 0: one per core. The image does not depend on it
	Version int         // 3, which 0 means; 1: free space around regions is not described; 4: with UUID
	UUID    [16]byte    // V4: the same in all chunks
	Totals  io.WriterAt // V1: the same file as Output; the headers get the number of chunks at the end
}

// check fills in what is left to be chosen, with Level as the compressor counts.
func (cfg *WriterConfig) check() error {
	switch {
	case cfg.Level == 0:
		cfg.Level = DefaultLevel
	case cfg.Level == Stored:
		cfg.Level = 0
	}
	if cfg.Version == 0 {
		cfg.Version = 3
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	switch {
	case cfg.Output == nil:
		return errors.New("write image: no output")
	case cfg.Level < 0 || cfg.Level > 9:
		return fmt.Errorf("write image: compression level %d, must be 1 to 9", cfg.Level)
	case cfg.Version != 1 && cfg.Version != 3 && cfg.Version != 4:
		return fmt.Errorf("write image: version %d, must be 1, 3 or 4", cfg.Version)
	case cfg.Version == 1 && cfg.Totals == nil:
		return errors.New("write image: V1 needs an output that can be positioned: each header holds the number of chunks, which is known at the end")
	}
	return nil
}

// WriterStats say what was written so far.
type WriterStats struct {
	Chunks      int
	Regions     int
	DataBytes   int64 // before compression
	PayloadSize int64 // after compression, without headers and padding
}

// Writer writes an image (§2 to §4). Data comes by Append in the order of the disk; Finish says where the
// unit ends and completes the last chunk. Every Writer must be finished or closed.
type Writer struct {
	cfg   WriterConfig
	piece *piece // being filled by Append
	tail  []byte // the end of the piece before, at most a window
	next  uint64 // first sector that Append may name
	work  chan *piece
	queue chan *piece // the same pieces, in their order
	done  chan struct{}
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
	pool  sync.Pool // *piece

	packer packer
	err    error // of the packer; valid after done is closed
	ended  bool
}

// NewWriter starts a writer.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w := &Writer{
		cfg:   cfg,
		work:  make(chan *piece),
		queue: make(chan *piece, 2*cfg.Workers),
		done:  make(chan struct{}),
		stop:  make(chan struct{}),
	}
	w.pool.New = func() any { return newPiece(engines[cfg.Level].step * SectorSize) }
	comp, err := newCompressor(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("write image: %w", err)
	}
	w.packer = packer{cfg: cfg, comp: comp}
	for range cfg.Workers {
		comp, err := newCompressor(cfg.Level)
		if err != nil {
			return nil, fmt.Errorf("write image: %w", err)
		}
		w.wg.Go(func() {
			for p := range w.work {
				p.compress(comp)
				p.ready <- struct{}{}
			}
		})
	}
	go w.pack()
	return w, nil
}

// pack takes the pieces in their order. It owns the packer until done is closed.
func (w *Writer) pack() {
	defer close(w.done)
	for p := range w.queue {
		<-p.ready
		if w.err == nil {
			if w.err = w.packer.add(p); w.err != nil {
				close(w.stop)
			}
		}
		w.pool.Put(p)
	}
}

// Append adds data for the sectors from start on; its length must be a multiple of [SectorSize]. Sectors must ascend
// from call to call. The data is copied. An error of the output shows up in a later call.
func (w *Writer) Append(start uint64, data []byte) error {
	switch {
	case w.ended:
		return errors.New("write image: already finished")
	case len(data)%SectorSize != 0:
		return fmt.Errorf("write image: %d bytes are not whole sectors", len(data))
	case start < w.next:
		return fmt.Errorf("write image: sector %d comes after sector %d", start, w.next)
	case start+uint64(len(data)/SectorSize) > MaxSector:
		return fmt.Errorf("write image: sector %d is beyond the 32 bits of the format (2 TiB)", MaxSector)
	}
	w.next = start + uint64(len(data)/SectorSize)
	for len(data) > 0 {
		if w.piece == nil {
			w.piece = w.pool.Get().(*piece)
			w.piece.begin(w.tail)
		}
		n := min(len(data), w.piece.room())
		w.piece.append(start, data[:n])
		start, data = start+uint64(n/SectorSize), data[n:]
		if w.piece.room() == 0 {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) flush() error {
	p := w.piece
	w.piece = nil
	w.tail = append(w.tail[:0], p.buf[max(0, len(p.buf)-window):]...)
	select {
	case w.queue <- p:
	case <-w.stop:
		return w.err
	}
	w.work <- p
	return nil
}

// Finish completes the image: the unit ends at sector end, of which the last tail bytes do not belong to it (§5, type
// 6; 0 for whole sectors, and the last sector must have been appended otherwise).
func (w *Writer) Finish(end uint64, tail int) error {
	if w.ended {
		return errors.New("write image: already finished")
	}
	switch {
	case end < w.next || end > MaxSector:
		w.Close()
		return fmt.Errorf("write image: unit ends at sector %d, data at %d", end, w.next)
	case tail != 0 && w.cfg.Version == 1:
		w.Close()
		return errors.New("write image: V1 has no way to say that the last sector is incomplete")
	case tail < 0 || tail >= SectorSize || tail > 0 && end != w.next:
		w.Close()
		return fmt.Errorf("write image: last sector %d without its last %d bytes, data ends at %d", end, tail, w.next)
	}
	var err error
	if w.piece != nil {
		err = w.flush()
	}
	w.Close()
	if err == nil {
		err = w.err
	}
	if err != nil {
		return err
	}
	return w.packer.finish(end, tail)
}

// Close ends the goroutines of a writer that will not be finished. The output is no complete image then.
func (w *Writer) Close() {
	w.once.Do(func() {
		w.ended = true
		close(w.work)
		w.wg.Wait()
		close(w.queue)
		<-w.done
	})
}

// Ends returns the sectors that the chunks end at, in their order: the last one each describes, plus one. It may be
// called after Finish.
func (w *Writer) Ends() []uint64 { return w.packer.ends }

// Stats may be called after Finish.
func (w *Writer) Stats() WriterStats { return w.packer.stats }
