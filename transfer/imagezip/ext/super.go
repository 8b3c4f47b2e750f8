package ext

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"loadnode/transfer/imagezip/free"
)

// Layout of ext2, ext3 and ext4 as far as free space depends on it; all integers little-endian. Names of features are
// those of mke2fs(8) and ext4(5).
const (
	extSuperAt   = 1024   // byte offset of the superblock
	extSuperSize = 1024   // bytes of it
	extMagic     = 0xEF53 // at 0x38

	extStateClean = 0x1 // s_state
	extStateKnown = 0x1 // anything else is an error, or orphans on their way

	compatHasJournal   = 0x4
	compatSparseSuper2 = 0x200

	incompatRecover    = 0x4
	incompatJournalDev = 0x8
	incompatMetaBG     = 0x10
	incompat64bit      = 0x80
	incompatMMP        = 0x100
	incompatCsumSeed   = 0x2000
	// filetype, extents, mmp, flex_bg, ea_inode, dirdata, csum_seed, large_dir, inline_data, encrypt and casefold do not
	// move free space or metadata to where this file would not look for them.
	incompatKnown = 0x2 | incompatRecover | incompatMetaBG | 0x40 | incompat64bit | 0x100 | 0x200 | 0x400 | 0x1000 |
		0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

	roSparseSuper  = 0x1
	roGdtCsum      = 0x10
	roBigalloc     = 0x200
	roMetadataCsum = 0x400
	// Besides those above: large_file, btree_dir, huge_file, dir_nlink, extra_isize, quota, readonly, project,
	// shared_blocks, verity and orphan_present. Snapshots and replicas are not among them.
	roKnown = roSparseSuper | 0x2 | 0x4 | 0x8 | roGdtCsum | 0x20 | 0x40 | 0x100 | roBigalloc | roMetadataCsum | 0x1000 | 0x2000 |
		0x4000 | 0x8000 | 0x10000

	groupBlockUninit = 0x2 // bg_flags: the block bitmap was never written

	maxGroups = 1 << 20 // of a filesystem: the 2 TiB of the image format have 2^18 with blocks of 1 KiB
)

// filesystem is an open ext2, ext3 or ext4 filesystem.
type filesystem struct {
	r io.ReaderAt

	blockSize      uint64 // bytes
	blocks         uint64 // of the filesystem
	firstData      uint64 // block number where group 0 starts: 1 with blocks of 1 KiB, otherwise 0
	blocksPerGroup uint64
	cluster        uint64 // blocks for each bit of a bitmap: more than one with bigalloc
	groups         uint64
	descSize       uint64
	reservedGDT    uint64 // blocks kept for the table to grow
	inodeTable     uint64 // blocks of the inode table of a group
	firstMeta      uint64 // first meta group with its own descriptor block
	superBlock     uint64 // block of the primary superblock
	compat         uint32
	incompat       uint32
	roCompat       uint32
	backups        [2]uint64 // sparse_super2: groups with a backup
	unclean        bool
	label          string
	descsPerBlock  uint64
	descBlocks     uint64 // blocks of the whole descriptor table
	csumSeed       uint32 // of the checksums of metadata_csum
	uuid           [16]byte
	mmpBlock       uint64
	bitmapBytes    uint64 // that the checksum of a bitmap covers
	untrusted      int    // groups saved whole because their descriptor or bitmap cannot be right
	skipBad        bool   // read on when something cannot be read
	unreadable     int    // groups saved whole because they cannot be read
	notes          []string
}

