package imagezip

import (
	"context"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// readSize is how much of a source is read at once, in bytes.
const readSize = 1 << 20

// capture is one run of Capture.
type capture struct {
	ctx   context.Context
	o     Options
	plan  Plan
	w     *ndz.Writer
	buf   []byte
	done  int64
	total int64
	bad   uint64
}

func (c *capture) open(w io.Writer) error {
	var err error
	c.buf = make([]byte, readSize)
	c.w, err = ndz.NewWriter(ndz.WriterConfig{Output: w, Level: c.o.Level, Workers: c.o.Workers})
	return err
}

// span reads a run of sectors and appends it to the image.
func (c *capture) span(src Source, s free.Span) error {
	for at := s.Start; at < s.End; {
		n := min(s.End-at, readSize/ndz.SectorSize)
		p := c.buf[:n*ndz.SectorSize]
		want := p
		if at+n == c.plan.Sectors && c.plan.Tail > 0 {
			want = p[:len(p)-c.plan.Tail]
			clear(p[len(want):])
		}
		if err := c.read(src, want, int64(at)*ndz.SectorSize); err != nil {
			return err
		}
		c.zero(p, free.Span{Start: at, End: at + n})
		if err := c.append(at, p); err != nil {
			return err
		}
		at += n
	}
	return nil
}

func (c *capture) append(at uint64, p []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.w.Append(at, p); err != nil {
		return err
	}
	c.done += int64(len(p))
	if c.o.Progress != nil {
		c.o.Progress(c.done, c.total)
	}
	return nil
}

// read fills p. With SkipErrors, what cannot be read is tried again sector by sector, and is zeros if that fails.
func (c *capture) read(src Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if !c.o.SkipErrors {
		return fmt.Errorf("read bytes %d to %d of the source: %w", off+int64(n), off+int64(len(p)), err)
	}
	for i := 0; i < len(p); i += ndz.SectorSize {
		sector := p[i:min(i+ndz.SectorSize, len(p))]
		if n, _ := src.ReadAt(sector, off+int64(i)); n < len(sector) {
			clear(sector)
			c.bad++
		}
	}
	return nil
}

// zero clears what of p, the content of s, is free space that is only saved for being short.
func (c *capture) zero(p []byte, s free.Span) {
	for _, z := range free.Within(c.plan.zeroed, s) {
		from, to := max(z.Start, s.Start)-s.Start, min(z.End, s.End)-s.Start
		clear(p[from*ndz.SectorSize : to*ndz.SectorSize])
	}
}
