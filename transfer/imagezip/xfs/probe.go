package xfs

import (
	"context"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
)

// Probe recognises XFS by its superblock and reads its free space. It is a free.Probe. A filesystem whose log is not
// known to be clean is Unclean; one with a realtime device is refused, for the files there would be missing.
func Probe(ctx context.Context, r io.ReaderAt, size int64, o free.Options) (*free.Filesystem, bool, error) {
	fs, found, err := open(r, size)
	if err != nil || !found {
		return nil, found, err
	}
	out := &free.Filesystem{Kind: "xfs", Label: fs.label, Sectors: fs.blocks * (fs.blockSize / free.SectorSize)}
	why, err := fs.dirty()
	if err != nil {
		if !o.SkipBad {
			return nil, true, err
		}
		why = err.Error()
	}
	if why != "" {
		out.Unclean = true
		out.Notes = append(out.Notes, why+"; mount and unmount it to have changes applied")
	}
	skipped := 0
	if out.Free, skipped, err = fs.freeSpace(ctx, o.SkipBad); err != nil {
		return nil, true, err
	}
	if skipped > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d allocation groups cannot be read and were saved whole; run xfs_repair", skipped))
	}
	return out, true, nil
}
