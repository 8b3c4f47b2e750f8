package inflate

const (
	// inMargin and outMargin are how much input and room for output one turn of the fast loop may need: two refills of
	// 7 bytes and a look at 8, three literals and the longest match, which is copied in words.
	inMargin  = 24
	outMargin = 3 + 258 + 16
)

// codes decodes the symbols of a compressed block until the block is over or dst is full.
func (d *decoder) codes(dst []byte, at int) (end int, over bool, err error) {
	if d.length > 0 {
		if at = d.match(dst, at); d.length > 0 {
			return at, false, nil
		}
	}
	if len(d.src)-d.ip > inMargin && len(dst)-at > outMargin {
		if at, over, err = d.fast(dst, at); over || err != nil {
			return at, over, err
		}
	}
	return d.careful(dst, at)
}

// match copies as much as fits of a match that may overlap itself.
func (d *decoder) match(dst []byte, at int) int {
	for at < len(dst) && d.length > 0 {
		k := copy(dst[at:min(len(dst), at+d.length)], dst[at-d.dist:at])
		at += k
		d.length -= k
	}
	return at
}

// careful decodes one symbol after the other: near the end of the input or the output.
func (d *decoder) careful(dst []byte, at int) (end int, over bool, err error) {
	for {
		d.fill()
		e := d.lit[d.bits&litMask]
		skip := uint(0)
		if e&(subtable|special) == subtable|special && e < literal {
			skip = litBits
			e = d.lit[uint(e>>8&0x1fff)+uint(d.bits>>litBits)&(1<<(e&15)-1)]
		}
		n := skip + uint(e&0xff)
		if e < literal && e&special != 0 && e&endOfBlock == 0 {
			return at, false, d.nothing(n)
		}
		if n > d.n {
			return at, false, ErrTruncated
		}
		if e >= literal {
			if at == len(dst) {
				return at, false, nil
			}
			d.drop(n)
			dst[at] = byte(e >> 8)
			at++
			continue
		}
		if e&special != 0 {
			d.drop(n)
			return at, true, nil
		}
		if at == len(dst) {
			return at, false, nil
		}
		code := skip + uint(e>>8&15)
		d.length = int(e>>12&0x1ff) + int(d.bits>>(code&63)&(1<<((n-code)&15)-1))
		d.drop(n)
		if err := d.distance(at); err != nil {
			return at, false, err
		}
		if at = d.match(dst, at); d.length > 0 {
			return at, false, nil
		}
	}
}

// distance reads the distance of a match at at.
func (d *decoder) distance(at int) error {
	d.fill()
	e := d.distTab[d.bits&distMask]
	skip := uint(0)
	if e&(distSpecial|distSubtable) == distSpecial|distSubtable {
		skip = distBits
		e = d.distTab[uint(e>>16)+uint(d.bits>>distBits)&(1<<(e&15)-1)]
	}
	n := skip + uint(e&0xff)
	if e&distSpecial != 0 {
		return d.nothing(n)
	}
	if n > d.n {
		return ErrTruncated
	}
	code := skip + uint(e>>8&15)
	d.dist = int(e>>16) + int(d.bits>>(code&63)&(1<<((n-code)&15)-1))
	d.drop(n)
	if d.dist > at {
		return ErrDistance
	}
	return nil
}

// nothing is the error for the next n bits, which stand for no symbol.
func (d *decoder) nothing(n uint) error {
	if n > d.n || d.n == 0 {
		return ErrTruncated
	}
	return ErrSymbol
}
