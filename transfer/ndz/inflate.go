package ndz

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// Stream inflates one chunk piece by piece: a chunk of a megabyte may hold a gigabyte of zeros. It reports [io.EOF]
// only after exactly [Header.DataSize] bytes, a correct Adler-32 sum and the end of the payload; everything else is an
// error that wraps [ErrFormat]. A Stream is for one goroutine; Close gives its decoder back.
type Stream struct {
	src  bytes.Reader
	zr   io.ReadCloser
	left int64
	err  error
}

// streams keeps decoders, whose windows and tables are worth keeping.
var streams = sync.Pool{New: func() any { return new(Stream) }}

// NewStream returns a stream over the payload of chunk, whose header is h. An unsigned SHA-1 checksum of a V4 chunk is
// checked here.
func NewStream(chunk []byte, h Header) (*Stream, error) {
	if h.PayloadSize < 1 || h.PayloadSize > MaxPayload || len(chunk) < HeaderSize+h.PayloadSize {
		return nil, fmt.Errorf("%w: %d bytes, header and payload have %d", ErrFormat, len(chunk), HeaderSize+h.PayloadSize)
	}
	if h.Version == 4 && h.Checksum == csumSHA1 {
		if err := checkSHA1(chunk[:HeaderSize+h.PayloadSize]); err != nil {
			return nil, err
		}
	}
	s := streams.Get().(*Stream)
	s.src.Reset(chunk[HeaderSize : HeaderSize+h.PayloadSize])
	s.left, s.err = h.DataSize(), nil
	var err error
	if s.zr == nil {
		s.zr, err = zlib.NewReader(&s.src)
	} else {
		err = s.zr.(zlib.Resetter).Reset(&s.src, nil)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%w: zlib header of the payload: %w", ErrFormat, unexpected(err))
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
	if s.left == 0 {
		s.err = s.end()
		return 0, s.err
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.zr.Read(p)
	s.left -= int64(n)
	switch {
	case err == io.EOF && s.left > 0:
		s.err = fmt.Errorf("%w: payload ends %d bytes before the size its regions give", ErrFormat, s.left)
	case err == io.EOF:
		if s.src.Len() > 0 {
			s.err = s.trailing()
		} else {
			s.err = io.EOF
		}
	case err != nil:
		s.err = fmt.Errorf("%w: payload does not inflate: %w", ErrFormat, unexpected(err))
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// end checks that nothing follows the last byte that the regions have room for.
func (s *Stream) end() error {
	var one [1]byte
	for {
		n, err := s.zr.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: payload inflates to more than the size its regions give", ErrFormat)
		case err == io.EOF && s.src.Len() > 0:
			return s.trailing()
		case err == io.EOF:
			return io.EOF
		case err != nil:
			return fmt.Errorf("%w: payload does not inflate: %w", ErrFormat, unexpected(err))
		}
	}
}

func (s *Stream) trailing() error {
	return fmt.Errorf("%w: %d bytes follow the zlib stream inside the payload", ErrFormat, s.src.Len())
}

// Close gives the decoder back. The stream must not be used afterwards.
func (s *Stream) Close() {
	s.src.Reset(nil)
	s.err = errors.New("stream is closed")
	streams.Put(s)
}

// unexpected keeps io.EOF out of error chains: to a caller it would look like a good end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Inflate appends the data of a chunk to dst[:0] and returns it: exactly [Header.DataSize] bytes in region order. It
// grows dst as the data comes, so a header that lies about its size costs no more memory than its payload inflates to.
// For data of any size in bounded memory use [NewStream].
func Inflate(chunk []byte, h Header, dst []byte) ([]byte, error) {
	s, err := NewStream(chunk, h)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	size := h.DataSize()
	dst = dst[:0]
	// Four times the payload is a usual chunk; a higher claim must be earned by real data.
	if first := min(size, int64(h.PayloadSize)*4); int64(cap(dst)) < first {
		dst = make([]byte, 0, first)
	}
	for {
		if len(dst) == cap(dst) {
			if int64(len(dst)) == size {
				break
			}
			grown := make([]byte, len(dst), min(size, 2*int64(cap(dst))))
			copy(grown, dst)
			dst = grown
		}
		n, err := s.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		return nil, err
	}
	return dst, nil
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
