package xfs

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"sort"
)

const (
	logMagic      = 0xFEEDBABE
	basicBlock    = 512
	logCRC        = 32
	logHeadSize   = 328      // bytes of a record header, with which its checksum is calculated
	logHeadSize32 = 324      // as 32-bit kernels had it
	headerCovers  = 32 << 10 // bytes of a record that each block of its header has the cycle words of
	maxRecord     = 256 << 10
	logWindow     = 8 * maxRecord / basicBlock // basic blocks which may be on their way to the disk at once, in any order
	opUnmount     = 0x20
	opClientLog   = 0xAA
)

// dirty says why the log has to be replayed, or cannot be said not to: "" means that the filesystem was unmounted cleanly.
//
// The log is a ring of basic blocks, each with the number of the round (cycle) it was written in. Where the numbers drop
// is the head. A clean unmount leaves a record of its own as the last one; a log of zeros was never used.
func (fs *filesystem) dirty() (string, error) {
	if fs.logStart == 0 {
		return "its log is on another device, and may hold changes", nil
	}
	l := ring{fs: fs, blocks: fs.logSize / basicBlock}
	head, err := l.findHead()
	if err != nil {
		return "", err
	}
	switch head {
	case allZero:
		return "", nil
	case torn:
		return "its log is torn", nil
	}
	clean, err := l.endsWithUnmount(head)
	if err != nil || clean {
		return "", err
	}
	return "its log holds changes", nil
}

// ring is the log.
type ring struct {
	fs     *filesystem
	blocks uint64
	cycle  uint32 // of the last round
}

const (
	torn    = math.MaxUint64
	allZero = math.MaxUint64 - 1
)

// findHead returns the block behind the last one that was written, in (0, blocks].
func (l *ring) findHead() (uint64, error) {
	if l.blocks < 2 {
		return torn, nil
	}
	first, err := l.cycleAt(0)
	if err != nil {
		return 0, err
	}
	last, err := l.cycleAt(l.blocks - 1)
	if err != nil {
		return 0, err
	}
	l.cycle = first
	head := l.blocks
	switch {
	case first == 0 && last == 0:
		// Nobody writes into the middle of a log: the start stands for the whole.
		if ok, err := l.allOf(0, min(l.blocks, logWindow), 0); err != nil || !ok {
			return torn, err
		}
		return allZero, nil
	case first == last:
	case first > 0 && last == first-1:
		var searchErr error
		head = uint64(sort.Search(int(l.blocks), func(i int) bool {
			c, err := l.cycleAt(uint64(i))
			if err != nil {
				searchErr = err
			}
			return c == last
		}))
		if searchErr != nil {
			return 0, searchErr
		}
	default:
		return torn, nil
	}
	if head < l.blocks && head <= logWindow && first > 1 {
		began, err := l.begunAnew(head, first)
		if err != nil || began > 0 {
			return began, err
		}
	}
	// Blocks around the head must have been written in order, and all of them.
	before := min(head, logWindow)
	if ok, err := l.allOf(head-before, head, first); err != nil || !ok {
		return torn, err
	}
	if ok, err := l.allOf(head, min(l.blocks, head+logWindow), last); err != nil || !ok {
		return torn, err
	}
	if before < logWindow && last > 0 {
		if ok, err := l.allOf(max(head, l.blocks-min(l.blocks, logWindow-before)), l.blocks, last); err != nil || !ok {
			return torn, err
		}
	}
	return head, nil
}

// begunAnew knows the log as xfs_admin, xfs_repair -L and their like leave it: one record of a new round at the start, zeros,
// and from block end on records of the round before. It returns the block behind that record, or 0. A log that was
// used since has no zeros.
func (l *ring) begunAnew(end uint64, cycle uint32) (uint64, error) {
	head := uint64(0)
	for ; head < end; head++ {
		c, err := l.cycleAt(head)
		if err != nil {
			return 0, err
		}
		if c != cycle {
			break
		}
	}
	if head == end {
		return 0, nil
	}
	if ok, err := l.allOf(head, end, 0); err != nil || !ok {
		return 0, err
	}
	if ok, err := l.allOf(end, min(l.blocks, end+logWindow), cycle-1); err != nil || !ok {
		return 0, err
	}
	return head, nil
}

