package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// heldBack is how much of what was captured is kept until more comes, bytes.
	heldBack = 64 << 10
	// drip is how much of it is sent in each dripTime in which nothing comes. A
	// megabyte of image may stand for a gigabyte of zeros, and reading that can
	// take longer than the image service has patience with a silent sender.
	drip     = 1 << 10
	dripTime = 15 * time.Second
)

// Trailers of a save, as the image service reads them.
const (
	trailerLength = "Loadnode-Length"
	trailerDigest = "Loadnode-Sha256"
)

// stream is the body of the request that sends an image: what Write gets, Read
// gives, and Write waits while enough for the next moments is there. It holds
// at most what one Write brings and heldBack.
type stream struct {
	clock Clock
	first func() // called by the first Read that gives anything: the service listens
	share func() float64

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at each change
	pending []byte
	ended   error // io.EOF: whole; else why not
	out     int64 // given by Read
	in      int64 // taken by Write
	sum     hash.Hash
	trailer http.Header
}

func newStream(clock Clock) *stream {
	return &stream{clock: clock, changed: make(chan struct{}), sum: sha256.New(), first: func() {}, share: func() float64 { return 0 },
		trailer: http.Header{trailerLength: nil, trailerDigest: nil}}
}

// tell wakes those who wait. The lock is held.
func (s *stream) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Write implements io.Writer. It waits for the reader.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > heldBack && s.ended == nil {
		s.wait(nil)
	}
	if s.ended != nil {
		return 0, s.ended
	}
	s.pending = append(s.pending, p...)
	s.in += int64(len(p))
	s.sum.Write(p) // a hash: it takes everything
	s.tell()
	return len(p), nil
}

// awaitFirst waits until there is something to read. It returns the error with
// which the stream has ended before.
func (s *stream) awaitFirst() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) == 0 && s.ended == nil {
		s.wait(nil)
	}
	if s.ended == io.EOF {
		return nil
	}
	return s.ended
}

// wait waits for a change, or for late, without the lock. It says whether
// there was a change.
func (s *stream) wait(late <-chan time.Time) bool {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return true
	case <-late:
		return false
	}
}

// end ends the stream: nil says that everything was written. Only the first
// call counts.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	if s.ended = err; err == nil {
		s.ended = io.EOF
	}
	s.tell()
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, began, err := s.read(p)
	if began {
		s.first()
	}
	return n, err
}

func (s *stream) read(p []byte) (n int, began bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := 0
	var late <-chan time.Time
	for ready == 0 {
		switch {
		case s.ended == io.EOF && len(s.pending) == 0:
			// Not before: the HTTP client looks at the names until it has sent
			// them, and at the values from here on.
			s.trailer.Set(trailerLength, strconv.FormatInt(s.in, 10))
			s.trailer.Set(trailerDigest, hex.EncodeToString(s.sum.Sum(nil)))
			return 0, false, io.EOF
		case s.ended == io.EOF:
			ready = len(s.pending)
		case s.ended != nil:
			return 0, false, s.ended
		case len(s.pending) > heldBack:
			ready = len(s.pending) - heldBack
		default:
			if late == nil {
				late = s.clock.After(dripTime)
			}
			if !s.wait(late) {
				late, ready = nil, min(drip, len(s.pending))
			}
		}
	}
	n = copy(p, s.pending[:ready])
	s.pending = s.pending[n:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	began = s.out == 0 && n > 0
	s.out += int64(n)
	s.tell()
	return n, began, nil
}

// Close implements io.Closer, for the HTTP client: it reads no more.
func (s *stream) Close() error {
	s.end(errNobodyReads)
	return nil
}

// Percent is how much of the used space of the disk is captured. Simulated
// networks go by it.
func (s *stream) Percent() float64 { return s.share() }

// sent is how many bytes the reader has taken.
func (s *stream) sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out
}

// total is how many bytes were written.
func (s *stream) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}
