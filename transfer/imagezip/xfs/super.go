package xfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"strings"

	"loadnode/transfer/imagezip/free"
)

// Layout of XFS as far as free space depends on it (XFS Algorithms & Data Structures, 3rd edition); all integers are
// big-endian but for the checksums. A "basic block" has 512 bytes.
const (
	superMagic = "XFSB"
	superSize  = 264 // bytes that are read here

	minBlock, maxBlock   = 512, 65536
	minSector, maxSector = 512, 32768
	minGroupBlocks       = 64

	versionMask = 0xF
	versionLog2 = 0x400 // sb_versionnum: XLOG version 2

	// Features of version 5. ftype, spinodes, meta_uuid, bigtime, nrext64, exchange-range, parent and metadir do not
	// change how free space is kept.
	incompatNeedsRepair = 0x10
	incompatKnown       = 0x1 | 0x2 | 0x4 | 0x8 | incompatNeedsRepair | 0x20 | 0x40 | 0x80 | 0x100
	roCompatKnown       = 0x1 | 0x2 | 0x4 | 0x8 // finobt, rmapbt, reflink, inobtcount

	superCRC = 224 // byte offset of sb_crc
)

// filesystem is an open XFS.
type filesystem struct {
	r io.ReaderAt

	crc         bool   // version 5
	blockSize   uint64 // bytes
	sectorSize  uint64
	blocks      uint64 // of the filesystem
	groupBlocks uint64 // of an allocation group; the last may have less
	groups      uint64
	groupLog    uint   // bits of a block number that count within the group
	logStart    uint64 // byte; 0: the log is on another device
	logSize     uint64 // bytes
	logBlock    uint64 // first block of the log, counted as free space is
	logBlocks   uint64
	uuid        [16]byte // which the log carries
	metaUUID    [16]byte // which metadata carries
	label       string
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", free.ErrFilesystem, fmt.Sprintf(format, args...))
}

