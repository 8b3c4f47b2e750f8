package ndz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
)

const (
	// minRoom is the payload room below which a chunk is closed rather than filled further. It is what a full chunk
	// wastes at most.
	minRoom = 4096
	// zlibTail is what ends a payload: an empty last block and the Adler-32 sum.
	zlibTail = 2 + 4
)

// packer puts compressed pieces into chunks.
type packer struct {
	cfg   WriterConfig
	comp  *compressor
	again []byte // compressed here, because the form in the piece does not fit its place
	chunk []byte // header area and payload so far; nil before the first piece
	head  Header
	data  int64 // bytes of data in the chunk
	adler uint32
	ends  []uint64 // Last of each chunk
	stats WriterStats
}

func (k *packer) room() int { return ChunkSize - len(k.chunk) - zlibTail }

// maxRegions is how many a chunk can describe, with room for one relocation (§2).
func (k *packer) maxRegions() int {
	return (HeaderSize - headerBytes[k.cfg.Version] - relocBytes) / regionBytes
}

// add puts a piece into the chunk and, as far as it does not fit, into the next. The steps of a piece are used as they
// are, but for the place where a chunk ends: there one is compressed again so that it fills the chunk, and what follows
// for the next chunk, where the data it referred to is not.
func (k *packer) add(p *piece) error {
	c := cursor{left: p.regions}
	end := 0
	for i, s := range p.steps {
		begin := end
		end += s.size
		for at := begin; at < end; {
			if k.chunk == nil {
				k.open()
			}
			count := k.maxRegions() - len(k.head.Regions)
			if n := len(k.head.Regions); n > 0 && k.head.Regions[n-1].End() == c.sector() {
				count++
			}
			to := at + int(c.fit(uint64(end-at)/SectorSize, count))*SectorSize
			if to == at {
				if err := k.close(c.sector()); err != nil {
					return err
				}
				continue
			}
			out, adler := p.part(i), s.adler
			if at > begin || to < end || !s.alone && k.data < int64(len(p.before(at, window))) {
				out, adler = k.compress(p, at, to)
			}
			if len(out) > k.room() {
				if k.room() >= minRoom {
					to, out, adler = k.fill(p, at, to, len(out))
				} else {
					to = at
				}
			}
			if to == at {
				if err := k.close(c.sector()); err != nil {
					return err
				}
				continue
			}
			k.head.Regions = c.take(uint64(to-at)/SectorSize, k.head.Regions)
			k.put(out, adler, int64(to-at))
			at = to
		}
	}
	return nil
}

// compress makes the part for bytes at to to of a piece, which may refer to what is in the chunk.
func (k *packer) compress(p *piece, at, to int) ([]byte, uint32) {
	k.comp.start(p.before(at, k.data))
	k.again = k.comp.part(k.again[:0], p.data()[at:to])
	return k.again, adler32.Checksum(p.data()[at:to])
}

// fill finds how much of bytes at to to of a piece, which have size bytes in compressed form, fits the chunk. Nothing
// fits if it returns at.
func (k *packer) fill(p *piece, at, to, size int) (int, []byte, uint32) {
	for range 6 {
		n := (to - at) * (k.room() - 128) / size * 63 / 64 / SectorSize * SectorSize
		n = min(n, to-at-SectorSize)
		if n <= 0 {
			break
		}
		to = at + n
		out, adler := k.compress(p, at, to)
		if len(out) <= k.room() {
			return to, out, adler
		}
		size = len(out)
	}
	return at, nil, 0
}

func (k *packer) open() {
	k.chunk = make([]byte, HeaderSize, ChunkSize)
	// CMF 32 KiB window, FLG as zlib gives it for the level.
	flg := byte(0x5e)
	switch {
	case k.cfg.Level < 2:
		flg = 0x01
	case k.cfg.Level == 6:
		flg = 0x9c
	case k.cfg.Level > 6:
		flg = 0xda
	}
	k.chunk = append(k.chunk, 0x78, flg)
	k.head = Header{Version: k.cfg.Version, UUID: k.cfg.UUID, Index: k.stats.Chunks, First: k.head.Last}
	k.adler, k.data = 1, 0
}

func (k *packer) put(out []byte, adler uint32, n int64) {
	k.chunk = append(k.chunk, out...)
	k.adler = combineAdler(k.adler, adler, n)
	k.data += n
	k.stats.DataBytes += n
}

// close completes the chunk, which describes all sectors before last.
func (k *packer) close(last uint64) error {
	k.chunk = append(k.chunk, 0x03, 0x00)
	k.chunk = binary.BigEndian.AppendUint32(k.chunk, k.adler)
	k.head.Last = last
	k.ends = append(k.ends, last)
	k.head.PayloadSize = len(k.chunk) - HeaderSize
	k.stats.Chunks++
	k.stats.Regions += len(k.head.Regions)
	k.stats.PayloadSize += int64(k.head.PayloadSize)
	chunk := k.chunk[:ChunkSize] // beyond its length it is zero, as made
	k.head.encode(chunk)
	k.chunk = nil
	if _, err := k.cfg.Output.Write(chunk); err != nil {
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
	if err := k.close(end); err != nil || k.cfg.Version != 1 {
		return err
	}
	return writeTotals(k.cfg.Totals, k.stats.Chunks)
}

// writeTotals enters the number of chunks into the header of each (§2), which must be done at the end.
func writeTotals(w io.WriterAt, chunks int) error {
	total := binary.LittleEndian.AppendUint32(nil, uint32(chunks))
	for i := range int64(chunks) {
		if _, err := w.WriteAt(total, i*ChunkSize+totalOffset); err != nil {
			return fmt.Errorf("write image: number of chunks in the header of chunk %d: %w", i, err)
		}
	}
	return nil
}
