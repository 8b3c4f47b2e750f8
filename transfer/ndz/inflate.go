package ndz

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"sync"

	"loadnode/transfer/inflate"
)

// Stream inflates one chunk piece by piece: a chunk of a megabyte may hold a gigabyte of zeros. It reports [io.EOF]
// only after exactly [Header.DataSize] bytes, a correct Adler-32 sum and the end of the payload; everything else is an
// error that wraps [ErrFormat]. A Stream is for one goroutine; Close gives its decoder back.
type Stream struct {
	r       inflate.Reader
	payload int // bytes of it
	size    int64
	left    int64
	err     error
}

// streams keeps decoders, whose windows and tables are worth keeping.
var streams = sync.Pool{New: func() any { return new(Stream) }}

// payload returns the zlib stream of a chunk whose header is h. An unsigned SHA-1 checksum of a V4 chunk is checked.
func payload(chunk []byte, h *Header) ([]byte, error) {
	if h.PayloadSize < 1 || h.PayloadSize > MaxPayload || len(chunk) < HeaderSize+h.PayloadSize {
		return nil, fmt.Errorf("%w: %d bytes, header and payload have %d", ErrFormat, len(chunk), HeaderSize+h.PayloadSize)
	}
	if h.Version == 4 && h.Checksum == csumSHA1 {
		if err := checkSHA1(chunk[:HeaderSize+h.PayloadSize]); err != nil {
			return nil, err
		}
	}
	return chunk[HeaderSize : HeaderSize+h.PayloadSize], nil
}

// NewStream returns a stream over the payload of chunk, whose header is h. An unsigned SHA-1 checksum of a V4 chunk is
// checked here.
func NewStream(chunk []byte, h Header) (*Stream, error) {
	src, err := payload(chunk, &h)
	if err != nil {
		return nil, err
	}
	s := streams.Get().(*Stream)
	s.payload, s.size, s.err = len(src), h.DataSize(), nil
	s.left = s.size
	if err := s.r.Reset(src); err != nil {
		s.Close()
		return nil, inflateError(err, len(src), h.DataSize())
	}
	return s, nil
}

// Read fills p with the next inflated bytes.
func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	if s.left > 0 {
		n, err = s.r.Read(p[:min(int64(len(p)), s.left)])
		s.left -= int64(n)
	} else { // nothing may follow the last byte that the regions have room for
		var one [1]byte
		if n, err = s.r.Read(one[:]); n > 0 {
			n, err = 0, inflate.ErrTooLong
		}
	}
	switch {
	case err == io.EOF && s.left > 0:
		s.err = inflateError(&inflate.Error{In: s.payload, Out: s.size - s.left, Err: inflate.ErrTooShort}, s.payload, s.size)
	case err == io.EOF:
		s.err = io.EOF
	case err != nil:
		s.err = inflateError(err, s.payload, s.size)
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// Close gives the decoder back. The stream must not be used afterwards.
func (s *Stream) Close() {
	s.r.Reset(nil) // lets go of the chunk; there is no header that could be wrong
	s.err = errors.New("stream is closed")
	streams.Put(s)
}

// Inflate appends the data of a chunk to dst[:0] and returns it: exactly [Header.DataSize] bytes in region order. It
// grows dst as the data comes, so a header that lies about its size costs no more memory than its payload inflates to;
// if dst has room for all, it allocates nothing. For data of any size in bounded memory use [NewStream].
func Inflate(chunk []byte, h Header, dst []byte) ([]byte, error) {
	src, err := payload(chunk, &h)
	if err != nil {
		return nil, err
	}
	size := h.DataSize()
	if dst, err = inflate.Append(dst, src, size); err != nil {
		return nil, inflateError(err, len(src), size)
	}
	return dst, nil
}

// inflateError says in terms of a chunk what is wrong with its payload, of payload bytes, for size bytes of data.
func inflateError(err error, payload int, size int64) error {
	var at inflate.Error
	if e := (*inflate.Error)(nil); errors.As(err, &e) {
		at = *e
	}
	switch {
	case errors.Is(err, inflate.ErrHeader), errors.Is(err, inflate.ErrDictionary):
		return fmt.Errorf("%w: zlib header of the payload: %w", ErrFormat, err)
	case errors.Is(err, inflate.ErrTooShort):
		return fmt.Errorf("%w: payload ends %d bytes before the size its regions give", ErrFormat, size-at.Out)
	case errors.Is(err, inflate.ErrTooLong):
		return fmt.Errorf("%w: payload inflates to more than the size its regions give", ErrFormat)
	case errors.Is(err, inflate.ErrTrailing):
		return fmt.Errorf("%w: %d bytes follow the zlib stream inside the payload", ErrFormat, payload-at.In)
	}
	return fmt.Errorf("%w: payload does not inflate: %w", ErrFormat, err)
}

// unexpected keeps io.EOF out of error chains: to a caller it would look like a good end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// checkSHA1 checks the checksum of a V4 chunk: header area and payload with the checksum field zero (§7).
func checkSHA1(b []byte) error {
	sum := sha1.New()
	sum.Write(b[:csumOffset])
	sum.Write(make([]byte, csumBytes))
	sum.Write(b[csumOffset+csumBytes:])
	if !bytes.Equal(sum.Sum(nil), b[csumOffset:csumOffset+sha1.Size]) {
		return fmt.Errorf("%w: SHA-1 checksum of the chunk does not match", ErrFormat)
	}
	return nil
}
