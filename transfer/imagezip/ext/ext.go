package ext

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
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
	extStateError = 0x2

	compatSparseSuper2 = 0x200

	incompatRecover    = 0x4
	incompatJournalDev = 0x8
	incompatMetaBG     = 0x10
	incompat64bit      = 0x80
	// filetype, extents, mmp, flex_bg, ea_inode, dirdata, csum_seed, large_dir, inline_data, encrypt and casefold do not
	// move free space or metadata to where this file would not look for them.
	incompatKnown = 0x2 | incompatRecover | incompatMetaBG | 0x40 | incompat64bit | 0x100 | 0x200 | 0x400 | 0x1000 |
		0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

	roSparseSuper  = 0x1
	roGdtCsum      = 0x10
	roSnapshot     = 0x80
	roBigalloc     = 0x200
	roMetadataCsum = 0x400

	groupBlockUninit = 0x2 // bg_flags: the block bitmap was never written

	maxGroups = 1 << 20 // of a filesystem: the 2 TiB of the image format have 2^18 with blocks of 1 KiB
)

// filesystem is an open ext2, ext3 or ext4 filesystem.
type filesystem struct {
	r io.ReaderAt

	blockSize       uint64 // bytes
	blocks          uint64 // of the filesystem
	firstData       uint64 // block number where group 0 starts: 1 with blocks of 1 KiB, otherwise 0
	blocksPerGroup  uint64
	cluster         uint64 // blocks for each bit of a bitmap: more than one with bigalloc
	groups          uint64
	descSize        uint64
	reservedGDT     uint64 // blocks kept for the table to grow
	inodeTable      uint64 // blocks of the inode table of a group
	firstMeta       uint64 // first meta group with its own descriptor block
	superBlock      uint64 // block of the primary superblock
	compat          uint32
	incompat        uint32
	roCompat        uint32
	backups         [2]uint64 // sparse_super2: groups with a backup
	state           uint16
	unclean         bool
	label           string
	descsPerBlock   uint64
	descBlocks      uint64 // blocks of the whole descriptor table
	untrustedGroups int    // groups saved whole because their descriptor contradicts itself
}

// readExt reads the superblock of a source of size bytes. found is false if there is none.
func readExt(r io.ReaderAt, size int64) (fs *filesystem, found bool, err error) {
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
	fs = &filesystem{r: r, cluster: 1, compat: le.Uint32(sb[0x5C:]), incompat: le.Uint32(sb[0x60:]), roCompat: le.Uint32(sb[0x64:])}
	if le.Uint32(sb[0x4C:]) == 0 { // revision 0 has no features
		fs.compat, fs.incompat, fs.roCompat = 0, 0, 0
	}
	if err := fs.checkFeatures(); err != nil {
		return nil, true, err
	}
	fs.state = le.Uint16(sb[0x3A:])
	fs.unclean = fs.state&extStateClean == 0 || fs.state&extStateError != 0 || fs.incompat&incompatRecover != 0
	fs.label = strings.TrimRight(string(sb[0x78:0x88]), "\x00")
	if err := fs.geometry(sb); err != nil {
		return nil, true, err
	}
	if have := uint64(size) / fs.blockSize; fs.blocks > have {
		return nil, true, fmt.Errorf("%w: it has %d blocks of %d bytes, but the source only has room for %d: is it truncated?",
			free.ErrFilesystem, fs.blocks, fs.blockSize, have)
	}
	return fs, true, nil
}

