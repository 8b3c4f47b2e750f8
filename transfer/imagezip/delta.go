package imagezip

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// compare takes out of the plan what the base has as well, by its signature. What it reads and differs is read again
// for the image.
func (c *capture) compare() error {
	var same free.List
	spans := c.plan.spans
	for _, r := range c.o.Base.Ranges {
		for len(spans) > 0 && spans[0].End <= r.Start {
			spans = spans[1:]
		}
		end := r.Start + r.Sectors
		if len(spans) == 0 || spans[0].Start > r.Start || spans[0].End < end || r.Sectors > readSize/ndz.SectorSize {
			continue
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		err := c.span(free.Span{Start: r.Start, End: end}, func(_ uint64, p []byte) error {
			sum := sha1.Sum(p)
			if c.o.Base.MD5 {
				short := md5.Sum(p)
				sum = [len(sum)]byte{}
				copy(sum[:], short[:])
			}
			if bytes.Equal(sum[:], r.Hash[:]) {
				same.Add(free.Span{Start: r.Start, End: end})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	changed := c.plan.Used - same.Total()
	if t := c.o.Threshold; t > 0 && changed*100 >= c.plan.Used*uint64(t) {
		return nil
	}
	if changed == 0 {
		// An image has some data; what is there already does no harm.
		same.Subtract([]free.Span{{Start: c.plan.spans[0].Start, End: c.plan.spans[0].Start + 1}})
	}
	used := free.List{}
	for _, s := range c.plan.spans {
		used.Add(s)
	}
	used.Subtract(same.Spans())
	c.plan.spans, c.stats.Same = used.Spans(), same.Total()
	c.total = int64(free.Total(c.plan.spans)) * ndz.SectorSize
	return nil
}
