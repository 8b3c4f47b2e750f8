package ndz

import (
	"bytes"
	"hash/adler32"

	"github.com/klauspost/compress/flate"
)

// compressor makes pieces of a zlib stream that can be put one behind the other.
type compressor struct {
	w   *flate.Writer
	out bytes.Buffer
}

func newCompressor(level int) (*compressor, error) {
	c := &compressor{}
	w, err := flate.NewWriter(&c.out, level)
	c.w = w
	return c, err
}

// compress fills out and adler of a piece from its data. Nothing in out refers to data of other pieces, and it ends on
// a byte boundary.
func (p *piece) compress(c *compressor) {
	c.out.Reset()
	c.w.Reset(&c.out)
	c.w.Write(p.data) // into memory: there is no error
	c.w.Flush()
	p.out = append(p.out[:0], c.out.Bytes()...)
	p.adler = adler32.Checksum(p.data)
}

// combineAdler is the Adler-32 sum of two runs of bytes, from the sums of each (RFC 1950, section 8.2: two sums modulo
// 65521, the first starting at 1). n is the length of the second run.
func combineAdler(a, b uint32, n int64) uint32 {
	const mod = 65521
	a1, a2 := int64(a&0xffff), int64(a>>16)
	b1, b2 := int64(b&0xffff), int64(b>>16)
	// Of the second run, the first sum starts at a1 instead of 1, and is added to the second sum once for each byte.
	s1 := (a1 + b1 - 1 + mod) % mod
	s2 := (a2 + b2 + (n%mod)*((a1-1+mod)%mod)) % mod
	return uint32(s2<<16 | s1)
}
