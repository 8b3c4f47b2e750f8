package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultAckWait = 30 * time.Second
	maxAckPending  = 4096
	// localTries is how often a message is retried here, holding up its key,
	// before it is given back to the server for any instance to take.
	localTries = 4
)

// defaultBackoff returns the delays after the first, second, … failure; the
// last one repeats.
func defaultBackoff() []time.Duration {
	return []time.Duration{
		100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	}
}

// ConsumeConfig says what to consume and how.
type ConsumeConfig struct {
	Stream  string
	Durable string   // name of the consumer, shared by all instances of a role
	Filters []string // subjects; empty: all of the stream
	Workers int      // messages handled at once; 0: 4
	// Key groups messages: those of one key are handled one after the other
	// in the order of the stream, as far as one instance sees them; a message
	// that is retried holds up its key for some tries. nil: no order.
	Key        func(Message) string
	AckWait    time.Duration   // until a dead instance's messages go to another; 0: 30 s. Handlers may take longer: it is extended while they work
	MaxDeliver int             // deliveries by the server; 0: no limit
	Backoff    []time.Duration // delays after plain errors; empty: 100 ms to 30 s
}

// Consume hands messages to handle until ctx ends, and returns when the last
// handler has. What handle returns settles the message: nil acknowledges it,
// Retry delivers it again after the given time, Permanent and errors that
// wrap ErrUndecodable set it aside, any other error delivers it again after a
// growing delay with jitter. Undecodable messages are handed over too, with
// Message.Err set: to return that is enough.
//
// The consumer is created or updated. Lost connections, restarted servers and
// streams that do not exist yet are waited for. It returns nil when ctx ended
// and an error for what waiting cannot help: ErrDenied, a closed connection, or
// a configuration that the server refuses.
func (c *Conn) Consume(ctx context.Context, cfg ConsumeConfig, handle func(context.Context, Message) error) error {
	if cfg.Stream == "" || cfg.Durable == "" || handle == nil {
		return errors.New("consume: stream, durable name and handler are required")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	if cfg.AckWait <= 0 {
		cfg.AckWait = defaultAckWait
	}
	if len(cfg.Backoff) == 0 {
		cfg.Backoff = defaultBackoff()
	}
	p := newPool(ctx, c, cfg, handle)
	defer p.close()
	for delay := newDelays(50*time.Millisecond, 2*time.Second); ; {
		began := time.Now()
		err := c.consumeOnce(ctx, cfg, p)
		if ctx.Err() != nil {
			return nil
		}
		var api *jetstream.APIError
		switch {
		case errors.Is(err, ErrDenied), errors.Is(err, nats.ErrConnectionClosed),
			errors.As(err, &api) && api.Code == 400 && api.ErrorCode != jetstream.JSErrCodeStreamNotFound:
			return fmt.Errorf("consume %s as %s: %w", cfg.Stream, cfg.Durable, err)
		}
		c.log.Debug("consumer begins again", "stream", cfg.Stream, "durable", cfg.Durable, "err", err)
		if time.Since(began) > 5*time.Second {
			delay = newDelays(50*time.Millisecond, 2*time.Second)
		}
		delay.wait(ctx)
	}
}

// consumeOnce pulls until something breaks.
func (c *Conn) consumeOnce(ctx context.Context, cfg ConsumeConfig, p *pool) error {
	if err := c.awaitUp(ctx); err != nil {
		return err
	}
	gctx, done := c.guard(ctx, onAPI)
	defer done()
	maxDeliver := cfg.MaxDeliver
	if maxDeliver <= 0 {
		maxDeliver = -1
	}
	actx, cancel := context.WithTimeout(gctx, apiTimeout)
	defer cancel()
	_, err := c.js.CreateOrUpdateConsumer(actx, cfg.Stream, jetstream.ConsumerConfig{
		Durable:        cfg.Durable,
		FilterSubjects: cfg.Filters,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        cfg.AckWait,
		MaxDeliver:     maxDeliver,
		MaxAckPending:  maxAckPending,
	})
	if err != nil {
		return classify(err, context.Cause(gctx))
	}
	pull, err := c.pull(cfg.Stream, cfg.Durable)
	if err != nil {
		return err
	}
	defer func() {
		pull.drain(func(m *nats.Msg) { p.told(m, m.NakWithDelay(minDelay)) })
	}()
	for {
		// Never more than can be looked after here: what sat in a buffer
		// would not be extended.
		n, err := p.free(gctx)
		if err == nil {
			err = pull.ask(n)
		}
		var m *nats.Msg
		if err == nil {
			m, err = pull.next(gctx, pullFor)
		}
		switch {
		case m != nil:
			p.take(m)
		case err != nil && !errors.Is(err, errIdle):
			return classify(err, context.Cause(gctx))
		}
	}
}

// pool is the workers of one consumer. Messages wait in lanes, one for each
// key; a lane is with one worker at a time.
type pool struct {
	c      *Conn
	cfg    ConsumeConfig
	handle func(context.Context, Message) error
	ctx    context.Context
	wg     sync.WaitGroup // the workers
	keeper sync.WaitGroup // the one that extends
	ended  chan struct{}  // closed when the workers have ended

	mu     sync.Mutex
	cond   *sync.Cond // something is ready, or closed
	lanes  map[string]*lane
	ready  []*lane
	held   map[*held]struct{}
	room   chan struct{} // a signal that held has shrunk
	limit  int
	closed bool
}

type lane struct {
	key   string
	queue []*held
	timer *time.Timer // while its head waits for another try
}

// held is a message that this instance has to settle.
type held struct {
	raw   *nats.Msg
	m     Message
	tries int // here
}

func newPool(ctx context.Context, c *Conn, cfg ConsumeConfig, handle func(context.Context, Message) error) *pool {
	p := &pool{
		c: c, cfg: cfg, handle: handle, ctx: ctx,
		lanes: make(map[string]*lane),
		held:  make(map[*held]struct{}),
		room:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		limit: min(cfg.Workers*4+64, maxAckPending),
	}
	p.cond = sync.NewCond(&p.mu)
	for range cfg.Workers {
		p.wg.Go(p.work)
	}
	p.keeper.Go(p.extend)
	return p
}

// free blocks until there is room and returns for how many messages.
func (p *pool) free(ctx context.Context) (int, error) {
	for {
		p.mu.Lock()
		n := p.limit - len(p.held)
		p.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take puts a message into its lane.
func (p *pool) take(raw *nats.Msg) {
	m, err := streamMessage(raw)
	if err != nil {
		p.c.log.Warn("message without metadata", "subject", raw.Subject, "err", err)
		return
	}
	if m.Err != nil {
		p.c.counts.undecodable.Add(1)
	}
	key := "#" + strconv.FormatUint(m.Seq, 10)
	if p.cfg.Key != nil {
		key = "=" + p.cfg.Key(m)
	}
	h := &held{raw: raw, m: m}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[h] = struct{}{}
	l := p.lanes[key]
	if l == nil {
		l = &lane{key: key}
		p.lanes[key] = l
		p.makeReady(l)
	}
	l.queue = append(l.queue, h)
}

// makeReady hands a lane to the workers. The lock is held.
func (p *pool) makeReady(l *lane) {
	p.ready = append(p.ready, l)
	p.cond.Signal()
}

// next waits for a lane with something to do; nil when the pool is closed.
func (p *pool) next() *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) == 0 && !p.closed {
		p.cond.Wait()
	}
	if p.closed {
		return nil
	}
	l := p.ready[0]
	p.ready = p.ready[1:]
	return l
}

func (p *pool) work() {
	for {
		l := p.next()
		if l == nil {
			return
		}
		p.mu.Lock()
		h := l.queue[0]
		p.mu.Unlock()
		h.tries++
		m := h.m
		m.Delivered += h.tries - 1
		m.Redelivered = m.Delivered > 1
		again := p.settle(h, p.handle(p.ctx, m))
		p.mu.Lock()
		switch {
		case again > 0 && !p.closed:
			l.timer = time.AfterFunc(again, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				l.timer = nil
				p.makeReady(l)
			})
		case again > 0: // closed: close gives it back
		default:
			l.queue = l.queue[1:]
			delete(p.held, h)
			select {
			case p.room <- struct{}{}:
			default:
			}
			if len(l.queue) > 0 {
				p.makeReady(l)
			} else {
				delete(p.lanes, l.key)
			}
		}
		p.mu.Unlock()
	}
}

