package imagezip

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// readSize is how much of a source is read at once, in bytes.
const readSize = 1 << 20

// dropped is the size of blocks of zeros that DropZeros leaves out, in bytes. It is that of the shortest free run which
// is left out.
const dropped = DefaultMinFree * ndz.SectorSize

// capture is one run of Capture.
type capture struct {
	ctx   context.Context
	o     Options
	plan  Plan
	src   Source
	holes *holes
	w     *ndz.Writer
	buf   []byte
	zeros []byte
	done  int64
	total int64
	stats Stats
	sign  *signer
}

func (c *capture) open(w io.Writer) error {
	var err error
	c.buf, c.zeros = make([]byte, readSize), make([]byte, dropped)
	c.w, err = ndz.NewWriter(ndz.WriterConfig{Output: w, Level: c.o.Level, Workers: c.o.Workers,
		Version: c.o.Version, UUID: c.o.UUID, Totals: c.o.Totals})
	if err != nil {
		return err
	}
	if c.o.Sign {
		c.sign = &signer{}
	}
	if s, ok := c.src.(io.Seeker); ok {
		c.holes = &holes{src: s}
	}
	return nil
}

// finish completes the image.
func (c *capture) finish() (Stats, error) {
	if err := c.w.Finish(c.plan.Sectors, c.plan.Tail); err != nil {
		return Stats{}, err
	}
	out := c.stats
	out.Plan, out.WriterStats = c.plan, c.w.Stats()
	if c.sign != nil {
		out.Signature = c.sign.signature(c.w.Ends())
	}
	return out, nil
}

// span reads a run of sectors and gives it to a function piece by piece.
func (c *capture) span(s free.Span, give func(at uint64, p []byte) error) error {
	for at := s.Start; at < s.End; {
		n := min(s.End-at, readSize/ndz.SectorSize)
		p := c.buf[:n*ndz.SectorSize]
		want := p
		if at+n == c.plan.Sectors && c.plan.Tail > 0 {
			want = p[:len(p)-c.plan.Tail]
			clear(p[len(want):])
		}
		if err := c.read(want, at); err != nil {
			return err
		}
		c.zero(p, free.Span{Start: at, End: at + n})
		if err := give(at, p); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// append adds sectors to the image.
func (c *capture) append(at uint64, p []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.put(at, p); err != nil {
		return err
	}
	if c.sign != nil {
		c.sign.add(at, p)
	}
	c.done += int64(len(p))
	if c.o.Progress != nil {
		c.o.Progress(c.done, c.total)
	}
	return nil
}

// put gives sectors to the writer, without blocks of zeros if they are to be dropped. The first block of the unit is
// never dropped, because an image must have some data.
func (c *capture) put(at uint64, p []byte) error {
	if !c.o.DropZeros {
		return c.w.Append(at, p)
	}
	begin := 0
	flush := func(end int) error {
		if begin == end {
			return nil
		}
		return c.w.Append(at+uint64(begin/ndz.SectorSize), p[begin:end])
	}
	for i := 0; i < len(p); i += dropped {
		if n := min(dropped, len(p)-i); n == dropped && at+uint64(i) > 0 && bytes.Equal(p[i:i+n], c.zeros) {
			if err := flush(i); err != nil {
				return err
			}
			begin = i + n
			c.stats.Dropped += dropped / ndz.SectorSize
		}
	}
	return flush(len(p))
}

// read fills p from a sector of the unit on. With SkipErrors, what cannot be read is tried again sector by sector, and
// is zeros if that fails.
func (c *capture) read(p []byte, at uint64) error {
	off := int64(c.plan.offset+at) * ndz.SectorSize
	for len(p) > 0 {
		zeros, n := c.holes.find(off, int64(len(p)))
		if zeros {
			clear(p[:n])
		} else if err := c.readData(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (c *capture) readData(p []byte, off int64) error {
	n, err := c.src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if !c.o.SkipErrors {
		of := ""
		if part, ok := c.plan.part(uint64(off)/ndz.SectorSize - c.plan.offset); ok {
			of = fmt.Sprintf(" (%v)", part)
		}
		return fmt.Errorf("read bytes %d to %d of the source%s: %w (-X saves what cannot be read as zeros)", off+int64(n), off+int64(len(p)), of, err)
	}
	for i := 0; i < len(p); i += ndz.SectorSize {
		sector := p[i:min(i+ndz.SectorSize, len(p))]
		if n, _ := c.src.ReadAt(sector, off+int64(i)); n < len(sector) {
			clear(sector)
			c.stats.BadSectors++
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
