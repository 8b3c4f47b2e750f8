package ext

import (
	"context"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
)

// Probe recognises ext2, ext3 and ext4 by their superblock and reads their block bitmaps. It is a free.Probe. A group
// whose descriptor, bitmap and count of free blocks do not agree, or whose checksums are wrong, is in use as a whole; a
// note says so.
func Probe(ctx context.Context, r io.ReaderAt, size int64, o free.Options) (*free.Filesystem, bool, error) {
	fs, found, err := open(r, size, o.SkipBad)
	if err != nil || !found {
		return nil, found, err
	}
	out := &free.Filesystem{Kind: fs.kind(), Label: fs.label, Unclean: fs.unclean, Sectors: fs.blocks * (fs.blockSize / free.SectorSize)}
	if out.Free, err = fs.freeSpace(ctx); err != nil {
		return nil, true, err
	}
	out.Notes = fs.notes
	if n := fs.untrusted; n > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d block groups contradict themselves about free space and were saved whole; run e2fsck", n))
	}
	if n := fs.unreadable; n > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d block groups cannot be read and were saved whole", n))
	}
	return out, true, nil
}
