package install

import (
	"hash"
	"io"
	"sync"

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

// inflate returns the data of a chunk after all of it was inflated and checked once, and added to sum if there is one.
func (f inflater) inflate(index int, chunk []byte, h ndz.Header, sum hash.Hash) (source, error) {
	s, err := ndz.NewStream(chunk, h)
	if err != nil {
		return nil, ndz.Corrupt(index, err)
	}
	defer s.Close()
	size := h.DataSize()
	whole := size <= wholeInflate
	from := f.pieces
	if whole {
		from = f.wholes
	}
	b := from.get()
	for at := 0; ; {
		piece := b.data
		if whole {
			piece = b.data[at:]
			if len(piece) == 0 { // the buffer is full: what is left to read is the end
				piece = b.end[:]
			}
		}
		n, err := s.Read(piece)
		if sum != nil {
			sum.Write(piece[:n])
		}
		at += n
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Close()
			return nil, ndz.Corrupt(index, err)
		}
	}
	if whole {
		b.rest = b.data[:size]
		return b, nil
	}
	b.Close()
	if s, err = ndz.NewStream(chunk, h); err != nil {
		return nil, ndz.Corrupt(index, err)
	}
	return s, nil
}

// buffers are kept for reuse: an installer has one set for whole chunks and one for pieces.
type buffers struct {
	pool sync.Pool
}

func newBuffers(size int) *buffers {
	return &buffers{pool: sync.Pool{New: func() any { return &buffer{data: make([]byte, size)} }}}
}

func (s *buffers) get() *buffer {
	b := s.pool.Get().(*buffer)
	b.home = s
	return b
}

// buffer holds inflated data.
type buffer struct {
	data []byte
	rest []byte // what was not read yet
	end  [1]byte
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
	b.home.pool.Put(b)
}
