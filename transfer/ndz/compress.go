package ndz

import (
	"bytes"
	"hash/adler32"

	"github.com/klauspost/compress/flate"
)

// window is how far back a match may reach, in bytes (RFC 1951).
const window = 32 << 10

// engines say how each level of zlib, 1 to 9, is done here: by the level of our compressor that is the fastest of those
// whose images of system disks are not larger, and in steps of so many sectors. Some levels are the same. Index 0
// stores. Short steps are better for size than long ones, although each has its own code tables: content changes, and
// where a chunk ends less is compressed twice. BenchmarkLevels prints what they were chosen by.
var engines = [10]struct{ level, step int }{{0, 42}, {3, 42}, {3, 42}, {6, 42}, {6, 42}, {7, 42}, {8, 42}, {9, 42}, {9, 32}, {9, 32}}

// compressor makes parts of a deflate stream: byte strings that end on a byte boundary and can be put one behind the
// other.
type compressor struct {
	w   *flate.Writer
	out sink
	// step is how much data a part of the stream holds, in bytes: where one part ends, a chunk can end without anything
	// being compressed again.
	step int
	runs map[int]zeroRun // by steps; nil if nothing is to be compressed
}

// zeroRun is the compressed form of zeros, which refers to nothing before it: disks are full of them.
type zeroRun struct {
	out   []byte
	adler uint32
}

// sink appends what is written to it.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func newCompressor(level int) (*compressor, error) {
	c := &compressor{step: engines[level].step * SectorSize}
	if level > 0 {
		c.runs = map[int]zeroRun{}
	}
	var err error
	if c.w, err = flate.NewWriter(&c.out, engines[level].level); err != nil {
		return nil, err
	}
	return c, nil
}

// start begins a run of parts: what follows may refer to history, at most a window.
func (c *compressor) start(history []byte) { c.w.ResetDict(&c.out, history) }

// part compresses data, which may refer to what came before it in this run, and appends the result to dst.
func (c *compressor) part(dst, data []byte) []byte {
	c.out.b = dst
	c.w.Write(data) // into memory: there is no error
	c.w.Flush()
	dst, c.out.b = c.out.b, nil
	return dst
}

// zeros returns the compressed form of so many steps of zeros. Each is made once, at the best level.
func (c *compressor) zeros(steps int) zeroRun {
	z, ok := c.runs[steps]
	if !ok {
		var out sink
		data := make([]byte, steps*c.step)
		w, _ := flate.NewWriter(&out, flate.BestCompression) // only unknown levels are errors
		w.Write(data)
		w.Flush()
		z = zeroRun{out: out.b, adler: adler32.Checksum(data)}
		c.runs[steps] = z
	}
	return z
}

func allZero(p []byte) bool {
	return len(p) > 0 && p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
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
