package inflate

import "math/bits"

// Sizes of the decoding tables. A table is indexed by the next bits of the stream; codes that are longer than its root
// lead on to a subtable behind the root.
const (
	litBits  = 11
	litRoot  = 1 << litBits
	litMask  = litRoot - 1
	distBits = 8
	distRoot = 1 << distBits
	distMask = distRoot - 1
	preBits  = 7
	preMask  = 1<<preBits - 1
	maxBits  = 15 // longest code

	// A subtable of 2^k places holds k+1 codes or more, because its deepest code has siblings on every level. With
	// k ≤ 4 these are at most 288/5 × 16 = 921 places for literals, with k ≤ 7 at most 32/8 × 128 = 512 for distances.
	// The sizes are powers of two, so that a masked index needs no check.
	litSize  = 2 * litRoot
	distSize = 4 * distRoot
)

// Entries of the table for literals and lengths, 32 bits:
//
//	literal           bit 24 set, 8-15 the literal, 0-7 bits to drop
//	length            bits 12-20 base, 8-11 bits of the code itself, 0-7 bits to drop with the extra bits
//	special           bit 21 set, and bit 22 (subtable: 8-20 its place, 0-3 as below), bit 23 (end of block), or neither
//	                  (bits without a meaning)
//
// Entries of the table for distances:
//
//	distance          bits 16-31 base, 8-11 bits of the code itself, 0-7 bits to drop with the extra bits
//	special           bit 15 set, and bit 14 (subtable: 16-31 its place), or not (bits without a meaning)
//
// An entry of a root that leads to a subtable has in bits 0-7 how many bits index that.
const (
	literal    = 1 << 24 // nothing lies above
	special    = 1 << 21
	subtable   = 1 << 22
	endOfBlock = 1 << 23

	distSpecial  = 1 << 15
	distSubtable = 1 << 14
)

// maker makes the entry of a symbol whose code has n bits in its table.
type maker func(symbol int, n uint) uint32

// lengthBase and lengthExtra describe the symbols from 257 on (RFC 1951, section 3.2.5); the last two are reserved.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
		163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
		2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

func litEntry(symbol int, n uint) uint32 {
	switch {
	case symbol < 256:
		return literal | uint32(symbol)<<8 | uint32(n)
	case symbol == 256:
		return special | endOfBlock | uint32(n)
	case symbol-257 < len(lengthBase):
		i := symbol - 257
		return uint32(lengthBase[i])<<12 | uint32(n)<<8 | uint32(n+uint(lengthExtra[i]))
	}
	return special | uint32(n)
}

func distEntry(symbol int, n uint) uint32 {
	if symbol < len(distBase) {
		return uint32(distBase[symbol])<<16 | uint32(n)<<8 | uint32(n+uint(distExtra[symbol]))
	}
	return distSpecial | uint32(n)
}

// preEntry is for the code of the code lengths: the symbol above its bits.
func preEntry(symbol int, n uint) uint32 { return uint32(symbol)<<8 | uint32(n) }

func litLink(place int, n uint) uint32 { return special | subtable | uint32(place)<<8 | uint32(n) }
func distLink(place int, n uint) uint32 {
	return distSpecial | distSubtable | uint32(place)<<16 | uint32(n)
}

// build fills a table of 2^root places and its subtables for the code with the given lengths. It accepts what
// compress/flate accepts: complete codes, no code at all, and one single code of one bit.
func build(table []uint32, root uint, lens []uint8, none uint32, entry maker, link func(int, uint) uint32) error {
	var count, offset [maxBits + 1]int
	for _, n := range lens {
		count[n&maxBits]++
	}
	count[0] = 0
	space, used := 1, 0
	for n := 1; n <= maxBits; n++ {
		offset[n] = used
		used += count[n]
		space = space<<1 - count[n]
		if space < 0 {
			return ErrOversubscribed
		}
	}
	if space > 0 {
		if used > 1 || used == 1 && count[1] == 0 {
			return ErrIncomplete
		}
		for i := range table[:1<<root] {
			table[i] = none
		}
		if used == 1 {
			for symbol, n := range lens {
				if n == 1 {
					e := entry(symbol, 1)
					for i := 0; i < 1<<root; i += 2 {
						table[i] = e
					}
				}
			}
		}
		return nil
	}
	var sorted [288]uint16
	for symbol, n := range lens {
		if n != 0 {
			sorted[offset[n&maxBits]] = uint16(symbol)
			offset[n&maxBits]++
		}
	}

	// Codes are counted up in the order of the stream, first bit lowest. While they get longer, the part of the root
	// that is filled doubles.
	code, next := uint(0), 0
	filled := 1
	for n := uint(1); n <= root; n++ {
		if next > 0 {
			copy(table[filled:2*filled], table[:filled])
		}
		filled *= 2
		for range count[n] {
			table[code] = entry(int(sorted[next]), n)
			next++
			code = after(code, n)
		}
	}
	end, prefix := 1<<root, ^uint(0)
	place, size := 0, uint(0)
	for n := root + 1; n <= maxBits; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (1<<root - 1); p != prefix {
				prefix = p
				size = n - root
				for full := left; full < 1<<size; {
					size++
					full = full<<1 + count[root+size]
				}
				place = end
				end += 1 << size
				table[p] = link(place, size)
			}
			e := entry(int(sorted[next]), n-root)
			for i := code >> root; i < 1<<size; i += 1 << (n - root) {
				table[place+int(i)] = e
			}
			next++
			code = after(code, n)
		}
	}
	return nil
}

// after is the code of n bits that follows code, both with the first bit lowest. After the last one comes 0.
func after(code, n uint) uint {
	zeros := ^code & (1<<n - 1)
	if zeros == 0 {
		return 0
	}
	top := uint(1) << (bits.Len(zeros) - 1)
	return code&(top-1) | top
}
