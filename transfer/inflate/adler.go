package inflate

import "encoding/binary"

const (
	adlerMod  = 65521
	adlerRun  = 16      // words of 8 bytes whose sums fit 16 bits
	adlerMost = 8 * 512 // bytes between two reductions
	even      = 0x00ff00ff00ff00ff
)

// adler32 continues the Adler-32 sum over p (RFC 1950, section 8.2). It adds the bytes of a word side by side.
func adler32(sum uint32, p []byte) uint32 {
	s1, s2 := uint64(sum&0xffff), uint64(sum>>16)
	for len(p) >= 8*adlerRun {
		// The second sum takes the first as it was before a run once for each byte of it, and each byte of the run as
		// often as bytes follow it, itself included.
		n := min(len(p), adlerMost) / (8 * adlerRun)
		for ; n > 0; n-- {
			var a, b, pa, pb uint64 // bytes at even and odd places; and their sums before each word
			q := p[:8*adlerRun]
			for len(q) >= 32 {
				u := binary.LittleEndian.Uint64(q)
				v := binary.LittleEndian.Uint64(q[8:])
				w := binary.LittleEndian.Uint64(q[16:])
				x := binary.LittleEndian.Uint64(q[24:])
				q = q[32:]
				pa += a
				pb += b
				a += u & even
				b += u >> 8 & even
				pa += a
				pb += b
				a += v & even
				b += v >> 8 & even
				pa += a
				pb += b
				a += w & even
				b += w >> 8 & even
				pa += a
				pb += b
				a += x & even
				b += x >> 8 & even
			}
			p = p[8*adlerRun:]
			s2 += s1 * 8 * adlerRun
			s2 += 8 * (lanes(pa) + lanes(pb))
			s2 += weighted(a, 8) + weighted(b, 7)
			s1 += lanes(a) + lanes(b)
		}
		s1 %= adlerMod
		s2 %= adlerMod
	}
	for _, c := range p {
		s1 += uint64(c)
		s2 += s1
	}
	return uint32(s2%adlerMod<<16 | s1%adlerMod)
}

// lanes adds the four 16-bit parts of v.
func lanes(v uint64) uint64 {
	return v&0xffff + v>>16&0xffff + v>>32&0xffff + v>>48
}

// weighted adds the four 16-bit parts of v, the lowest first times first, each next one two times less.
func weighted(v, first uint64) uint64 {
	return v&0xffff*first + v>>16&0xffff*(first-2) + v>>32&0xffff*(first-4) + v>>48*(first-6)
}
