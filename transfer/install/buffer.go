package install

import (
	"io"
	"sync"
)

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
