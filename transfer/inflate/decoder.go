package inflate

import "encoding/binary"

// step is where in a stream a decoder stands.
type step uint8

const (
	atBlock  step = iota // before the header of a block
	inStored             // inside a stored block
	inCodes              // inside a compressed block
	atEnd                // behind the last block
)

// decoder holds the state of one stream between two calls of run. Everything of the input is in memory; the output may
// come in pieces, each with what precedes it.
type decoder struct {
	src  []byte
	ip   int    // first byte of src that is not in bits
	bits uint64 // next bits of the stream, the first one lowest; above n they are zero
	n    uint   // how many

	step   step
	last   bool // this block is the last one
	fixed  bool // the tables hold the fixed codes
	stored int  // bytes left of a stored block
	length int  // bytes left of a match that did not fit the output
	dist   int  // its distance

	lit     [litSize]uint32
	distTab [distSize]uint32
	lens    [320]uint8
	pre     [1 << preBits]uint32
}

// reset begins a deflate stream.
func (d *decoder) reset(src []byte) {
	d.src, d.ip, d.bits, d.n = src, 0, 0, 0
	d.step, d.last, d.stored, d.length = atBlock, false, 0, 0
}

// run decodes to dst from at on, until dst is full or the stream ends, and returns how much of dst is filled. It is
// called again with room after what it filled; matches refer to what precedes at. A stream that ends where dst does is
// done in the same call.
func (d *decoder) run(dst []byte, at int) (end int, done bool, err error) {
	for {
		switch d.step {
		case atBlock:
			if d.last {
				d.step = atEnd
				continue
			}
			if err := d.header(); err != nil {
				return at, false, err
			}
		case inStored:
			k := copy(dst[at:], d.src[d.ip:d.ip+d.stored])
			at += k
			d.ip += k
			d.stored -= k
			if d.stored > 0 {
				return at, false, nil
			}
			d.step = atBlock
		case inCodes:
			var over bool
			if at, over, err = d.codes(dst, at); err != nil || !over {
				return at, false, err
			}
			d.step = atBlock
		case atEnd:
			return at, true, nil
		}
	}
}

// fill takes in whole bytes until there are 56 bits to 63, or no more input.
func (d *decoder) fill() {
	for d.n < 56 && d.ip < len(d.src) {
		d.bits |= uint64(d.src[d.ip]) << (d.n & 63)
		d.ip++
		d.n += 8
	}
}

// take returns the next k bits, at most 16.
func (d *decoder) take(k uint) (uint, error) {
	if d.n < k {
		if d.fill(); d.n < k {
			return 0, ErrTruncated
		}
	}
	v := uint(d.bits & (1<<k - 1))
	d.drop(k)
	return v, nil
}

func (d *decoder) drop(k uint) {
	d.bits >>= k & 63
	d.n -= k
}

// align drops what is left of a byte and gives whole bytes back to the input.
func (d *decoder) align() {
	d.ip -= int(d.n / 8)
	d.bits, d.n = 0, 0
}

// header reads the header of a block (RFC 1951, section 3.2.3) and prepares for what follows it.
func (d *decoder) header() error {
	v, err := d.take(3)
	if err != nil {
		return err
	}
	d.last = v&1 != 0
	switch v >> 1 {
	case 0:
		d.align()
		if len(d.src)-d.ip < 4 {
			return ErrTruncated
		}
		n, inverse := binary.LittleEndian.Uint16(d.src[d.ip:]), binary.LittleEndian.Uint16(d.src[d.ip+2:])
		if n != ^inverse {
			return ErrStored
		}
		d.ip += 4
		d.stored = int(n)
		if len(d.src)-d.ip < d.stored {
			return ErrTruncated
		}
		d.step = inStored
		return nil
	case 1:
		d.step = inCodes
		return d.fixedCodes()
	case 2:
		d.step = inCodes
		return d.dynamicCodes()
	}
	return ErrBlockType
}

// fixedCodes sets up the tables of section 3.2.6.
func (d *decoder) fixedCodes() error {
	if d.fixed {
		return nil
	}
	for i := range 288 {
		n := uint8(8)
		switch {
		case i >= 144 && i < 256:
			n = 9
		case i >= 256 && i < 280:
			n = 7
		}
		d.lens[i] = n
	}
	for i := range 32 {
		d.lens[288+i] = 5
	}
	if err := d.tables(288, 32); err != nil {
		return err
	}
	d.fixed = true
	return nil
}

// order is in which the lengths of the code of the code lengths are stored.
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicCodes reads the codes of a block (section 3.2.7).
func (d *decoder) dynamicCodes() error {
	v, err := d.take(14)
	if err != nil {
		return err
	}
	lits, dists, pres := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if lits > 286 || dists > 30 {
		return ErrCount
	}
	var lens [19]uint8
	for _, i := range order[:pres] {
		v, err := d.take(3)
		if err != nil {
			return err
		}
		lens[i] = uint8(v)
	}
	if err := build(d.pre[:], preBits, lens[:], 0, preEntry, nil); err != nil {
		return err
	}
	all := d.lens[:lits+dists]
	for i := 0; i < len(all); {
		if d.n < 14 {
			d.fill()
		}
		e := d.pre[d.bits&preMask]
		n := uint(e & 0xff)
		switch {
		case n > d.n:
			return ErrTruncated
		case n == 0:
			if d.n == 0 {
				return ErrTruncated
			}
			return ErrSymbol
		}
		d.drop(n)
		symbol := uint8(e >> 8)
		if symbol < 16 {
			all[i] = symbol
			i++
			continue
		}
		value, least, extra := uint8(0), uint(3), uint(3)
		switch symbol {
		case 16:
			if i == 0 {
				return ErrRepeat
			}
			value, extra = all[i-1], 2
		case 18:
			least, extra = 11, 7
		}
		v, err := d.take(extra)
		if err != nil {
			return err
		}
		end := i + int(least+v)
		if end > len(all) {
			return ErrRepeat
		}
		for ; i < end; i++ {
			all[i] = value
		}
	}
	d.fixed = false
	return d.tables(lits, dists)
}

// tables builds the tables from the lengths in lens: first those of literals and lengths, then those of distances.
func (d *decoder) tables(lits, dists int) error {
	if err := build(d.lit[:], litBits, d.lens[:lits], special, litEntry, litLink); err != nil {
		return err
	}
	return build(d.distTab[:], distBits, d.lens[lits:lits+dists], distSpecial, distEntry, distLink)
}
