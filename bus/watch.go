package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// watchBatch is how many messages a watch asks for at once.
const watchBatch = 256

// WatchConfig says what to watch. From, New and LastPerSubject exclude each
// other; with none of them a watch begins with the first message stored.
type WatchConfig struct {
	Stream         string
	Filters        []string // subjects; empty: all of the stream
	From           uint64   // sequence to begin with, 0: the first
	New            bool     // only what is stored after the call
	LastPerSubject bool     // begin with the newest message of each subject
	// CaughtUp is called once, in order with the messages, when everything
	// that was stored at the start has been delivered.
	CaughtUp func()
}

// Watch calls fn for each message of a stream, in order and without gaps,
// until fn returns an error or ctx ends. ErrStop from fn ends it with nil;
// any other error of fn is returned; the end of ctx is returned as its error.
// Lost connections and restarted servers are survived: the watch continues
// behind the last message that fn has seen, no message is seen twice.
// Undecodable messages are handed over with Message.Err set.
//
// Watching leaves no trace on the server. It is not possible on the work
// queues OMF_REQ and OMF_TIMER.
func (c *Conn) Watch(ctx context.Context, cfg WatchConfig, fn func(Message) error) error {
	w := &watch{c: c, cfg: cfg, fn: fn, next: max(cfg.From, 1), last: cfg.LastPerSubject, started: !cfg.New}
	if cfg.CaughtUp == nil {
		w.cfg.CaughtUp = func() {}
	}
	for delay := newDelays(50*time.Millisecond, 2*time.Second); ; {
		seen := w.next
		err := w.once(ctx)
		var stop *stopError
		if errors.As(err, &stop) {
			if errors.Is(stop.err, ErrStop) {
				return nil
			}
			return stop.err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("watch %s: %w", cfg.Stream, ctx.Err())
		}
		var api *jetstream.APIError
		switch {
		case errors.Is(err, ErrDenied), errors.Is(err, nats.ErrConnectionClosed),
			errors.As(err, &api) && api.Code == 400:
			return fmt.Errorf("watch %s: %w", cfg.Stream, err)
		}
		c.log.Debug("watch begins again", "stream", cfg.Stream, "seq", w.next, "err", err)
		if w.next != seen {
			delay = newDelays(50*time.Millisecond, 2*time.Second)
		}
		delay.wait(ctx)
	}
}

// stopError carries what fn returned.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

type watch struct {
	c        *Conn
	cfg      WatchConfig
	fn       func(Message) error
	next     uint64    // sequence to go on with
	at       time.Time // when the last message seen was stored
	made     time.Time // creation of the stream, to notice another one under its name
	started  bool      // next is valid
	last     bool      // still in the phase of LastPerSubject
	caughtUp bool
	target   uint64 // until it is delivered, the watch has not caught up
}

// once watches until something breaks.
func (w *watch) once(ctx context.Context) error {
	if err := w.c.awaitUp(ctx); err != nil {
		return err
	}
	gctx, done := w.c.guard(ctx, onAPI)
	defer done()
	broken := func(err error) error { return classify(err, context.Cause(gctx)) }
	actx, cancel := context.WithTimeout(gctx, apiTimeout)
	defer cancel()
	s, err := w.c.js.Stream(actx, w.cfg.Stream)
	if err != nil {
		return broken(err)
	}
	cc := w.consumer(s.CachedInfo())
	if !w.caughtUp {
		if w.target, err = w.newest(gctx, s); err != nil {
			return broken(err)
		}
	}
	cons, err := s.CreateConsumer(actx, cc)
	if err != nil {
		return broken(err)
	}
	defer func() {
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if w.c.nc.Status() == nats.CONNECTED {
			_ = s.DeleteConsumer(dctx, cons.CachedInfo().Name) // it would expire by itself
		}
	}()
	pull, err := w.c.pull(w.cfg.Stream, cons.CachedInfo().Name)
	if err != nil {
		return broken(err)
	}
	defer pull.stop()
	return w.deliver(gctx, s, pull)
}

// deliver hands on what a consumer brings until something breaks.
func (w *watch) deliver(ctx context.Context, s jetstream.Stream, pull *puller) error {
	broken := func(err error) error { return classify(err, context.Cause(ctx)) }
	for expect := uint64(1); ; {
		if !w.caughtUp && w.next > w.target {
			w.reached()
		}
		patience := pullFor
		if !w.caughtUp {
			patience = time.Second
		}
		if err := pull.ask(watchBatch); err != nil {
			return broken(err)
		}
		raw, err := pull.next(ctx, patience)
		switch {
		case errors.Is(err, errIdle) && !w.caughtUp:
			// What was to come may be gone meanwhile, pushed out by limits.
			target, err := w.newest(ctx, s)
			if err != nil {
				return broken(err)
			}
			w.target = min(w.target, target)
			continue
		case errors.Is(err, errIdle), err == nil && raw == nil:
			continue
		case err != nil:
			return broken(err)
		}
		md, err := raw.Metadata()
		if err != nil {
			return err
		}
		if md.Sequence.Consumer != expect {
			return fmt.Errorf("message %d of the consumer is missing", expect)
		}
		expect++
		if md.Sequence.Stream >= w.next {
			m, err := streamMessage(raw)
			if err == nil {
				err = w.fn(m)
			}
			if err != nil {
				return &stopError{err}
			}
			w.next, w.at = md.Sequence.Stream+1, md.Timestamp
		}
	}
}

