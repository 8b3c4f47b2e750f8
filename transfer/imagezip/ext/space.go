package ext

import (
	"context"
	"fmt"
	"math/bits"

	"loadnode/transfer/imagezip/free"
)

// metadata returns the spans of everything that is not file content: superblocks and descriptors with their backups,
// bitmaps and inode tables, ascending and merged. They are always saved, whatever the bitmaps say: the bitmap of an
// uninitialised group was never written and does not show them (§8.4).
func (fs *filesystem) metadata(ctx context.Context) ([]free.Span, error) {
	var list []free.Span
	err := fs.descriptors(ctx, func(g uint64, d group) error {
		parts := []free.Span{fs.headSpan(g)}
		if !d.unreadable { // also of one that is wrong: it may be right about this, and what is in use too much is no harm
			parts = append(parts, fs.blocksSpan(d.blockBitmap, 1), fs.blocksSpan(d.inodeBitmap, 1), fs.blocksSpan(d.inodeTable, fs.inodeTable))
		}
		for _, s := range parts {
			if s.Start < s.End {
				list = append(list, s)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return free.Merge(list), nil
}

// freeSpace returns the free space of the filesystem.
func (fs *filesystem) freeSpace(ctx context.Context) (*free.List, error) {
	metadata, err := fs.metadata(ctx)
	if err != nil {
		return nil, err
	}
	var all free.List
	bitmap := make([]byte, fs.blockSize)
	err = fs.descriptors(ctx, func(g uint64, d group) error {
		start, end := fs.groupStart(g), fs.groupEnd(g)
		var list free.List
		switch {
		case d.bad:
			fs.untrusted++
			return nil
		case d.unreadable:
			fs.unreadable++
			return nil
		case d.uninit:
			list.Add(fs.blocksSpan(start, end-start))
		default:
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fs.read(bitmap, d.blockBitmap, fmt.Sprintf("block bitmap of group %d", g)); err != nil {
				if !fs.skipBad {
					return err
				}
				fs.unreadable++
				return nil
			}
			if !fs.bitmapChecksum(bitmap, d.bitmapSum) {
				fs.untrusted++
				return nil
			}
			fs.clearBits(bitmap, start, end, &list)
		}
		list.Subtract(free.Within(metadata, fs.blocksSpan(start, end-start)))
		// What is counted must be what the filesystem counts. If not, nothing can be concluded about the group, and all
		// of it is saved.
		clusters, n := fs.wholeClusters(list.Spans())
		if n != d.free {
			fs.untrusted++
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
