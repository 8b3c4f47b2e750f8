package install

import (
	"crypto/sha256"
	"io"

	"loadnode/transfer/ndz"
)

const (
	// wholeInflate is the most data of one chunk that is held in memory. A chunk that inflates to more is inflated
	// twice: to check it, and to write it. Such chunks are mostly zeros, which is quick.
	wholeInflate = 8 << 20
	// pieceSize is how much of a larger chunk is held at once.
	pieceSize = 512 << 10
)

// source is inflated and checked data, to be read once.
type source interface {
	io.Reader
	Close()
}

// inflater inflates chunks completely before the first byte of them is used.
type inflater struct {
	wholes, pieces *buffers
}

func newInflater() inflater {
	return inflater{wholes: newBuffers(wholeInflate), pieces: newBuffers(pieceSize)}
}

// inflate returns the data of a chunk after all of it was inflated and checked once. It puts the SHA-256 of it in sum,
// if there is one.
func (f inflater) inflate(index int, chunk []byte, h ndz.Header, sum *ndz.Digest) (source, error) {
	if size := h.DataSize(); size <= wholeInflate {
		b := f.wholes.get()
		data, err := ndz.Inflate(chunk, h, b.data)
		if err != nil {
			b.Close()
			return nil, ndz.Corrupt(index, err)
		}
		if sum != nil {
			*sum = sha256.Sum256(data)
		}
		b.rest = data
		return b, nil
	}
	if err := f.check(chunk, h, sum); err != nil {
		return nil, ndz.Corrupt(index, err)
	}
	s, err := ndz.NewStream(chunk, h)
	if err != nil {
		return nil, ndz.Corrupt(index, err)
	}
	return s, nil
}

// check inflates a chunk in pieces and keeps nothing but the digest.
func (f inflater) check(chunk []byte, h ndz.Header, sum *ndz.Digest) error {
	s, err := ndz.NewStream(chunk, h)
	if err != nil {
		return err
	}
	defer s.Close()
	b := f.pieces.get()
	defer b.Close()
	digest := sha256.New()
	for {
		n, err := s.Read(b.data)
		if sum != nil {
			digest.Write(b.data[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if sum != nil {
		digest.Sum(sum[:0])
	}
	return nil
}

// mostFree is how many buffers of a kind are kept for reuse: one for each worker that an installation is likely to have.
const mostFree = 8

// buffers are kept for reuse: an installer has one set for whole chunks and one for pieces. Unlike a sync.Pool it does
// not forget them now and then: making one costs as much as inflating a chunk.
type buffers struct {
	free chan *buffer
	size int
}

func newBuffers(size int) *buffers {
	return &buffers{free: make(chan *buffer, mostFree), size: size}
}

func (s *buffers) get() *buffer {
	select {
	case b := <-s.free:
		return b
	default:
		return &buffer{data: make([]byte, s.size), home: s}
	}
}

// buffer holds inflated data.
type buffer struct {
	data []byte
	rest []byte // what was not read yet
	home *buffers
}

func (b *buffer) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// next returns up to n unread bytes without copying them.
func (b *buffer) next(n int) []byte {
	p := b.rest[:min(n, len(b.rest))]
	b.rest = b.rest[len(p):]
	return p
}

// Close gives the buffer back.
func (b *buffer) Close() {
	b.rest = nil
	select {
	case b.home.free <- b:
	default:
	}
}
