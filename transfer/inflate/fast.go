package inflate

import "encoding/binary"

// repeat multiplies 1 to 7 bytes to fill a word, and repeatStep is how many bytes of that are whole repetitions.
var (
	repeat = [8]uint64{1: 0x0101010101010101, 2: 0x0001000100010001, 3: 0x0001000001000001, 4: 0x0000000100000001,
		5: 0x0000010000000001, 6: 0x0001000000000001, 7: 0x0100000000000001}
	repeatStep = [8]int{1: 8, 2: 8, 3: 6, 4: 8, 5: 5, 6: 6, 7: 7}
)

// fast decodes symbols while a whole turn of its loop is sure to find enough input and room. It leaves the rest to
// careful. In it buf holds the next bits of the stream, and the lowest six bits of n, all that counts of it, say how
// many of those are valid: the others are taken from the input once more, and are the same. Each turn begins with e
// already looked up, from bits that are there since the last turn.
func (d *decoder) fast(dst []byte, at int) (end int, over bool, err error) {
	src, ip, buf, n := d.src, d.ip, d.bits, uint32(d.n)
	lastIn, lastOut := len(src)-inMargin, len(dst)-outMargin
	lit, dist := &d.lit, &d.distTab
	buf |= binary.LittleEndian.Uint64(src[ip:]) << (n & 63)
	ip += 7 - int(n>>3&7)
	n |= 56
	e := lit[buf&litMask]
	for ip < lastIn && at < lastOut {
		buf |= binary.LittleEndian.Uint64(src[ip:]) << (n & 63)
		ip += 7 - int(n>>3&7)
		n |= 56

		if e >= literal {
			buf >>= e & 63
			n -= e
			dst[at] = byte(e >> 8)
			at++
			e = lit[buf&litMask]
			if e >= literal {
				buf >>= e & 63
				n -= e
				dst[at] = byte(e >> 8)
				at++
				e = lit[buf&litMask]
				if e >= literal {
					buf >>= e & 63
					n -= e
					dst[at] = byte(e >> 8)
					at++
					e = lit[buf&litMask]
					continue
				}
			}
		}
		if e&special != 0 {
			if e&subtable != 0 {
				buf >>= litBits
				n -= litBits
				e = lit[(e>>8&0x1fff+uint32(buf)&(1<<(e&15)-1))&(litSize-1)]
				if e >= literal {
					buf >>= e & 63
					n -= e
					dst[at] = byte(e >> 8)
					at++
					e = lit[buf&litMask]
					continue
				}
			}
			if e&special != 0 {
				if e&endOfBlock == 0 {
					err = ErrSymbol
					break
				}
				buf >>= e & 63
				n -= e
				over = true
				break
			}
		}
		length := int(e>>12&0x1ff) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= e

		buf |= binary.LittleEndian.Uint64(src[ip:]) << (n & 63)
		ip += 7 - int(n>>3&7)
		n |= 56

		e = dist[buf&distMask]
		if e&distSpecial != 0 {
			if e&distSubtable == 0 {
				err = ErrSymbol
				break
			}
			buf >>= distBits
			n -= distBits
			e = dist[(e>>16+uint32(buf)&(1<<(e&15)-1))&(distSize-1)]
			if e&distSpecial != 0 {
				err = ErrSymbol
				break
			}
		}
		far := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= e
		e = lit[buf&litMask]
		from := at - far
		if from < 0 {
			err = ErrDistance
			break
		}
		to := at
		at += length
		if far >= 8 {
			binary.LittleEndian.PutUint64(dst[to:], binary.LittleEndian.Uint64(dst[from:]))
			binary.LittleEndian.PutUint64(dst[to+8:], binary.LittleEndian.Uint64(dst[from+8:]))
			for to+16 < at {
				to += 16
				from += 16
				binary.LittleEndian.PutUint64(dst[to:], binary.LittleEndian.Uint64(dst[from:]))
				binary.LittleEndian.PutUint64(dst[to+8:], binary.LittleEndian.Uint64(dst[from+8:]))
			}
			continue
		}
		// The match repeats its first bytes: so many words of them as it takes, each cut where a repetition ends.
		word := binary.LittleEndian.Uint64(dst[from:]) & (1<<(far*8&63) - 1) * repeat[far&7]
		step := repeatStep[far&7]
		for to < at {
			binary.LittleEndian.PutUint64(dst[to:], word)
			to += step
		}
	}
	d.ip, d.n = ip, uint(n&63)
	d.bits = buf & (1<<d.n - 1)
	return at, over, err
}
