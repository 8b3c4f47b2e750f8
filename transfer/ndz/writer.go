package ndz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

const (
	// pieceBytes is how much data is compressed at once: pieces are compressed on all cores, each by itself, and then
	// packed into chunks in their order. The result does not depend on the number of cores.
	pieceBytes = 256 << 10
	// minRoom is the payload room below which a chunk is closed rather than filled with a part of a piece (§3).
	minRoom = 8192
	// maxRegions of a V3 chunk, with room for one relocation (§2).
	maxRegions = (HeaderSize - 36 - relocBytes) / regionBytes
)

// Compression levels beside the 1 to 9 of zlib.
const (
	DefaultLevel = 4  // usual for images (§3), and what 0 means
	Stored       = -1 // no compression
)

// WriterConfig says how an image is written.
type WriterConfig struct {
	Output  io.Writer
	Level   int // 1 to 9; 0: DefaultLevel; Stored
	Workers int // goroutines that compress; 0: one per core
}

// WriterStats say what was written so far.
type WriterStats struct {
	Chunks      int
	Regions     int
	DataBytes   int64 // before compression
	PayloadSize int64 // after compression, without headers and padding
}

// Writer writes an image as V3 chunks (§2 to §4). Data comes by Append in the order of the disk; Finish says where the
// unit ends and completes the last chunk. Every Writer must be finished or closed.
type Writer struct {
	cfg   WriterConfig
	piece *piece // being filled by Append
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
	if cfg.Output == nil {
		return nil, errors.New("write image: no output")
	}
	level := cfg.Level // as the compressor counts
	switch {
	case level == 0:
		level = DefaultLevel
	case level == Stored:
		level = 0
	case level < 0 || level > 9:
		return nil, fmt.Errorf("write image: compression level %d, must be 1 to 9", level)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	w := &Writer{
		cfg:   cfg,
		work:  make(chan *piece),
		queue: make(chan *piece, 2*cfg.Workers),
		done:  make(chan struct{}),
		stop:  make(chan struct{}),
	}
	w.pool.New = func() any { return newPiece() }
	comp, err := newCompressor(level)
	if err != nil {
		return nil, fmt.Errorf("write image: %w", err)
	}
	w.packer = packer{w: cfg.Output, level: level, comp: comp, split: newPiece()}
	for range cfg.Workers {
		comp, err := newCompressor(level)
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
		p.reset()
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
		}
		n := min(len(data), pieceBytes-len(w.piece.data))
		w.piece.append(start, data[:n])
		start, data = start+uint64(n/SectorSize), data[n:]
		if len(w.piece.data) == pieceBytes {
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

// Stats may be called after Finish.
func (w *Writer) Stats() WriterStats { return w.packer.stats }

// piece is some data on its way into chunks: what sectors it belongs to, and its compressed form.
type piece struct {
	regions []Region
	data    []byte
	out     []byte // deflate blocks, ended by a flush so that others can follow
	adler   uint32
	ready   chan struct{}
}

func newPiece() *piece {
	return &piece{data: make([]byte, 0, pieceBytes), ready: make(chan struct{}, 1)}
}

func (p *piece) reset() {
	p.regions, p.data, p.out = p.regions[:0], p.data[:0], p.out[:0]
}

func (p *piece) append(start uint64, data []byte) {
	p.regions = join(p.regions, Region{Start: start, Size: uint64(len(data) / SectorSize)})
	p.data = append(p.data, data...)
}

// join adds a region behind the others, to the last one if they touch.
func join(list []Region, r Region) []Region {
	if n := len(list); n > 0 && list[n-1].End() == r.Start {
		list[n-1].Size += r.Size
		return list
	}
	return append(list, r)
}

// cut moves the first sectors of the piece into head.
func (p *piece) cut(sectors uint64, head *piece) {
	head.reset()
	head.data = append(head.data, p.data[:sectors*SectorSize]...)
	p.data = p.data[:copy(p.data, p.data[sectors*SectorSize:])]
	k := 0
	for sectors > 0 {
		r := &p.regions[k]
		n := min(sectors, r.Size)
		head.regions = join(head.regions, Region{Start: r.Start, Size: n})
		r.Start, r.Size, sectors = r.Start+n, r.Size-n, sectors-n
		if r.Size == 0 {
			k++
		}
	}
	p.regions = p.regions[:copy(p.regions, p.regions[k:])]
}

// packer puts compressed pieces into chunks.
type packer struct {
	w     io.Writer
	level int
	comp  *compressor
	split *piece
	chunk []byte // header area and payload so far; nil before the first piece
	head  Header
	adler uint32
	stats WriterStats
}

// zlibTail is what ends a payload: an empty last block and the Adler-32 sum.
const zlibTail = 2 + 4

func (k *packer) room() int { return ChunkSize - len(k.chunk) - zlibTail }

func (k *packer) add(p *piece) error {
	for len(p.data) > 0 {
		if k.chunk == nil {
			k.open()
		}
		// A region table that is too short cuts the piece at a region, a payload that is too short at a sector.
		free := maxRegions - len(k.head.Regions)
		if n := len(k.head.Regions); n > 0 && k.head.Regions[n-1].End() == p.regions[0].Start {
			free++
		}
		switch {
		case free == 0:
			if err := k.close(p.regions[0].Start); err != nil {
				return err
			}
		case len(p.regions) > free:
			var sectors uint64
			for _, r := range p.regions[:free] {
				sectors += r.Size
			}
			p.cut(sectors, k.split)
			k.split.compress(k.comp)
			p.compress(k.comp)
			if err := k.add(k.split.detach(k)); err != nil {
				return err
			}
		case len(p.out) <= k.room():
			k.put(p)
			return nil
		case k.room() < minRoom || !k.fill(p):
			if err := k.close(p.regions[0].Start); err != nil {
				return err
			}
		}
	}
	return nil
}

// detach gives the packer another piece for the next split, because this one is still in use.
func (p *piece) detach(k *packer) *piece {
	k.split = newPiece()
	return p
}

// fill puts as much of the piece into the chunk as has room, and compresses the rest anew. It reports false if nothing
// was put.
func (k *packer) fill(p *piece) bool {
	sectors := uint64(len(p.data) / SectorSize)
	guess := sectors * uint64(k.room()) / uint64(len(p.out)) * 31 / 32
	for range 4 {
		if guess == 0 || guess >= sectors {
			return false
		}
		k.split.reset()
		k.split.data = append(k.split.data, p.data[:guess*SectorSize]...)
		k.split.compress(k.comp)
		if len(k.split.out) <= k.room() {
			out, adler := append([]byte(nil), k.split.out...), k.split.adler
			p.cut(guess, k.split)
			k.split.out, k.split.adler = append(k.split.out[:0], out...), adler
			k.put(k.split)
			p.compress(k.comp)
			return true
		}
		guess = guess * 7 / 8
	}
	return false
}

func (k *packer) open() {
	k.chunk = make([]byte, HeaderSize, ChunkSize)
	// CMF 32 KiB window, FLG as zlib gives it for the level.
	flg := byte(0x5e)
	switch {
	case k.level < 2:
		flg = 0x01
	case k.level == 6:
		flg = 0x9c
	case k.level > 6:
		flg = 0xda
	}
	k.chunk = append(k.chunk, 0x78, flg)
	k.head = Header{Index: k.stats.Chunks, First: k.head.Last}
	k.adler = 1
}

func (k *packer) put(p *piece) {
	for _, r := range p.regions {
		k.head.Regions = join(k.head.Regions, r)
	}
	k.chunk = append(k.chunk, p.out...)
	k.adler = combineAdler(k.adler, p.adler, int64(len(p.data)))
	k.stats.DataBytes += int64(len(p.data))
}

// close completes the chunk, which describes all sectors before last.
func (k *packer) close(last uint64) error {
	k.chunk = append(k.chunk, 0x03, 0x00)
	k.chunk = binary.BigEndian.AppendUint32(k.chunk, k.adler)
	k.head.Last = last
	k.head.PayloadSize = len(k.chunk) - HeaderSize
	k.stats.Chunks++
	k.stats.Regions += len(k.head.Regions)
	k.stats.PayloadSize += int64(k.head.PayloadSize)
	chunk := k.chunk[:ChunkSize] // beyond its length it is zero, as made
	k.head.encode(chunk)
	k.chunk = nil
	if _, err := k.w.Write(chunk); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

func (k *packer) finish(end uint64, tail int) error {
	if k.chunk == nil {
		return errors.New("write image: nothing to write: no sector is in use")
	}
	if tail > 0 {
		k.head.Relocs = []Reloc{{Type: relocShort, Sector: uint32(end - 1), Size: uint32(SectorSize - tail)}}
	}
	return k.close(end)
}
