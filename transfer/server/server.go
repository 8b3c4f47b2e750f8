package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

var (
	// ErrIdle is how Run ends when nobody asked for anything for Config.Idle.
	ErrIdle = errors.New("no client asked for anything")
	// ErrAllLeft is how Run ends with Config.UntilLeft when the last client has left.
	ErrAllLeft = errors.New("all clients have left")
	// ErrConfig says that a Config makes no sense.
	ErrConfig = errors.New("bad server configuration")
)

// DefaultReadAhead is how many chunks are read before they are to be sent.
const DefaultReadAhead = 8

// leftGrace is how long after the last leave a server still waits (§4).
const leftGrace = 2 * time.Second

// Config says what is served.
type Config struct {
	// Conn is the end of the group; Listen opens one. It stays the caller's.
	Conn mcast.Conn
	// Image is a whole number of chunks of 1 MiB.
	Image Source
	// Rate is the highest pace in bit/s on the wire, with all overheads; 0
	// means DefaultRate, Unlimited none.
	Rate int64
	// Fixed keeps the rate whatever the clients lose or have room for; by
	// default it adapts to them.
	Fixed bool
	// Burst is how many blocks are sent in one go at most; 0 chooses by the rate.
	Burst int
	// Limiter is asked before each burst, beside the server's own pacing, when
	// sessions share a link: a Share of a Link. May be nil.
	Limiter Limiter
	// Clock keeps the pace. Nil means a FineClock for a Conn over sockets, and
	// for all others the timers of the runtime, which may be virtual.
	Clock Clock
	// Idle ends Run with ErrIdle after so long without a request or a report;
	// 0 means never.
	Idle time.Duration
	// UntilLeft ends Run with ErrAllLeft 2 s after the last client has left.
	UntilLeft bool
	// Check is called for each chunk that was read, before any of it is sent;
	// an error ends Run with a *DamagedError. May be nil.
	Check func(chunk int, data []byte) error
	// ReadAhead in chunks, at least 2; 0 means DefaultReadAhead.
	ReadAhead int
	// AskProgress asks clients for reports in this interval, whole seconds; 0 does not.
	AskProgress time.Duration
}

// Stats are the counters of a session. Datagrams, unless they say otherwise.
type Stats struct {
	Chunks     int    // of the image
	BlocksSent uint64 // blocks, repeated ones included
	BytesSent  uint64 // bytes of the image, repeated ones included
	Resent     uint64 // blocks that had been sent before
	Rate       int64  // bit/s on the wire at the moment
	Reductions int    // how often the rate fell

	Joins, Leaves   uint64
	Requests        uint64 // for ranges of blocks
	PartialRequests uint64 // with a bitmap
	Reports         uint64 // of progress
	Told            uint64 // reports of how receivers fare, from our own clients
	Merged          uint64 // requests whose chunk was queued already
	Heard           uint64 // blocks asked for that their asker had just been sent
	Queued          int    // tasks in both queues now, at most two for each chunk
	Deferred        int    // of these, repeats for late joiners, which let new blocks pass

	Undecodable uint64 // not a datagram of this protocol
	BadSource   uint64 // claims another source than it came from
	OutOfRange  uint64 // asks for what the image does not have
	Empty       uint64 // asks for nothing
}

// Server serves one image.
type Server struct {
	cfg    Config
	chunks int
	source [4]byte
	pace   *Bucket
	clock  *FineClock // nil if the clock is not ours
	burst  int
	store  *store
	wake   chan struct{}

	mu      sync.Mutex
	plan    *plan
	recent  *recent
	clients *table
	adapt   *adapter      // nil with a fixed rate
	sent    []wire.Bitmap // blocks that were ever sent, of each chunk
	begun   []time.Time   // when the first block of each chunk was sent
	again   *time.Timer   // looks whether there is room, while there is none
	active  time.Time     // of the last request or report
	left    time.Time     // of the last leave
	stats   Stats
}

// Ignore is what a server need not hear from the group: its own blocks.
func Ignore() []mcast.Match {
	return []mcast.Match{{Offset: 4, Word: uint32(wire.Block), Size: wire.BlockDatagramSize}}
}