func (fs *filesystem) checkFeatures() error {
	switch {
	case fs.incompat&incompatJournalDev != 0:
		return fmt.Errorf("%w: it is an external journal (feature journal_dev)", free.ErrFilesystem)
	case fs.incompat&^incompatKnown != 0:
		return fmt.Errorf("%w: unknown incompatible features %#x", free.ErrFilesystem, fs.incompat&^uint32(incompatKnown))
	case fs.roCompat&roSnapshot != 0:
		return fmt.Errorf("%w: feature snapshot", free.ErrFilesystem)
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
	fs.backups = [2]uint64{uint64(le.Uint32(sb[0x24C:])), uint64(le.Uint32(sb[0x250:]))}
	fs.descsPerBlock = fs.blockSize / fs.descSize
	fs.descBlocks = (fs.groups + fs.descsPerBlock - 1) / fs.descsPerBlock
	if fs.incompat&incompatMetaBG == 0 {
		fs.firstMeta = fs.descBlocks // no meta group has its own
	} else {
		fs.reservedGDT = 0
		fs.firstMeta = min(fs.firstMeta, fs.descBlocks)
	}
	return nil
}

// hasSuper says whether a group starts with a superblock or a backup of it.
func (fs *filesystem) hasSuper(g uint64) bool {
	switch {
	case g == 0:
		return true
	case fs.compat&compatSparseSuper2 != 0:
		return g == fs.backups[0] || g == fs.backups[1]
	case fs.roCompat&roSparseSuper == 0 || g == 1:
		return true
	}
	return isPower(g, 3) || isPower(g, 5) || isPower(g, 7)
}

func isPower(g, base uint64) bool {
	for g > 1 && g%base == 0 {
		g /= base
	}
	return g == 1
}

// groupStart is the first block of a group.
func (fs *filesystem) groupStart(g uint64) uint64 { return fs.firstData + g*fs.blocksPerGroup }

// groupEnd is the first block behind a group.
func (fs *filesystem) groupEnd(g uint64) uint64 { return min(fs.blocks, fs.groupStart(g+1)) }

// blocksSpan is a run of blocks in sectors, cut at the end of the filesystem.
func (fs *filesystem) blocksSpan(first, n uint64) free.Span {
	per := fs.blockSize / free.SectorSize
	return free.Span{Start: min(first, fs.blocks) * per, End: min(first+n, fs.blocks) * per}
}

// headSpan covers superblock, descriptors and the room kept for them at the start of a group. It is empty for most.
func (fs *filesystem) headSpan(g uint64) free.Span {
	start, n := fs.groupStart(g), uint64(0)
	if fs.hasSuper(g) {
		n = 1
		if g == 0 { // with bigalloc and blocks of 1 KiB, group 0 starts one block before its superblock
			n = fs.superBlock - start + 1
		}
	}
	meta := g / fs.descsPerBlock
	switch {
	case meta < fs.firstMeta:
		if n > 0 {
			n += fs.firstMeta + fs.reservedGDT
		}
	case g%fs.descsPerBlock <= 1 || g%fs.descsPerBlock == fs.descsPerBlock-1:
		n++
	}
	return fs.blocksSpan(start, n)
}

// descBlock is where a block of the descriptor table lies.
func (fs *filesystem) descBlock(i uint64) uint64 {
	if i < fs.firstMeta {
		return fs.superBlock + 1 + i
	}
	g := i * fs.descsPerBlock
	at := fs.groupStart(g)
	switch {
	case g == 0:
		at = fs.superBlock + 1
	case fs.hasSuper(g):
		at++
	}
	return at
}

// group is a decoded descriptor.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64
	free                                 uint64 // clusters
	uninit                               bool
}

// descriptors calls f for each group in order.
func (fs *filesystem) descriptors(f func(g uint64, d group) error) error {
	block := make([]byte, fs.blockSize)
	le := binary.LittleEndian
	for g := range fs.groups {
		if k := g % fs.descsPerBlock; k == 0 {
			if err := fs.read(block, fs.descBlock(g/fs.descsPerBlock), "group descriptors"); err != nil {
				return err
			}
		}
		b := block[g%fs.descsPerBlock*fs.descSize:][:fs.descSize]
		d := group{
			blockBitmap: uint64(le.Uint32(b)),
			inodeBitmap: uint64(le.Uint32(b[4:])),
			inodeTable:  uint64(le.Uint32(b[8:])),
			free:        uint64(le.Uint16(b[0xC:])),
		}
		if fs.descSize >= 64 {
			d.blockBitmap |= uint64(le.Uint32(b[0x20:])) << 32
			d.inodeBitmap |= uint64(le.Uint32(b[0x24:])) << 32
			d.inodeTable |= uint64(le.Uint32(b[0x28:])) << 32
			d.free |= uint64(le.Uint16(b[0x2C:])) << 16
		}
		// Without checksums of the descriptors the flags have no meaning.
		if fs.roCompat&(roGdtCsum|roMetadataCsum) != 0 {
			d.uninit = le.Uint16(b[0x12:])&groupBlockUninit != 0
		}
		for _, at := range []uint64{d.blockBitmap, d.inodeBitmap, d.inodeTable} {
			if at < fs.firstData || at >= fs.blocks {
				return fmt.Errorf("%w: group %d has metadata at block %d, the filesystem has %d blocks: run e2fsck", free.ErrFilesystem, g, at, fs.blocks)
			}
		}
		if d.inodeTable+fs.inodeTable > fs.blocks {
			return fmt.Errorf("%w: the inode table of group %d ends behind the filesystem: run e2fsck", free.ErrFilesystem, g)
		}
		if err := f(g, d); err != nil {
			return err
		}
	}
	return nil
}

