package main

import (
	"sync/atomic"

	"loadnode/transfer/disk"
)

// clipped is a target that swallows what lies behind the end of a partition (--clip): what the original program does
// with an image that is larger than its place (§6). It counts what is lost, so that nobody takes it for written.
type clipped struct {
	disk.Target
	end  int64
	lost atomic.Int64
}

// Fixed says no: the installer would refuse an image that is too large.
func (c *clipped) Fixed() bool { return false }

// Extend has nothing to do: the partition is there.
func (c *clipped) Extend(int64) error { return nil }

func (c *clipped) WriteAt(p []byte, off int64) (int, error) {
	keep := int(max(0, min(int64(len(p)), c.end-off)))
	if keep > 0 {
		if n, err := c.Target.WriteAt(p[:keep], off); err != nil {
			return n, err
		}
	}
	c.lost.Add(int64(len(p) - keep))
	return len(p), nil
}

func (c *clipped) Zero(off, n int64) error {
	if n = min(n, c.end-off); n <= 0 {
		return nil
	}
	return c.Target.Zero(off, n)
}

// CanDiscard asks the disk.
func (c *clipped) CanDiscard() bool {
	d, ok := c.Target.(disk.Discarder)
	return ok && d.CanDiscard()
}

// Discard is that of the disk, up to the end of the partition.
func (c *clipped) Discard(off, n int64) error {
	d, ok := c.Target.(disk.Discarder)
	if !ok {
		return disk.ErrNoDiscard
	}
	if n = min(n, c.end-off); n <= 0 {
		return nil
	}
	return d.Discard(off, n)
}