// Listen opens the group for a server: nobody else may serve on this address
// and port, and blocks stay out of the receive queue.
func Listen(o mcast.Options) (mcast.Conn, error) {
	o.Exclusive = true
	o.Ignore = append(o.Ignore, Ignore()...)
	return mcast.Open(o)
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Conn == nil:
		return nil, fmt.Errorf("%w: no Conn", ErrConfig)
	case cfg.Image == nil:
		return nil, fmt.Errorf("%w: no Image", ErrConfig)
	case cfg.Rate < Unlimited || cfg.Burst < 0 || cfg.ReadAhead < 0 || cfg.Idle < 0 || cfg.AskProgress < 0:
		return nil, fmt.Errorf("%w: negative number", ErrConfig)
	}
	size := cfg.Image.Size()
	switch {
	case size == 0:
		return nil, fmt.Errorf("%w: the image is empty", ErrConfig)
	case size%wire.ChunkSize != 0:
		return nil, fmt.Errorf("%w: the image has %d bytes, not a whole number of %d-byte chunks: it is not an .ndz image or was cut off", ErrConfig, size, wire.ChunkSize)
	case size/wire.BlockSize > math.MaxInt32:
		return nil, fmt.Errorf("%w: the image has %d bytes, the protocol allows 2 TiB", ErrConfig, size)
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.ReadAhead == 0 {
		cfg.ReadAhead = DefaultReadAhead
	}
	cfg.ReadAhead = max(cfg.ReadAhead, 2) // a new one and a repeat
	chunks := int(size / wire.ChunkSize)
	var fine *FineClock
	if _, real := cfg.Conn.(mcast.Modal); real && cfg.Clock == nil {
		fine = NewFineClock()
		cfg.Clock = fine
	}
	s := &Server{
		cfg: cfg, chunks: chunks, source: cfg.Conn.Addr().Addr().As4(), clock: fine,
		pace: NewBucket(cfg.Rate, cfg.Clock), burst: cfg.Burst, wake: make(chan struct{}, 1),
		plan: newPlan(), recent: newRecent(), clients: newTable(),
		sent: make([]wire.Bitmap, chunks), begun: make([]time.Time, chunks),
		stats: Stats{Chunks: chunks},
	}
	if !cfg.Fixed && cfg.Rate != Unlimited {
		s.adapt = newAdapter(cfg.Rate)
		s.pace.SetRate(s.adapt.rate)
		s.plan.gate = s.mayBegin
	}
	s.plan.lacked = s.lacked
	s.store = newStore(cfg.Image, cfg.Check, cfg.ReadAhead, s.poke)
	return s, nil
}

// mayBegin says whether there is room for a chunk at the clients, if it is new
// to them. Otherwise it has the sender look again soon. The caller holds s.mu.
func (s *Server) mayBegin(chunk int) bool {
	now := time.Now()
	if !s.begun[chunk].IsZero() || s.adapt.mayBegin(now, s.clients, s.recent.begins) {
		return true
	}
	if s.again == nil {
		s.again = time.AfterFunc(look, s.poke)
	} else {
		s.again.Reset(look)
	}
	return false
}

// lacked says whether somebody came after a chunk was sent who could take all
// of it. The caller holds s.mu.
func (s *Server) lacked(_ int, since time.Time) bool {
	now := time.Now()
	for _, e := range s.clients.rows {
		v := &e.view
		// Who has more than was sent since it came had something before.
		had := uint64(v.r.Received) > s.plan.clock-e.round+1
		if e.came.After(since) && e.here(now) && !v.heard.IsZero() && v.r.Free > 0 && !had {
			return true
		}
	}
	return false
}

// Stats gives the counters; it may be called at any time.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Rate = s.pace.Rate()
	st.Queued, st.Deferred = s.plan.size(), len(s.plan.repeats.tasks)
	if s.adapt != nil {
		st.Reductions = s.adapt.reducing
	}
	return st
}

// Clients lists who was seen, at most 1024, in no order.
func (s *Server) Clients() []ClientInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients.list()
}

// Run serves until ctx ends (its error), nobody wants anything any more
// (ErrIdle, ErrAllLeft), the image turns out damaged (*DamagedError) or cannot
// be read, or the Conn fails. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	forget := context.AfterFunc(ctx, func() { _ = s.cfg.Conn.SetReadDeadline(time.Unix(1, 0)) })
	defer forget() // after the receiver was woken by it
	if s.clock != nil {
		defer s.clock.Close()
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer s.store.stop()
	defer s.stopLooking()
	defer cancel(nil)
	s.mu.Lock()
	s.active = time.Now()
	s.mu.Unlock()
	for range loaders {
		all.Go(func() { s.store.load(ctx) })
	}
	all.Go(func() {
		if err := s.receive(ctx); err != nil {
			cancel(fmt.Errorf("serve on %v: %w", s.cfg.Conn.Group(), err))
		}
	})
	err := s.send(ctx)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	return err
}

// stopLooking ends the timer of mayBegin.
func (s *Server) stopLooking() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again != nil {
		s.again.Stop()
	}
}

// poke wakes the sender.
func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// peer is where answers to a datagram go: always to the port of the session.
func (s *Server) peer(a netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(a, s.cfg.Conn.Addr().Port())
}
