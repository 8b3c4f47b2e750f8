package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/wire"
)

// Installer takes whole chunks. It is called from several goroutines at once.
// A *ndz.CorruptError means that nothing of the chunk was used: it is dropped
// and asked for again. Any other error ends the session.
type Installer interface {
	Install(ctx context.Context, index int, chunk []byte) error
}

// Defaults and bounds of Config.
const (
	// DefaultMemory for chunk buffers, bytes.
	DefaultMemory = 64 << 20
	// MinMemory is the least: one chunk arriving, one being installed, and
	// two more so that neither waits for the other.
	MinMemory = 4 * wire.ChunkSize
	// DefaultReadAhead is how many chunks are on order at a time, by all
	// clients of the group together. It also bounds what can be on its way to a
	// receiver that is not scheduled, and stays well below what a receive
	// buffer of mcast.DefaultBuffer holds; at 1 Gbit/s it is 50 ms of work.
	DefaultReadAhead = 6
	// maxWorkers is the default's upper bound.
	maxWorkers = 4
	// maxBad is how often the same chunk may arrive damaged.
	maxBad = 5
)

var (
	// ErrNoServer is the end when nobody answered a join in Config.JoinTimeout.
	ErrNoServer = errors.New("no server answered")
	// ErrSize is the end when the server's image has another size than expected.
	ErrSize = errors.New("the server's image has the wrong size")
	// ErrStalled is the end when, after joining, no new data came for Config.StallTimeout.
	ErrStalled = errors.New("no data")
	// ErrConfig says that a Config makes no sense.
	ErrConfig = errors.New("bad client configuration")
)