// open reads the superblock of a source of size bytes. found is false if there is none.
func open(r io.ReaderAt, size int64, skipBad bool) (fs *filesystem, found bool, err error) {
	sb := make([]byte, extSuperSize)
	if n, err := r.ReadAt(sb, extSuperAt); n < len(sb) {
		if err == io.EOF {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint16(sb[0x38:]) != extMagic {
		return nil, false, nil
	}
	fs = &filesystem{r: r, skipBad: skipBad, cluster: 1, compat: le.Uint32(sb[0x5C:]), incompat: le.Uint32(sb[0x60:]), roCompat: le.Uint32(sb[0x64:])}
	if le.Uint32(sb[0x4C:]) == 0 { // revision 0 has no features
		fs.compat, fs.incompat, fs.roCompat = 0, 0, 0
	}
	if err := fs.checkFeatures(); err != nil {
		return nil, true, err
	}
	state := le.Uint16(sb[0x3A:])
	fs.unclean = state&extStateClean == 0 || state&^extStateKnown != 0 || fs.incompat&incompatRecover != 0
	fs.label, _, _ = strings.Cut(string(sb[0x78:0x88]), "\x00")
	if fs.compat&compatHasJournal != 0 && le.Uint32(sb[0xE0:]) == 0 {
		fs.notes = append(fs.notes, "its journal is on another device and is not part of the image")
	}
	if err := fs.geometry(sb); err != nil {
		return nil, true, err
	}
	if have := uint64(size) / fs.blockSize; fs.blocks > have {
		return nil, true, fmt.Errorf("%w: it has %d blocks of %d bytes, but the source only has room for %d: is it truncated?",
			free.ErrFilesystem, fs.blocks, fs.blockSize, have)
	}
	if !fs.unclean && !fs.superChecksum(sb) { // what is mounted may not be in step with its checksum
		return nil, true, fmt.Errorf("%w: the checksum of the superblock is wrong: run e2fsck", free.ErrFilesystem)
	}
	return fs, true, fs.checkMMP()
}

// checkMMP looks at the block of multiple mount protection, in which a host that has the filesystem mounted counts.
func (fs *filesystem) checkMMP() error {
	const magic, clean = 0x004D4D50, 0xFF4D4D50
	if fs.incompat&incompatMMP == 0 || fs.unclean {
		return nil
	}
	b := make([]byte, fs.blockSize)
	if fs.mmpBlock <= fs.superBlock || fs.mmpBlock >= fs.blocks {
		return fmt.Errorf("%w: block of multiple mount protection at %d: run e2fsck", free.ErrFilesystem, fs.mmpBlock)
	}
	if err := fs.read(b, fs.mmpBlock, "multiple mount protection"); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(b) != magic || le.Uint32(b[4:]) != clean {
		fs.unclean = true
		fs.notes = append(fs.notes, "a host has it mounted, says its multiple mount protection")
	}
	return nil
}

func (fs *filesystem) checkFeatures() error {
	switch {
	case fs.incompat&incompatJournalDev != 0:
		return fmt.Errorf("%w: it is an external journal (feature journal_dev)", free.ErrFilesystem)
	case fs.incompat&^incompatKnown != 0:
		return fmt.Errorf("%w: unknown incompatible features %#x", free.ErrFilesystem, fs.incompat&^uint32(incompatKnown))
	case fs.roCompat&^uint32(roKnown) != 0:
		return fmt.Errorf("%w: unknown read-only compatible features %#x (0x80: snapshot)", free.ErrFilesystem, fs.roCompat&^uint32(roKnown))
	}
	return nil
}

func (fs *filesystem) geometry(sb []byte) error {
	le := binary.LittleEndian
	shift := le.Uint32(sb[0x18:])
	if shift > 6 {
		return fmt.Errorf("%w: block size of 2^%d KiB", free.ErrFilesystem, shift)
	}
	fs.blockSize = 1024 << shift
	fs.blocks = uint64(le.Uint32(sb[0x04:]))
	fs.descSize = 32
	if fs.incompat&incompat64bit != 0 {
		fs.blocks |= uint64(le.Uint32(sb[0x150:])) << 32
		fs.descSize = uint64(le.Uint16(sb[0xFE:]))
		if fs.descSize < 64 || fs.descSize > 1024 || fs.descSize&(fs.descSize-1) != 0 {
			return fmt.Errorf("%w: group descriptors of %d bytes with feature 64bit", free.ErrFilesystem, fs.descSize)
		}
	}
	fs.superBlock = extSuperAt / fs.blockSize
	fs.firstData = uint64(le.Uint32(sb[0x14:]))
	fs.blocksPerGroup = uint64(le.Uint32(sb[0x20:]))
	bitsPerGroup := fs.blocksPerGroup
	if fs.roCompat&roBigalloc != 0 {
		clusterShift := le.Uint32(sb[0x1C:])
		if clusterShift < shift || clusterShift > 20 {
			return fmt.Errorf("%w: cluster size of 2^%d KiB (feature bigalloc)", free.ErrFilesystem, clusterShift)
		}
		fs.cluster = 1 << (clusterShift - shift)
		bitsPerGroup = uint64(le.Uint32(sb[0x24:]))
		if fs.blocksPerGroup != bitsPerGroup*fs.cluster {
			return fmt.Errorf("%w: groups of %d blocks and %d clusters (feature bigalloc)", free.ErrFilesystem, fs.blocksPerGroup, bitsPerGroup)
		}
	}
	if bitsPerGroup < 8 || bitsPerGroup > 8*fs.blockSize || bitsPerGroup%8 != 0 {
		return fmt.Errorf("%w: %d bits in the bitmap of a group", free.ErrFilesystem, bitsPerGroup)
	}
	if fs.firstData > fs.superBlock || fs.blocks <= fs.firstData || fs.blocks > 1<<48 {
		return fmt.Errorf("%w: %d blocks from block %d on", free.ErrFilesystem, fs.blocks, fs.firstData)
	}
	fs.groups = (fs.blocks - fs.firstData + fs.blocksPerGroup - 1) / fs.blocksPerGroup
	if fs.groups > maxGroups {
		return fmt.Errorf("%w: %d block groups, at most %d are read", free.ErrFilesystem, fs.groups, maxGroups)
	}
	inodeSize := uint64(128)
	if le.Uint32(sb[0x4C:]) != 0 {
		inodeSize = uint64(le.Uint16(sb[0x58:]))
	}
	inodes := uint64(le.Uint32(sb[0x28:]))
	if inodeSize < 128 || inodeSize > fs.blockSize || inodes == 0 || inodes > 8*fs.blockSize {
		return fmt.Errorf("%w: %d inodes of %d bytes in a group", free.ErrFilesystem, inodes, inodeSize)
	}
	fs.inodeTable = (inodes*inodeSize + fs.blockSize - 1) / fs.blockSize
	fs.reservedGDT = uint64(le.Uint16(sb[0xCE:]))
	fs.firstMeta = uint64(le.Uint32(sb[0x104:]))
	fs.mmpBlock = le.Uint64(sb[0x168:])
	fs.bitmapBytes = bitsPerGroup / 8
	copy(fs.uuid[:], sb[0x68:])
	fs.csumSeed = crc32c(^uint32(0), fs.uuid[:])
	if fs.incompat&incompatCsumSeed != 0 {
		fs.csumSeed = le.Uint32(sb[0x270:])
	}
	fs.backups = [2]uint64{uint64(le.Uint32(sb[0x24C:])), uint64(le.Uint32(sb[0x250:]))}
	fs.descsPerBlock = fs.blockSize / fs.descSize
	fs.descBlocks = (fs.groups + fs.descsPerBlock - 1) / fs.descsPerBlock
	if fs.incompat&incompatMetaBG == 0 {
		fs.firstMeta = fs.descBlocks // no meta group has its own
	} else {
		fs.firstMeta = min(fs.firstMeta, fs.descBlocks)
	}
	return nil
}

// kind names the generation of the filesystem by its features, for people.
func (fs *filesystem) kind() string {
	const extents = 0x40
	switch {
	case fs.incompat&(extents|incompat64bit|0x200) != 0:
		return "ext4"
	case fs.compat&compatHasJournal != 0:
		return "ext3"
	}
	return "ext2"
}
