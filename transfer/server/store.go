package server

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"time"

	"loadnode/transfer/wire"
)

// Source is an image.
type Source interface {
	io.ReaderAt
	// Size is the length in bytes.
	Size() int64
}

const (
	// loaders read and check chunks beside the sender.
	loaders = 2
	// readTries and readPause bound how long a chunk that cannot be read is
	// tried again (§4: 10 s).
	readTries = 100
	readPause = 100 * time.Millisecond
)

// DamagedError says that Check refused a chunk. No byte of it was sent.
type DamagedError struct {
	Chunk       int
	First, Last int64 // bytes of the image: [First, Last)
	Err         error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("image is damaged: chunk %d (bytes %d to %d), not sent: %v", e.Chunk, e.First, e.Last, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// store reads chunks ahead and keeps the last ones for repairs. Every chunk
// that comes from the source is checked before it can be sent. One that is read
// once more later is compared with what was checked, by a keyed hash that costs
// a tenth of a digest and that nobody outside this process can aim at, and is
// checked again if it is not the same: a file may change under a server. That
// is also why it is read and not mapped: a file that is cut off under a mapping
// ends the process.
type store struct {
	src   Source
	check func(chunk int, data []byte) error
	ready func() // tells the sender
	slots int

	seed maphash.Seed
	good []uint64 // what a chunk hashed to when it was checked, 0 if it was not; written by who reads the chunk

	mu      sync.Mutex
	change  *sync.Cond
	wanted  []int // in order of urgency
	loaded  map[int]*slot
	used    uint64 // grows with each use, for the order of eviction
	stopped bool
	err     error
}

type slot struct {
	data []byte // nil while it is being read
	used uint64
}

func newStore(src Source, check func(int, []byte) error, ahead int, ready func()) *store {
	s := &store{src: src, check: check, ready: ready, slots: ahead + loaders + 4, loaded: map[int]*slot{}, seed: maphash.MakeSeed()}
	if check != nil {
		s.good = make([]uint64, src.Size()/wire.ChunkSize)
	}
	s.change = sync.NewCond(&s.mu)
	return s
}

// want says what will be sent next; the loaders see to it. It gives the error
// which ended the loading, if one did.
func (s *store) want(chunks []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.wanted, chunks) {
		s.wanted = append(s.wanted[:0], chunks...)
		s.change.Broadcast()
	}
	return s.err
}

// here gives those of the chunks wanted last that are here. They stay until the
// next want.
func (s *store) here(dst []int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = dst[:0]
	for _, c := range s.wanted {
		if e := s.loaded[c]; e != nil && e.data != nil {
			dst = append(dst, c)
		}
	}
	return dst
}

// chunk gives a chunk that is here, for reading until the next want; else nil.
func (s *store) chunk(chunk int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.loaded[chunk]
	if e == nil {
		return nil
	}
	s.used++
	e.used = s.used
	return e.data
}

// stop ends the loaders.
func (s *store) stop() {
	s.mu.Lock()
	s.stopped = true
	s.change.Broadcast()
	s.mu.Unlock()
}

// load is the work of one loader, until stop or an error.
func (s *store) load(ctx context.Context) {
	for {
		chunk, e := s.choose()
		if e == nil {
			return
		}
		data, err := s.read(ctx, chunk, e.data)
		s.mu.Lock()
		if err != nil {
			delete(s.loaded, chunk)
			if s.err == nil {
				s.err = err
			}
			s.stopped = true
			s.change.Broadcast()
		} else {
			s.used++
			s.loaded[chunk] = &slot{data: data, used: s.used}
			s.change.Broadcast()
		}
		s.mu.Unlock()
		s.ready()
	}
}

// choose waits for a chunk that should be read and a place for it. The slot it
// gives carries the memory to use, if there is any to use again.
func (s *store) choose() (int, *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.stopped {
		for _, c := range s.wanted {
			if s.loaded[c] != nil {
				continue
			}
			buf, ok := s.place()
			if !ok {
				break
			}
			s.loaded[c] = &slot{}
			return c, &slot{data: buf}
		}
		s.change.Wait()
	}
	return 0, nil
}

// place finds memory for one more chunk, taking it from the one which was used
// longest ago and is not wanted.
func (s *store) place() ([]byte, bool) {
	if len(s.loaded) < s.slots {
		return nil, true
	}
	oldest, found := 0, false
	for c, e := range s.loaded {
		if e.data == nil || slices.Contains(s.wanted, c) {
			continue
		}
		if !found || e.used < s.loaded[oldest].used {
			oldest, found = c, true
		}
	}
	if !found {
		return nil, false
	}
	buf := s.loaded[oldest].data
	delete(s.loaded, oldest)
	return buf, true
}

// read reads and checks one chunk. An error of reading is tried again, because
// a file server may be back in a moment.
func (s *store) read(ctx context.Context, chunk int, buf []byte) ([]byte, error) {
	if buf == nil {
		buf = make([]byte, wire.ChunkSize)
	}
	first := int64(chunk) * wire.ChunkSize
	for try := 1; ; try++ {
		n, err := s.src.ReadAt(buf, first)
		if n == len(buf) {
			break
		}
		if try == readTries {
			return nil, fmt.Errorf("read chunk %d (bytes %d to %d of the image), tried %d times: %w", chunk, first, first+wire.ChunkSize, try, err)
		}
		if err := (systemClock{}).Sleep(ctx, readPause); err != nil {
			return nil, err
		}
	}
	if s.check == nil {
		return buf, nil
	}
	sum := max(maphash.Bytes(s.seed, buf), 1)
	if s.good[chunk] != sum {
		if err := s.check(chunk, buf); err != nil {
			return nil, &DamagedError{Chunk: chunk, First: first, Last: first + wire.ChunkSize, Err: err}
		}
		s.good[chunk] = sum
	}
	return buf, nil
}