// CorruptError is the end when the same chunk arrived damaged several times.
type CorruptError struct {
	Chunk       int
	First, Last int64 // its bytes in the image: [First, Last)
	Times       int
	Err         error // what was wrong the last time
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("chunk %d (bytes %d to %d of the image) arrived damaged %d times: %v", e.Chunk, e.First, e.Last, e.Times, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Config says what to receive.
type Config struct {
	// Conn is the end of the group. It stays the caller's.
	Conn mcast.Conn
	// Server is the only address to take an image from; the zero Addr takes
	// whoever answers the join first, and keeps to that one.
	Server netip.Addr
	// Chunks is how many chunks the image must have; 0 takes the server's word.
	Chunks    int
	Installer Installer
	// Workers call the Installer; 0 means one for each core, at most 4.
	Workers int
	// Memory for chunk buffers, bytes; 0 means DefaultMemory.
	Memory int64
	// ReadAhead is how many chunks are on order at a time; 0 means DefaultReadAhead.
	ReadAhead int
	// InOrder asks for chunks in ascending order from the first, Shuffle in a
	// random order, as the original clients do. The default is ascending from
	// where the group is, and at the end what was missed: whenever clients
	// join, one round of the image then serves all of them.
	InOrder, Shuffle bool
	// StartDelay is the longest random wait before joining, for many nodes
	// that are switched on together.
	StartDelay time.Duration
	// JoinTimeout and StallTimeout end Run with ErrNoServer and ErrStalled; 0 means never.
	JoinTimeout, StallTimeout time.Duration
	// Have says which chunks need not be received. May be nil.
	Have func(chunk int) bool
	// Written gives the bytes written and the bytes covered so far, for the
	// statistics a server shows. May be nil.
	Written func() (real, covered uint64)
	// Rand makes the client's id, its order and its delays; nil is seeded by chance.
	Rand *rand.Rand
}

// Progress is where a client stands. Block counters count datagrams.
type Progress struct {
	Joined    bool
	Server    netip.Addr
	Chunks    int // of the image; 0 before joining
	Received  int // chunks complete in memory or installed, those of Config.Have included
	Installed int

	Blocks     uint64 // all that came from the server
	Duplicates uint64 // of blocks we had
	NoRoom     uint64 // new, but all buffers were full
	Lost       uint64 // asked for again because they did not come
	Requests   uint64 // for whole chunks
	Retries    uint64 // for the same again, or for missing blocks
	Corrupt    uint64 // chunks that arrived damaged
	Joins      uint64 // join requests sent
	Idle       uint64 // how often nothing came and everything was asked for again
	Foreign    uint64 // blocks from another address than the server's
	Bad        uint64 // undecodable, or claiming another source, or outside the image
	Overruns   uint64 // dropped by the own receive queue
	Reports    uint64 // sent, of how we fare, to a server that wants them
}

// Stats are the final figures of a session.
type Stats struct {
	Progress
	Elapsed time.Duration // since Run was called
}

// Client receives one image.
type Client struct {
	cfg    Config
	rand   *rand.Rand
	id     uint32
	source [4]byte

	server  netip.Addr
	chunks  []chunk
	todo    []int  // chunks we lack, in the order of asking
	placed  bool   // that order begins where the group is
	asked   []int  // of these, the ones somebody asked for
	kept    []int  // scratch of ask
	turns   uint32 // requests seen, for their order
	fills   []*fill
	free    [][]byte
	buffers int // made so far
	most    int // to be made at most
	size    int // of each: wire.ChunkSize; models in tests make it 0 and move no data
	left    int // chunks not installed
	jobs    chan job
	results chan result

	current      int // chunk of the last block
	currentBlock int
	lastBlock    time.Time // from the server
	lastNew      time.Time // block that we lacked, or a time when we wanted none
	lastHeard    time.Time // block or useful request: not idle
	lastAsk      time.Time
	lastJoin     time.Time
	gap          time.Duration // mean time between blocks
	backoff      int
	outage       bool // nothing came for long, and the server has not told its size since
	report       report
	tell         tell
	speed        speed
	start        time.Time
	now          Progress // of the loop; published under mu

	mu   sync.Mutex
	seen Progress
}

// New checks the configuration.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Conn == nil:
		return nil, fmt.Errorf("%w: no Conn", ErrConfig)
	case cfg.Installer == nil:
		return nil, fmt.Errorf("%w: no Installer", ErrConfig)
	case cfg.Server.IsValid() && !cfg.Server.Is4():
		return nil, fmt.Errorf("%w: server %v is not an IPv4 address", ErrConfig, cfg.Server)
	case cfg.Chunks < 0 || cfg.Workers < 0 || cfg.ReadAhead < 0 || cfg.StartDelay < 0 || cfg.JoinTimeout < 0 || cfg.StallTimeout < 0:
		return nil, fmt.Errorf("%w: negative number", ErrConfig)
	case cfg.Memory != 0 && cfg.Memory < MinMemory:
		return nil, fmt.Errorf("%w: %d bytes of memory, at least %d are needed", ErrConfig, cfg.Memory, MinMemory)
	}
	if cfg.Workers == 0 {
		cfg.Workers = min(runtime.NumCPU(), maxWorkers)
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.ReadAhead == 0 {
		cfg.ReadAhead = DefaultReadAhead
	}
	c := &Client{cfg: cfg, rand: cfg.Rand, source: cfg.Conn.Addr().Addr().As4(),
		most: int(min(cfg.Memory/wire.ChunkSize, math.MaxInt32)), size: wire.ChunkSize, current: -1}
	if c.rand == nil {
		c.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	c.id = uint32(c.rand.Int32()) // 31 bits (§3)
	return c, nil
}

// Progress tells where the client stands; it may be called at any time.
func (c *Client) Progress() Progress {
	c.mu.Lock()
	p := c.seen
	c.mu.Unlock()
	p.Overruns = c.cfg.Conn.Overruns()
	return p
}

// publish makes the loop's figures visible.
func (c *Client) publish() {
	c.mu.Lock()
	c.seen = c.now
	c.mu.Unlock()
}

// Run receives the image. It returns when every chunk is installed (nil), ctx
// ends (its error), or one of the errors of this package or of the Installer
// says why not. A server that vanishes and comes back does not end it before
// StallTimeout. It may be called once.
func (c *Client) Run(ctx context.Context) (Stats, error) {
	c.start = time.Now()
	err := c.run(ctx)
	c.publish()
	return Stats{Progress: c.Progress(), Elapsed: time.Since(c.start)}, err
}

func (c *Client) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()
	if err := c.delay(ctx); err != nil {
		return err
	}
	n, err := c.join(ctx)
	if err != nil {
		return err
	}
	c.prepare(n)
	defer c.leave()
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(c.jobs)
	defer cancel() // a worker in the middle of a long write should not be waited for in vain
	for range c.cfg.Workers {
		workers.Go(func() { c.work(ctx) })
	}
	return c.loop(ctx)
}

// wake ends a Receive which is waiting.
func (c *Client) wake() { _ = c.cfg.Conn.SetReadDeadline(time.Unix(1, 0)) }

// delay waits a random part of StartDelay.
func (c *Client) delay(ctx context.Context) error {
	if c.cfg.StartDelay == 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(c.rand.Int64N(int64(c.cfg.StartDelay))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare sets up for an image of n chunks.
func (c *Client) prepare(n int) {
	now := time.Now()
	c.chunks = make([]chunk, n)
	c.most = min(c.most, n)
	for i := range c.chunks {
		if c.cfg.Have != nil && c.cfg.Have(i) {
			c.chunks[i].state = installed
			c.now.Received++
			c.now.Installed++
			continue
		}
		c.todo = append(c.todo, i)
	}
	c.left = len(c.todo)
	c.placed = c.cfg.InOrder || c.cfg.Shuffle
	if c.cfg.Shuffle && !c.cfg.InOrder {
		c.rand.Shuffle(len(c.todo), func(i, k int) { c.todo[i], c.todo[k] = c.todo[k], c.todo[i] })
	}
	c.jobs = make(chan job, c.most)
	c.results = make(chan result, c.most)
	c.lastBlock, c.lastNew, c.lastJoin = now, now, now
	// Not all who heard the same answer should ask at the same moment.
	c.lastHeard = now.Add(firstAsk - idleAfter + time.Duration(c.rand.Int64N(int64(tick))))
	c.lastAsk = now
	c.gap = 100 * time.Microsecond
	c.publish()
}

// loop receives until nothing is left to install.
func (c *Client) loop(ctx context.Context) error {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	var p wire.Packet
	for c.left > 0 {
		// Workers and the end of ctx wake a Receive by moving this deadline;
		// so look at them after setting it, not before.
		if err := c.cfg.Conn.SetReadDeadline(time.Now().Add(tick)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.settle(); err != nil {
			return err
		}
		if c.left == 0 {
			break
		}
		n, err := c.cfg.Conn.Receive(ds)
		now := time.Now()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("receive from %v: %w", c.cfg.Conn.Group(), err)
		}
		for _, d := range ds[:n] {
			if err := c.handle(&p, d, now); err != nil {
				return err
			}
		}
		if err := c.pace(now, n == len(ds)); err != nil {
			return err
		}
		c.publish()
	}
	return nil
}

// job is a chunk for a worker, result what became of it.
type job struct {
	chunk int
	buf   []byte
}

type result struct {
	job
	err error
}

// work installs chunks until there are no more.
func (c *Client) work(ctx context.Context) {
	for j := range c.jobs {
		err := ctx.Err()
		if err == nil {
			err = c.cfg.Installer.Install(ctx, j.chunk, j.buf)
		}
		c.results <- result{j, err} // never waits: there are as many places as buffers
		c.wake()
	}
}

// settle takes in what the workers have done.
func (c *Client) settle() error {
	for {
		select {
		case r := <-c.results:
			c.free = append(c.free, r.buf)
			c.speed.end(time.Now())
			ch := &c.chunks[r.chunk]
			var bad *ndz.CorruptError
			switch {
			case r.err == nil:
				ch.state = installed
				c.now.Installed++
				c.left--
			case errors.As(r.err, &bad):
				c.now.Corrupt++
				c.now.Received--
				ch.bad++
				if ch.bad == maxBad {
					first := int64(r.chunk) * wire.ChunkSize
					return &CorruptError{Chunk: r.chunk, First: first, Last: first + wire.ChunkSize, Times: maxBad, Err: r.err}
				}
				ch.state, ch.ours, ch.asked = lacking, true, time.Time{}
				c.todo = append(c.todo, r.chunk)
			default:
				return fmt.Errorf("install chunk %d: %w", r.chunk, r.err)
			}
		default:
			return nil
		}
	}
}
