package ndz

import (
	"bytes"
	"hash/adler32"

	"github.com/klauspost/compress/flate"
)

// compressor makes pieces of a zlib stream that can be put one behind the other.
type compressor struct {
	w     *flate.Writer
	out   bytes.Buffer
	zeros []byte // a whole piece of zeros, compressed: raw images of disks are full of them
}

func newCompressor(level int) (*compressor, error) {
	c := &compressor{}
	w, err := flate.NewWriter(&c.out, level)
	if err != nil {
		return nil, err
	}
	c.w = w
	c.zeros = bytes.Clone(c.deflate(make([]byte, pieceBytes)))
	return c, nil
}

// deflate compresses data. The result is valid until the next call.
func (c *compressor) deflate(data []byte) []byte {
	c.out.Reset()
	c.w.Reset(&c.out)
	c.w.Write(data) // into memory: there is no error
	c.w.Flush()
	return c.out.Bytes()
}

func allZero(p []byte) bool {
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// compress fills out and adler of a piece from its data. Nothing in out refers to data of other pieces, and it ends on
// a byte boundary.
func (p *piece) compress(c *compressor) {
	if len(p.data) == pieceBytes && allZero(p.data) {
		p.out = append(p.out[:0], c.zeros...)
	} else {
		p.out = append(p.out[:0], c.deflate(p.data)...)
	}
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