// newest is the sequence of the newest message that is watched for, 0 for
// none. It is asked of the stream's leader: the consumer may sit on a replica
// that is behind, so that its own count of what is to come proves nothing.
func (w *watch) newest(ctx context.Context, s jetstream.Stream) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	filters := w.cfg.Filters
	if len(filters) == 0 {
		filters = []string{">"}
	}
	newest := uint64(0)
	for _, f := range filters {
		raw, err := s.GetLastMsgForSubject(ctx, f)
		if isNoMessage(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		newest = max(newest, raw.Sequence)
	}
	return newest, nil
}

// reached notes that everything stored at the start is delivered.
func (w *watch) reached() {
	w.last, w.caughtUp = false, true
	w.cfg.CaughtUp()
}

// consumer is the configuration to go on with.
func (w *watch) consumer(info *jetstream.StreamInfo) jetstream.ConsumerConfig {
	if !w.started {
		w.next, w.started = info.State.LastSeq+1, true
	}
	cc := jetstream.ConsumerConfig{
		FilterSubjects:    w.cfg.Filters,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       w.next,
	}
	switch {
	case !w.made.IsZero() && !info.Created.Equal(w.made):
		// Another stream under the same name: all of it is new.
		w.next, cc.OptStartSeq = 1, 1
	case !w.at.IsZero() && info.State.LastSeq+1 < w.next && info.Config.Replicas == 1:
		// The server has lost its end (telemetry is not synced): sequences
		// are used again, go on by time. (The leader of several replicas may
		// only be slow to say how far it is.)
		after := w.at.Add(1)
		w.next, cc.OptStartSeq = 1, 0
		cc.DeliverPolicy, cc.OptStartTime = jetstream.DeliverByStartTimePolicy, &after
	case w.last:
		cc.DeliverPolicy, cc.OptStartSeq = jetstream.DeliverLastPerSubjectPolicy, 0
		if len(cc.FilterSubjects) == 0 {
			cc.FilterSubjects = []string{">"}
		}
	}
	w.made = info.Created
	return cc
}

// Subscribe calls fn for each message on a subject that this connection
// hears while it is subscribed: core NATS, nothing is stored for it. Messages
// come one after the other. stop ends it and waits for fn. The error wraps
// ErrDenied when the credential may not hear the subject.
func (c *Conn) Subscribe(ctx context.Context, subject string, fn func(Message)) (stop func(), err error) {
	s, err := c.subscribe(ctx, subject, "", func(m *nats.Msg) { fn(decodeMessage(m.Subject, m.Header, m.Data)) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return s.stop, nil
}

// subscription is a core subscription that can be waited for.
type subscription struct {
	nc   *nats.Conn
	sub  *nats.Subscription
	done chan struct{}
}

// subscribe returns when the server has accepted the subscription.
func (c *Conn) subscribe(ctx context.Context, subject, queue string, fn nats.MsgHandler) (*subscription, error) {
	if err := c.awaitUp(ctx); err != nil {
		return nil, err
	}
	gctx, done := c.guard(ctx, onSubject(subject))
	defer done()
	sub, err := c.nc.QueueSubscribe(subject, queue, fn)
	if err != nil {
		return nil, classify(err, nil)
	}
	s := &subscription{nc: c.nc, sub: sub, done: make(chan struct{})}
	sub.SetClosedHandler(func(string) { close(s.done) })
	if err := c.flush(gctx, subject); err != nil {
		_ = sub.Unsubscribe()
		return nil, classify(err, context.Cause(gctx))
	}
	return s, nil
}

// flush returns when the server has seen what was sent before. A refusal of
// subject comes before its answer and is known to the connection by then; the
// callback about it may still be on the way.
func (c *Conn) flush(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	if last := c.nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && deniedSubject(last.Error()) == subject {
		return last
	}
	return nil
}

// stop ends the subscription after what has arrived is handled. Without a
// connection there is nothing to drain, and a subscription that is draining
// when the connection comes back would be made anew in the server, where
// nobody ends it.
func (s *subscription) stop() {
	if s.nc.Status() != nats.CONNECTED || s.sub.Drain() != nil {
		_ = s.sub.Unsubscribe()
	}
	<-s.done
}
