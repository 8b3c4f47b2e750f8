package inflate

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	headerBytes  = 2 // RFC 1950, section 2.2
	trailerBytes = 4
	// sumBytes is how much is inflated between two calls for the checksum, which then finds it in the cache.
	sumBytes = 256 << 10
	// firstRoom is the room that Append begins with, as a multiple of the input: a usual chunk fits.
	firstRoom = 4
	// history is how far back a match can reach, and pieceBytes how much a Reader inflates at a time.
	history    = 32 << 10
	pieceBytes = 128 << 10
)

// decoders are kept for their tables.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Zlib inflates a zlib stream: src is all of it and nothing else, and dst is exactly as long as what it inflates to.
// It returns how much of dst it filled, which is all of it if there is no error, and allocates nothing. Beyond that,
// dst may hold anything. The error is an [*Error].
func Zlib(dst, src []byte) (int, error) {
	d := decoders.Get().(*decoder)
	defer d.release()
	if err := d.start(src); err != nil {
		return 0, err
	}
	at, sum, err := d.runTo(dst, 0, 1)
	if err != nil {
		return at, err
	}
	return at, d.finish(at, len(dst), sum)
}

// Append inflates like Zlib to exactly size bytes, and puts them in dst[:0], which it replaces by a larger slice if it
// must. That grows as the data comes, so a size that lies costs no more memory than twice what src inflates to, or four
// times src.
func Append(dst, src []byte, size int64) ([]byte, error) {
	d := decoders.Get().(*decoder)
	defer d.release()
	if err := d.start(src); err != nil {
		return nil, err
	}
	if first := min(size, firstRoom*int64(len(src))); int64(cap(dst)) < first {
		dst = make([]byte, first)
	}
	at, sum := 0, uint32(1)
	for {
		dst = dst[:min(size, int64(cap(dst)))]
		var err error
		if at, sum, err = d.runTo(dst, at, sum); err != nil {
			return nil, err
		}
		if d.step == atEnd || int64(len(dst)) == size {
			break
		}
		grown := make([]byte, min(size, 2*int64(len(dst))+1))
		copy(grown, dst)
		dst = grown
	}
	if err := d.finish(at, int(size), sum); err != nil {
		return nil, err
	}
	return dst, nil
}

// start begins a zlib stream.
func (d *decoder) start(src []byte) error {
	d.reset(src)
	if len(src) < headerBytes {
		return d.fault(0, ErrTruncated)
	}
	v := binary.BigEndian.Uint16(src)
	d.ip = headerBytes
	switch {
	case v>>8&15 != 8 || v>>12 > 7 || v%31 != 0:
		return d.fault(0, ErrHeader)
	case v>>5&1 != 0:
		return d.fault(0, ErrDictionary)
	}
	return nil
}

// runTo fills dst from at on, or stops at the end of the stream, and continues the checksum over it.
func (d *decoder) runTo(dst []byte, at int, sum uint32) (int, uint32, error) {
	for {
		end, done, err := d.run(dst[:min(len(dst), at+sumBytes)], at)
		if err != nil {
			return end, sum, d.fault(int64(end), err)
		}
		sum = adler32(sum, dst[at:end])
		at = end
		if done || at == len(dst) {
			return at, sum, nil
		}
	}
}

// finish checks that the stream is over at at, which is the size it must have, and what follows its last block.
func (d *decoder) finish(at, size int, sum uint32) error {
	switch {
	case d.step != atEnd:
		return d.fault(int64(at), ErrTooLong)
	case at < size:
		return d.fault(int64(at), ErrTooShort)
	}
	if err := d.trailer(sum); err != nil {
		return d.fault(int64(at), err)
	}
	return nil
}

// trailer checks what follows the last block.
func (d *decoder) trailer(sum uint32) error {
	d.align()
	rest := d.src[d.ip:]
	switch {
	case len(rest) < trailerBytes:
		return ErrTruncated
	case binary.BigEndian.Uint32(rest) != sum:
		return ErrChecksum
	}
	d.ip += trailerBytes
	if len(rest) > trailerBytes {
		return ErrTrailing
	}
	return nil
}

// fault is err with the place in the input, and in the output.
func (d *decoder) fault(out int64, err error) error {
	return &Error{In: d.ip - int(d.n/8), Out: out, Err: err}
}

// release gives the decoder back, without the input.
func (d *decoder) release() {
	d.src = nil
	decoders.Put(d)
}

// Reader inflates a zlib stream that lies in memory piece by piece, in memory of a fixed size whatever it inflates to.
// The zero value has to be Reset. It is for one goroutine.
type Reader struct {
	d      decoder
	window []byte // history, then what was inflated last
	at     int    // what of the window is not read yet: [at, end)
	end    int
	total  int64 // inflated so far
	sum    uint32
	err    error
}

var errNotReset = errors.New("reader has no input")

// Reset begins the stream src, which is all of it and nothing else; nil lets go of the last one. It checks the header.
func (r *Reader) Reset(src []byte) error {
	r.at, r.end, r.total, r.sum = 0, 0, 0, 1
	if src == nil {
		r.d.src, r.err = nil, errNotReset
		return nil
	}
	if r.window == nil {
		r.window = make([]byte, history+pieceBytes)
	}
	r.err = r.d.start(src)
	return r.err
}

// Read fills p with the next bytes, as far as they are inflated already. It returns io.EOF after the last byte, if the
// checksum is right and nothing follows the stream; other errors are an [*Error].
func (r *Reader) Read(p []byte) (int, error) {
	if r.window == nil {
		return 0, errNotReset
	}
	if len(p) == 0 {
		return 0, nil
	}
	for r.at == r.end {
		if r.err != nil {
			return 0, r.err
		}
		r.next()
	}
	n := copy(p, r.window[r.at:r.end])
	r.at += n
	return n, nil
}

// next inflates another piece.
func (r *Reader) next() {
	if r.d.step == atEnd {
		r.err = io.EOF
		if err := r.d.trailer(r.sum); err != nil {
			r.err = r.d.fault(r.total, err)
		}
		return
	}
	if r.end > history {
		copy(r.window, r.window[r.end-history:r.end])
		r.at, r.end = history, history
	}
	end, _, err := r.d.run(r.window, r.end)
	r.sum = adler32(r.sum, r.window[r.end:end])
	r.total += int64(end - r.end)
	r.end = end
	if err != nil {
		r.err = r.d.fault(r.total, err)
	}
}
