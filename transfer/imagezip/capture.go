package imagezip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// Source is what is captured: a disk, a partition or a file. disk.Target has these methods.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Kind says what a source is taken for.
type Kind int

const (
	Auto Kind = iota // a filesystem, recognised by its superblock
	Ext              // ext2, ext3 or ext4; anything else is an error
	Raw              // every sector is saved
	File             // as Raw, and the last sector may be incomplete (§5, type 6)
)

// DefaultMinFree is the shortest run of free sectors that is left out of an image (§8.5).
const DefaultMinFree = 64

// ErrNoFilesystem says that a source is nothing this package recognises.
var ErrNoFilesystem = errors.New("no ext2, ext3 or ext4 filesystem found")

// ErrUnclean and ErrFilesystem are those of package free.
var (
	ErrUnclean    = free.ErrUnclean
	ErrFilesystem = free.ErrFilesystem
)

// Options say how a source is captured.
type Options struct {
	Kind       Kind
	Level      int    // 1 to 9; 0: ndz.DefaultLevel; ndz.Stored
	Workers    int    // goroutines that compress; 0: one per core
	MinFree    uint64 // sectors; shorter free runs are saved; 0: all are left out; see DefaultMinFree
	ZeroShort  bool   // free runs that are saved for being short are saved as zeros, so that nothing old leaks
	MaxSectors uint64 // only so many sectors from the start; 0: all
	OnlyFS     bool   // leave out what lies behind the filesystem
	Unclean    bool   // capture a mounted or unclean filesystem all the same
	SkipErrors bool   // save sectors that cannot be read as zeros, and count them
	// Progress is called from one goroutine with the bytes read so far and the bytes to read in all (-1: not known).
	Progress func(done, total int64)
}

// Plan is what would be captured.
type Plan struct {
	Kind      string   // "raw", "ext4" …
	Label     string   // of the filesystem
	Sectors   uint64   // of the unit
	Tail      int      // bytes missing from the last sector
	Used      uint64   // sectors to read
	Free      uint64   // sectors left out
	Forgotten uint64   // free sectors saved because their runs are short
	Notes     []string // what the user should know of the filesystem

	spans  []free.Span
	zeroed []free.Span
}

// Stats say what was captured.
type Stats struct {
	Plan
	ndz.WriterStats
	BadSectors uint64 // could not be read, zeros in the image
}

// Capture writes an image of a source. An error of the source names the byte; the output is no complete image then.
func Capture(ctx context.Context, src Source, w io.Writer, o Options) (Stats, error) {
	plan, err := Examine(ctx, src, o)
	if err != nil {
		return Stats{}, err
	}
	c := capture{ctx: ctx, o: o, plan: plan, total: int64(plan.Used)*ndz.SectorSize - int64(plan.Tail)}
	if err := c.open(w); err != nil {
		return Stats{}, err
	}
	defer c.w.Close()
	for _, s := range plan.spans {
		if err := c.span(src, s); err != nil {
			return Stats{}, err
		}
	}
	if err := c.w.Finish(plan.Sectors, plan.Tail); err != nil {
		return Stats{}, err
	}
	return Stats{Plan: plan, WriterStats: c.w.Stats(), BadSectors: c.bad}, nil
}

// CaptureStream writes an image of everything a reader gives, as Raw does. The last sector may be incomplete if the
// kind is File.
func CaptureStream(ctx context.Context, r io.Reader, w io.Writer, o Options) (Stats, error) {
	if o.Kind != Raw && o.Kind != File {
		return Stats{}, errors.New("capture: what cannot be positioned can only be captured raw (-r) or as a file (-f)")
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
	if err := c.w.Finish(c.plan.Sectors, c.plan.Tail); err != nil {
		return Stats{}, err
	}
	return Stats{Plan: c.plan, WriterStats: c.w.Stats()}, nil
}

// Examine finds out what Capture would save, and refuses what it would.
func Examine(ctx context.Context, src Source, o Options) (Plan, error) {
	size := src.Size()
	p := Plan{Kind: "raw", Sectors: uint64(size) / ndz.SectorSize}
	if odd := size % ndz.SectorSize; odd != 0 {
		if o.Kind != File {
			return p, oddSize(size)
		}
		p.Sectors++
		p.Tail = ndz.SectorSize - int(odd)
	}
	switch {
	case size == 0:
		return p, errors.New("capture: the source is empty")
	case p.Sectors > ndz.MaxSector && o.MaxSectors == 0:
		return p, fmt.Errorf("capture: the source has %d sectors, an image at most %d (2 TiB)", p.Sectors, ndz.MaxSector)
	}
	list := &free.List{}
	if o.Kind == Auto || o.Kind == Ext {
		var err error
		if list, err = p.examineFS(ctx, src, o); err != nil {
			return p, err
		}
	}
	if o.MaxSectors > 0 && o.MaxSectors < p.Sectors {
		p.Sectors, p.Tail = o.MaxSectors, 0
	}
	forgotten := list.Forget(o.MinFree)
	p.Forgotten = free.Total(forgotten)
	if o.ZeroShort {
		p.zeroed = forgotten
	}
	p.spans = list.Used(p.Sectors)
	p.Used = free.Total(p.spans)
	p.Free = p.Sectors - p.Used
	return p, nil
}

// examineFS recognises a filesystem by its superblock and returns its free space.
func (p *Plan) examineFS(ctx context.Context, src Source, o Options) (*free.List, error) {
	fs, found, err := ext.Probe(ctx, src, src.Size(), free.Options{})
	if err != nil {
		return nil, err
	}
	table, err := tableOf(src)
	if err != nil {
		return nil, err
	}
	switch {
	case table != "" && (!found || o.Kind == Auto):
		return nil, fmt.Errorf("%w: the source has a %s partition table; capture a partition of it, or everything with -r (raw)", ErrNoFilesystem, table)
	case !found:
		return nil, fmt.Errorf("%w: use -r to capture every sector (raw), or -f for an ordinary file", ErrNoFilesystem)
	case fs.Unclean && !o.Unclean:
		return nil, fmt.Errorf("%w: unmount it or run e2fsck, or capture it raw with -r", ErrUnclean)
	}
	p.Kind, p.Label, p.Notes = fs.Kind, fs.Label, fs.Notes
	if o.OnlyFS {
		p.Sectors = fs.Sectors
	}
	return fs.Free, nil
}

// tableOf names the partition table of a source, "" if there is none. Boot code of a filesystem also ends with 55 AA,
// so entries must look like entries.
func tableOf(src Source) (string, error) {
	b := make([]byte, 1024)
	if n, err := src.ReadAt(b, 0); n < len(b) {
		if err == io.EOF {
			return "", nil
		}
		return "", fmt.Errorf("read the first sectors: %w", err)
	}
	if string(b[512:520]) == "EFI PART" {
		return "GPT", nil
	}
	if b[510] != 0x55 || b[511] != 0xAA {
		return "", nil
	}
	entries := 0
	for i := range 4 {
		e := b[446+16*i:][:16]
		switch empty := !slices.ContainsFunc(e, func(c byte) bool { return c != 0 }); {
		case empty:
		case e[0]&0x7f != 0 || e[4] == 0 || e[12]|e[13]|e[14]|e[15] == 0:
			return "", nil
		default:
			entries++
		}
	}
	if entries == 0 {
		return "", nil
	}
	return "MBR", nil
}

func oddSize(size int64) error {
	return fmt.Errorf("capture: the source has %d bytes, which is no whole number of sectors: use -f to capture it as a file", size)
}