// open reads the superblock of a source of size bytes. found is false if there is none.
func open(r io.ReaderAt, size int64) (fs *filesystem, found bool, err error) {
	sb := make([]byte, superSize)
	if n, err := r.ReadAt(sb, 0); n < len(sb) {
		if err == io.EOF {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("read superblock: %w", err)
	}
	if string(sb[:4]) != superMagic {
		return nil, false, nil
	}
	fs = &filesystem{r: r}
	if err := fs.version(sb); err != nil {
		return nil, true, err
	}
	if err := fs.geometry(sb); err != nil {
		return nil, true, err
	}
	if fs.crc {
		sector := make([]byte, fs.sectorSize)
		if err := fs.read(sector, 0, "superblock"); err != nil {
			return nil, true, err
		}
		if !checksum(sector, superCRC) {
			return nil, true, corrupt("the checksum of the superblock is wrong: run xfs_repair")
		}
	}
	if have := uint64(size) / fs.blockSize; fs.blocks > have {
		return nil, true, corrupt("it has %d blocks of %d bytes, but the source only has room for %d: is it truncated?", fs.blocks, fs.blockSize, have)
	}
	return fs, true, nil
}

// version refuses what this package does not understand.
func (fs *filesystem) version(sb []byte) error {
	be := binary.BigEndian
	copy(fs.uuid[:], sb[32:])
	fs.metaUUID = fs.uuid
	switch v := be.Uint16(sb[100:]) & versionMask; v {
	case 4:
	case 5:
		fs.crc = true
		ro, incompat := be.Uint32(sb[212:]), be.Uint32(sb[216:])
		switch {
		case incompat&^incompatKnown != 0:
			return corrupt("unknown incompatible features %#x", incompat&^uint32(incompatKnown))
		case ro&^roCompatKnown != 0:
			return corrupt("unknown read-only compatible features %#x", ro&^uint32(roCompatKnown))
		case incompat&incompatNeedsRepair != 0:
			return corrupt("it is marked as in need of xfs_repair")
		}
		if incompat&0x4 != 0 { // the UUID was changed after the filesystem was made
			copy(fs.metaUUID[:], sb[248:])
		}
	default:
		return corrupt("version %d of XFS", v)
	}
	switch {
	case sb[126] != 0:
		return corrupt("mkfs.xfs or xfs_growfs was interrupted (sb_inprogress)")
	case be.Uint64(sb[16:]) != 0:
		return corrupt("part of its files is on a realtime device, which would be missing")
	}
	return nil
}

// geometry reads sizes and checks them against each other.
func (fs *filesystem) geometry(sb []byte) error {
	be := binary.BigEndian
	fs.blockSize, fs.sectorSize = uint64(be.Uint32(sb[4:])), uint64(be.Uint16(sb[102:]))
	power := func(n uint64, log byte, least, most uint64) bool {
		return n >= least && n <= most && bits.OnesCount64(n) == 1 && bits.TrailingZeros64(n) == int(log)
	}
	if !power(fs.blockSize, sb[120], minBlock, maxBlock) || !power(fs.sectorSize, sb[121], minSector, min(maxSector, fs.blockSize)) {
		return corrupt("blocks of %d bytes and sectors of %d", fs.blockSize, fs.sectorSize)
	}
	fs.blocks, fs.groupBlocks, fs.groups = be.Uint64(sb[8:]), uint64(be.Uint32(sb[84:])), uint64(be.Uint32(sb[88:]))
	fs.groupLog = uint(sb[124])
	switch {
	case fs.blocks > 1<<48 || fs.groupBlocks < minGroupBlocks || fs.groups == 0:
	case (fs.blocks+fs.groupBlocks-1)/fs.groupBlocks != fs.groups:
	case fs.groupLog > 32 || fs.groupBlocks > 1<<fs.groupLog:
	case fs.groupLength(fs.groups-1) < fs.headBlocks():
	default:
		fs.label, _, _ = strings.Cut(string(sb[108:120]), "\x00")
		return fs.logGeometry(be.Uint64(sb[48:]), uint64(be.Uint32(sb[96:])))
	}
	return corrupt("%d blocks in %d allocation groups of %d", fs.blocks, fs.groups, fs.groupBlocks)
}

// logGeometry finds the internal log. start is a filesystem block number: group and block within it.
func (fs *filesystem) logGeometry(start, blocks uint64) error {
	if start == 0 {
		return nil
	}
	group, block := start>>fs.groupLog, start&(1<<fs.groupLog-1)
	if group >= fs.groups || blocks == 0 || block < fs.headBlocks() || block+blocks > fs.groupLength(group) {
		return corrupt("a log of %d blocks at block %d of allocation group %d", blocks, block, group)
	}
	fs.logBlock, fs.logBlocks = group*fs.groupBlocks+block, blocks
	fs.logStart, fs.logSize = fs.logBlock*fs.blockSize, blocks*fs.blockSize
	return nil
}

// headBlocks is the number of blocks that superblock, AGF, AGI and AGFL take at the start of each group, a sector each.
func (fs *filesystem) headBlocks() uint64 { return (4*fs.sectorSize + fs.blockSize - 1) / fs.blockSize }

// groupLength is the number of blocks of a group.
func (fs *filesystem) groupLength(g uint64) uint64 {
	return min(fs.groupBlocks, fs.blocks-g*fs.groupBlocks)
}

func (fs *filesystem) read(p []byte, at uint64, what string) error {
	if n, err := fs.r.ReadAt(p, int64(at)); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s at byte %d: %w", what, at, err)
	}
	return nil
}

// checksum verifies the CRC-32C at an offset of a piece of metadata.
func checksum(b []byte, at int) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	sum = crc32.Update(sum, table, b[at+4:])
	return sum == binary.LittleEndian.Uint32(b[at:])
}
