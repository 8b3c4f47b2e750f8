package xfs

import (
	"context"
	"encoding/binary"
	"fmt"

	"loadnode/transfer/imagezip/free"
)

const (
	agfMagic   = "XAGF"
	agfSize    = 224
	agfCRC     = 216
	agfVersion = 1

	treeMagic4, treeMagic5 = "ABTB", "AB3B"
	treeHead4, treeHead5   = 16, 56 // bytes before the records of a block
	treeCRC                = 52
	recordSize             = 8 // start and length of a free extent, and a key
	pointerSize            = 4
	maxLevels              = 16
)

// group reads the free space of one allocation group.
type group struct {
	fs     *filesystem
	number uint64
	length uint64 // blocks
	first  uint64 // block of the filesystem it starts with
	next   uint64 // block of the group behind the last free extent
	blocks uint64 // free ones so far
	most   uint64 // length of the longest free extent
	list   *free.List
}

// freeSpace returns the free space of the whole filesystem. Blocks in the free lists (AGFL) and those of the B+trees are
// in no free extent, and so in use. With skipBad, a group that cannot be read is in use as a whole and counted.
func (fs *filesystem) freeSpace(ctx context.Context, skipBad bool) (list *free.List, skipped int, err error) {
	list = &free.List{}
	for n := range fs.groups {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		g := group{fs: fs, number: n, length: fs.groupLength(n), first: n * fs.groupBlocks, next: fs.headBlocks(), list: &free.List{}}
		switch err := g.read(ctx); {
		case err == nil:
		case skipBad && ctx.Err() == nil:
			skipped++
			continue
		default:
			return nil, 0, err
		}
		for _, s := range g.list.Spans() {
			list.Add(s)
		}
	}
	return list, skipped, nil
}

func (g *group) corrupt(format string, args ...any) error {
	return corrupt("allocation group %d: %s: run xfs_repair", g.number, fmt.Sprintf(format, args...))
}

// read checks the header (AGF) and walks the tree.
func (g *group) read(ctx context.Context) error {
	be, fs := binary.BigEndian, g.fs
	b := make([]byte, fs.sectorSize)
	if err := fs.read(b, g.first*fs.blockSize+fs.sectorSize, fmt.Sprintf("header of allocation group %d", g.number)); err != nil {
		return err
	}
	root, levels := uint64(be.Uint32(b[16:])), be.Uint32(b[28:])
	switch {
	case string(b[:4]) != agfMagic || be.Uint32(b[4:]) != agfVersion:
		return g.corrupt("no header (AGF) in sector 1")
	case fs.crc && !checksum(b, agfCRC):
		return g.corrupt("the checksum of its header (AGF) is wrong")
	case fs.crc && [16]byte(b[64:]) != fs.metaUUID:
		return g.corrupt("its header (AGF) is that of another filesystem")
	case uint64(be.Uint32(b[8:])) != g.number || uint64(be.Uint32(b[12:])) != g.length:
		return g.corrupt("its header (AGF) is that of group %d with %d blocks", be.Uint32(b[8:]), be.Uint32(b[12:]))
	case levels < 1 || levels > maxLevels:
		return g.corrupt("a tree of %d levels", levels)
	}
	if err := g.walk(ctx, root, levels-1); err != nil {
		return err
	}
	if blocks, most := uint64(be.Uint32(b[52:])), uint64(be.Uint32(b[56:])); blocks != g.blocks || most != g.most {
		return g.corrupt("its header counts %d free blocks, at most %d together, its tree %d and %d", blocks, most, g.blocks, g.most)
	}
	return nil
}

// walk adds the extents below a block of the tree by start of extents (bnobt). It ends: levels count down, each block
// but an empty root has records, and the starts of extents only grow.
func (g *group) walk(ctx context.Context, at uint64, level uint32) error {
	be := binary.BigEndian
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := g.block(at, level)
	if err != nil {
		return err
	}
	records, head := uint64(be.Uint16(b[6:])), g.headSize()
	if level == 0 {
		for i := range records {
			r := b[head+i*recordSize:]
			if err := g.extent(at, uint64(be.Uint32(r)), uint64(be.Uint32(r[4:]))); err != nil {
				return err
			}
		}
		return nil
	}
	pointers := head + g.maxRecords(level)*recordSize
	for i := range records {
		if key := uint64(be.Uint32(b[head+i*recordSize:])); key < g.next {
			return g.corrupt("block %d of its tree has keys out of order", at)
		}
		if err := g.walk(ctx, uint64(be.Uint32(b[pointers+i*pointerSize:])), level-1); err != nil {
			return err
		}
	}
	return nil
}

// block reads a block of the tree.
func (g *group) block(at uint64, level uint32) ([]byte, error) {
	be, fs := binary.BigEndian, g.fs
	if at < fs.headBlocks() || at >= g.length {
		return nil, g.corrupt("its tree points to block %d of %d", at, g.length)
	}
	b := make([]byte, fs.blockSize)
	where := (g.first + at) * fs.blockSize
	if err := fs.read(b, where, fmt.Sprintf("free space of allocation group %d", g.number)); err != nil {
		return nil, err
	}
	magic := treeMagic4
	if fs.crc {
		magic = treeMagic5
	}
	records := uint64(be.Uint16(b[6:]))
	switch {
	case string(b[:4]) != magic:
		return nil, g.corrupt("block %d is not of its tree", at)
	case fs.crc && !checksum(b, treeCRC):
		return nil, g.corrupt("the checksum of block %d of its tree is wrong", at)
	case fs.crc && (be.Uint64(b[16:]) != where/free.SectorSize || uint64(be.Uint32(b[48:])) != g.number || [16]byte(b[32:]) != fs.metaUUID):
		return nil, g.corrupt("block %d of its tree belongs elsewhere", at)
	case uint32(be.Uint16(b[4:])) != level:
		return nil, g.corrupt("block %d of its tree has level %d instead of %d", at, be.Uint16(b[4:]), level)
	case records > g.maxRecords(level):
		return nil, g.corrupt("block %d of its tree has %d records", at, records)
	case records == 0 && (level > 0 || g.next != fs.headBlocks()):
		return nil, g.corrupt("block %d of its tree is empty", at)
	}
	return b, nil
}

func (g *group) headSize() uint64 {
	if g.fs.crc {
		return treeHead5
	}
	return treeHead4
}

func (g *group) maxRecords(level uint32) uint64 {
	if level == 0 {
		return (g.fs.blockSize - g.headSize()) / recordSize
	}
	return (g.fs.blockSize - g.headSize()) / (recordSize + pointerSize)
}

// extent adds a free extent that block at of the tree names.
func (g *group) extent(at, start, n uint64) error {
	fs := g.fs
	end := start + n
	switch {
	case n == 0 || end > g.length:
		return g.corrupt("block %d of its tree has %d free blocks at %d of %d", at, n, start, g.length)
	case start < g.next:
		return g.corrupt("block %d of its tree has free blocks at %d, which overlap others or the header, or are out of order", at, start)
	case g.first+start < fs.logBlock+fs.logBlocks && g.first+end > fs.logBlock:
		return g.corrupt("block %d of its tree calls the log free", at)
	}
	g.next, g.blocks, g.most = end, g.blocks+n, max(g.most, n)
	per := fs.blockSize / free.SectorSize
	g.list.Add(free.Span{Start: (g.first + start) * per, End: (g.first + end) * per})
	return nil
}