// cycleOf is the round a basic block was written in.
func cycleOf(b []byte) uint32 {
	if c := binary.BigEndian.Uint32(b); c != logMagic {
		return c
	}
	return binary.BigEndian.Uint32(b[4:])
}

func (l *ring) cycleAt(block uint64) (uint32, error) {
	b, err := l.read(block, 1)
	if err != nil {
		return 0, err
	}
	return cycleOf(b), nil
}

// allOf says whether all blocks of [from, to) are of one round.
func (l *ring) allOf(from, to uint64, cycle uint32) (bool, error) {
	for from < to {
		b, err := l.read(from, min(to-from, 2048))
		if err != nil {
			return false, err
		}
		for ; len(b) > 0; b, from = b[basicBlock:], from+1 {
			if cycleOf(b) != cycle {
				return false, nil
			}
		}
	}
	return true, nil
}

// read reads n blocks of the ring.
func (l *ring) read(block, n uint64) ([]byte, error) {
	b := make([]byte, n*basicBlock)
	wrapped := uint64(0)
	if block+n > l.blocks {
		wrapped = (block + n - l.blocks) * basicBlock
	}
	if err := l.fs.read(b[:uint64(len(b))-wrapped], l.fs.logStart+block*basicBlock, "log"); err != nil {
		return nil, err
	}
	if wrapped > 0 {
		if err := l.fs.read(b[uint64(len(b))-wrapped:], l.fs.logStart, "log"); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// endsWithUnmount looks at the last record before the head.
func (l *ring) endsWithUnmount(head uint64) (bool, error) {
	be := binary.BigEndian
	most := min(l.blocks, maxRecord/basicBlock+maxRecord/headerCovers)
	start := (head + l.blocks - most) % l.blocks
	b, err := l.read(start, most)
	if err != nil {
		return false, err
	}
	at := int(most) - 1
	for at >= 0 && be.Uint32(b[at*basicBlock:]) != logMagic {
		at--
	}
	if at < 0 {
		return false, nil
	}
	record := b[at*basicBlock:]
	block := (start + uint64(at)) % l.blocks
	cycle := be.Uint32(record[4:])
	heads := uint64(1)
	if size := uint64(be.Uint32(record[320:])); be.Uint32(record[8:])&2 != 0 && size > headerCovers {
		heads = (size + headerCovers - 1) / headerCovers
	}
	length := uint64(be.Uint32(record[12:]))
	uuid := [16]byte(record[304:])
	switch {
	case length < 16 || (heads+(length+basicBlock-1)/basicBlock)*basicBlock != uint64(len(record)):
		return false, nil // it does not end at the head
	case be.Uint64(record[16:]) != uint64(cycle)<<32|block:
		return false, nil
	case uuid != l.fs.uuid && uuid != [16]byte{}:
		return false, nil
	case be.Uint32(record[40:]) != 1: // operations
		return false, nil
	case !recordChecksum(record, heads, length):
		return false, nil
	}
	// The first word of each block is the cycle on disk; what it was is in the header.
	op := record[heads*basicBlock:]
	return op[8] == opClientLog && op[9]&opUnmount != 0, nil
}

// recordChecksum verifies the CRC-32C of a record, if it has one: mkfs.xfs writes none.
func recordChecksum(record []byte, heads, length uint64) bool {
	want := binary.LittleEndian.Uint32(record[logCRC:])
	if want == 0 {
		return true
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, size := range []uint64{logHeadSize, logHeadSize32} {
		sum := crc32.Update(0, table, record[:logCRC])
		sum = crc32.Update(sum, table, make([]byte, 4))
		sum = crc32.Update(sum, table, record[logCRC+4:size])
		for i := uint64(1); i < heads; i++ { // each further block of the header: cycle and 64 words
			sum = crc32.Update(sum, table, record[i*basicBlock:][:260])
		}
		if crc32.Update(sum, table, record[heads*basicBlock:][:length]) == want {
			return true
		}
	}
	return false
}