// settle tells the server the outcome. A positive result says that the
// message stays here, at the head of its lane, and is tried again then.
func (p *pool) settle(h *held, err error) time.Duration {
	c := p.c
	what, after := settle(err, h.m.Delivered+h.tries-1, p.cfg.Backoff)
	if what == outcomeAside {
		reason := oneLine(err)
		if asideErr := c.setAside(context.WithoutCancel(p.ctx), p.cfg.Durable, h.m, reason); asideErr != nil {
			c.log.Warn("message cannot be set aside yet", "subject", h.m.Subject, "seq", h.m.Seq, "err", asideErr)
			what, after = outcomeAgain, time.Second
		} else {
			c.counts.setAside.Add(1)
			c.log.Warn("message set aside", "subject", h.m.Subject, "seq", h.m.Seq, "err", reason)
			p.told(h.raw, h.raw.Respond([]byte("+TERM "+reason)))
			return 0
		}
	}
	if what == outcomeDone {
		c.counts.consumed.Add(1)
		p.told(h.raw, h.raw.Ack())
		return 0
	}
	c.counts.retried.Add(1)
	c.log.Debug("message will be tried again", "subject", h.m.Subject, "seq", h.m.Seq, "attempt", h.tries, "after", after, "err", err)
	if p.cfg.Key != nil && h.tries < localTries && p.cfg.MaxDeliver <= 0 {
		return after
	}
	p.told(h.raw, h.raw.NakWithDelay(after))
	return 0
}

// told logs an outcome that did not reach the server: the message will be
// delivered again.
func (p *pool) told(raw *nats.Msg, err error) {
	if err != nil {
		p.c.log.Debug("outcome not delivered", "subject", raw.Subject, "err", err)
	}
}

// extend keeps the server from delivering again what is being looked after.
func (p *pool) extend() {
	t := time.NewTicker(max(p.cfg.AckWait/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-t.C:
		}
		p.mu.Lock()
		all := make([]*held, 0, len(p.held))
		for h := range p.held {
			all = append(all, h)
		}
		p.mu.Unlock()
		for _, h := range all {
			if err := h.raw.InProgress(); err != nil && !errors.Is(err, nats.ErrMsgAlreadyAckd) {
				p.told(h.raw, err)
			}
		}
	}
}

// close waits for the handlers at work and gives back the rest.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.lanes {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
	p.cond.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
	close(p.ended)
	p.keeper.Wait()
	for h := range p.held {
		p.told(h.raw, h.raw.NakWithDelay(minDelay))
	}
}