func (fs *filesystem) read(p []byte, block uint64, what string) error {
	if n, err := fs.r.ReadAt(p, int64(block*fs.blockSize)); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s at block %d: %w", what, block, err)
	}
	return nil
}

// metadata returns the spans of everything that is not file content: superblocks and descriptors with their backups,
// bitmaps and inode tables, ascending and merged. They are always saved, whatever the bitmaps say: the bitmap of an
// uninitialised group was never written and does not show them (§8.4).
func (fs *filesystem) metadata() ([]free.Span, error) {
	var list []free.Span
	err := fs.descriptors(func(g uint64, d group) error {
		for _, s := range []free.Span{fs.headSpan(g), fs.blocksSpan(d.blockBitmap, 1), fs.blocksSpan(d.inodeBitmap, 1),
			fs.blocksSpan(d.inodeTable, fs.inodeTable)} {
			if s.Start == s.End {
				continue
			}
			if n := len(list); n > 0 && list[n-1].Start <= s.Start && s.Start <= list[n-1].End {
				list[n-1].End = max(list[n-1].End, s.End)
				continue
			}
			list = append(list, s)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return free.Merge(list), nil
}

// freeSpace returns the free space of the filesystem.
func (fs *filesystem) freeSpace() (*free.List, error) {
	metadata, err := fs.metadata()
	if err != nil {
		return nil, err
	}
	var all free.List
	bitmap := make([]byte, fs.blockSize)
	err = fs.descriptors(func(g uint64, d group) error {
		start, end := fs.groupStart(g), fs.groupEnd(g)
		var list free.List
		if d.uninit {
			list.Add(fs.blocksSpan(start, end-start))
		} else {
			if err := fs.read(bitmap, d.blockBitmap, fmt.Sprintf("block bitmap of group %d", g)); err != nil {
				return err
			}
			fs.clearBits(bitmap, start, end, &list)
		}
		list.Subtract(free.Within(metadata, fs.blocksSpan(start, end-start)))
		// What is counted must be what the filesystem counts. If not, nothing can be concluded about the group, and all
		// of it is saved.
		clusters, n := fs.wholeClusters(list.Spans())
		if n != d.free {
			fs.untrustedGroups++
			return nil
		}
		for _, s := range clusters {
			all.Add(s)
		}
		return nil
	})
	return &all, err
}

// clearBits adds the clear bits of a bitmap, each a cluster of blocks.
func (fs *filesystem) clearBits(bitmap []byte, start, end uint64, list *free.List) {
	n := (end - start + fs.cluster - 1) / fs.cluster
	for i := uint64(0); i < n; {
		b := bitmap[i/8] >> (i % 8)
		if b&1 == 1 {
			i += uint64(bits.TrailingZeros8(^b))
			continue
		}
		run := min(uint64(bits.TrailingZeros8(b)), 8-i%8, n-i)
		list.Add(fs.blocksSpan(start+i*fs.cluster, min(run*fs.cluster, end-start-i*fs.cluster)))
		i += run
	}
}

// wholeClusters leaves out of free spans what belongs to a cluster that is partly in use, and counts the clusters.
func (fs *filesystem) wholeClusters(spans []free.Span) ([]free.Span, uint64) {
	sectors := fs.blockSize / free.SectorSize
	per, base, end := sectors*fs.cluster, fs.firstData*sectors, fs.blocks*sectors
	var out []free.Span
	var n uint64
	for _, s := range spans {
		first := (s.Start - base + per - 1) / per
		last := (s.End - base) / per
		if s.End == end { // the end of the filesystem may cut the last cluster
			last = (s.End - base + per - 1) / per
		}
		if last > first {
			out = append(out, free.Span{Start: base + first*per, End: min(base+last*per, end)})
			n += last - first
		}
	}
	return out, n
}

// kind names the generation of the filesystem by its features, for people.
func (fs *filesystem) kind() string {
	const hasJournal, extents = 0x4, 0x40
	switch {
	case fs.incompat&(extents|incompat64bit|0x200) != 0:
		return "ext4"
	case fs.compat&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}
