package ext

import (
	"loadnode/transfer/imagezip/free"
)

// hasSuper says whether a group starts with a superblock or a backup of it.
func (fs *filesystem) hasSuper(g uint64) bool {
	switch {
	case g == 0:
		return true
	case fs.compat&compatSparseSuper2 != 0:
		return g == fs.backups[0] || g == fs.backups[1]
	case fs.roCompat&roSparseSuper == 0:
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
