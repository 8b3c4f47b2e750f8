package imagezip

import (
	"context"
	"errors"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// Source is what is captured: a disk, a partition or a file. disk.Target has these methods. If it has the method Seek
// of *os.File as well, holes of a sparse file are not read.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Kind says what a source is taken for.
type Kind int

// What a source may be. All but Auto are about a source without partition table, or about the chosen partition.
const (
	Auto Kind = iota // a disk with a partition table, a filesystem that is recognised by its superblock, or neither: Raw
	Disk             // a disk with a partition table; anything else is an error
	Ext              // ext2, ext3, ext4 or XFS; anything else is an error
	NTFS             // NTFS; anything else is an error
	FAT              // FAT12, FAT16 or FAT32; anything else is an error
	Swap             // Linux swap; anything else is an error
	Raw              // every sector is saved
	File             // as Raw, and the last sector may be incomplete (§5, type 6)
)

// DefaultMinFree is the shortest run of free sectors that is left out of an image (§8.5).
const DefaultMinFree = 64

// ErrNoFilesystem says that a source is not what the caller said it is.
var ErrNoFilesystem = errors.New("no such filesystem found")

// ErrUnclean and ErrFilesystem are those of package free.
var (
	ErrUnclean    = free.ErrUnclean
	ErrFilesystem = free.ErrFilesystem
)

// Options say how a source is captured.
type Options struct {
	Kind       Kind
	Partition  int        // capture only this partition of a disk, as an image of its own (§8.1); 0: the whole source
	Ignore     []int      // partitions whose content is left out; 0 is a source without partition table
	Whole      []int      // partitions that are saved whole, whatever is on them; 0 likewise
	MinFree    uint64     // sectors; shorter free runs are saved; 0: all are left out; see DefaultMinFree
	ZeroShort  bool       // free runs that are saved for being short are saved as zeros, so that nothing old leaks
	MaxSectors uint64     // only so many sectors from the start; 0: all
	OnlyFS     bool       // leave out what lies behind a filesystem in its partition
	Unclean    bool       // a mounted or unclean filesystem, whose free space is not the truth, is saved whole; else it is an error
	SkipErrors bool       // save sectors that cannot be read as zeros, and count them
	Relocate   bool       // refuse a filesystem that needs relocations (§5), which are not written: BSD labels, LILO
	DropZeros  bool       // leave out runs of 64 and more zero sectors. Only right if the image is installed with zero fill
	Base       *Signature // what the target has already: only what differs is saved, a delta (§9)
	Threshold  int        // percent: a delta that is not smaller than this part of the whole is no delta but the whole; 0: never
	Sign       bool       // make the signature of what is captured; not together with Base

	Level   int         // 1 to 9; 0: ndz.DefaultLevel; ndz.Stored
	Workers int         // goroutines that compress; 0: one per core
	Version int         // of the image: 1, 3 (which 0 means) or 4
	UUID    [16]byte    // V4
	Totals  io.WriterAt // V1: see ndz.WriterConfig
	// Progress is called from one goroutine with the bytes read so far and the bytes to read in all (-1: not known).
	Progress func(done, total int64)
}

// Stats say what was captured.
type Stats struct {
	Plan
	ndz.WriterStats
	BadSectors uint64     // could not be read, zeros in the image
	Dropped    uint64     // sectors of zeros left out for DropZeros
	Same       uint64     // sectors left out because the base image has them
	Signature  *Signature // if asked for
}

// Capture writes an image of a source. An error of the source names the bytes and what they belong to; the output is no
// complete image then.
func Capture(ctx context.Context, src Source, w io.Writer, o Options) (Stats, error) {
	plan, err := Examine(ctx, src, o)
	if err != nil {
		return Stats{}, err
	}
	return write(ctx, src, w, o, plan)
}

// write writes the image that was planned.
func write(ctx context.Context, src Source, w io.Writer, o Options, plan Plan) (Stats, error) {
	if o.Base != nil && o.Sign {
		return Stats{}, errors.New("capture: a signature is made of a whole image, not of a delta")
	}
	c := capture{ctx: ctx, o: o, plan: plan, src: src, total: int64(plan.Used) * ndz.SectorSize}
	if err := c.open(w); err != nil {
		return Stats{}, err
	}
	defer c.w.Close()
	if o.Base != nil {
		if err := c.compare(); err != nil {
			return Stats{}, err
		}
	}
	for _, s := range c.plan.spans {
		if err := c.span(s, c.append); err != nil {
			return Stats{}, err
		}
	}
	return c.finish()
}

// CaptureStream writes an image of everything a reader gives, as Raw does. The last sector may be incomplete if the
// kind is File.
func CaptureStream(ctx context.Context, r io.Reader, w io.Writer, o Options) (Stats, error) {
	switch {
	case o.Kind != Raw && o.Kind != File:
		return Stats{}, errors.New("capture: what cannot be positioned can only be captured raw (-r) or as a file (-f)")
	case o.Partition != 0 || o.Base != nil || len(o.Ignore)+len(o.Whole) > 0:
		return Stats{}, errors.New("capture: partitions (-s, -I, -R) and deltas (-H) need a source that can be positioned")
	}
	c := capture{ctx: ctx, o: o, total: -1, plan: Plan{Kind: "raw"}}
	if err := c.open(w); err != nil {
		return Stats{}, err
	}
	defer c.w.Close()
	if o.MaxSectors > 0 {
		r = io.LimitReader(r, int64(min(o.MaxSectors, ndz.MaxSector))*ndz.SectorSize)
	}
	for end := false; !end; {
		n, err := io.ReadFull(r, c.buf)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			end = true
		case err != nil:
			return Stats{}, fmt.Errorf("read byte %d: %w", c.done+int64(n), err)
		}
		if tail := n % ndz.SectorSize; tail != 0 {
			if o.Kind != File {
				return Stats{}, oddSize(c.done + int64(n))
			}
			c.plan.Tail = ndz.SectorSize - tail
			clear(c.buf[n : n+c.plan.Tail])
		}
		if err := c.append(c.plan.Sectors, c.buf[:n+c.plan.Tail]); err != nil {
			return Stats{}, err
		}
		c.plan.Sectors += uint64(n+c.plan.Tail) / ndz.SectorSize
	}
	c.plan.Used = c.plan.Sectors
	c.plan.Parts = []Part{{Sectors: c.plan.Sectors, Kind: "raw", Used: c.plan.Used}}
	return c.finish()
}

func oddSize(size int64) error {
	return fmt.Errorf("capture: the source has %d bytes, which is no whole number of sectors: use -f to capture it as a file", size)
}
