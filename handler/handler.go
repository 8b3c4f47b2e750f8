package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

// Handler runs the jobs of the testbeds of an inventory. Several may share
// them.
type Handler struct {
	inv    *inventory.Inventory
	conn   *bus.Conn
	id     string
	vers   string
	log    *slog.Logger
	clock  Clock
	policy Policy

	book    *book
	nodes   *presence
	count   *counters
	drivers drivers
	flags   *flags
	pacer   pacer
	slots   chan struct{} // effects that may run at once

	awake  awake
	ctx    context.Context
	work   sync.WaitGroup // everything that Run waits for
	owners owners

	mu      sync.Mutex
	keepers map[key]*keeper
	open    bool // the log is read, and Run has not ended
}

// New makes a handler; Run starts it.
func New(cfg Config) (*Handler, error) {
	if cfg.Inventory == nil || cfg.Conn == nil {
		return nil, fmt.Errorf("%w: inventory and connection are required", ErrConfig)
	}
	id, err := handlerID(cfg)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		inv: cfg.Inventory, conn: cfg.Conn, id: id, vers: cfg.Version,
		log: cfg.Logger, clock: cfg.Clock, policy: cfg.Policy.filled(),
		nodes: newPresence(), count: newCounters(), keepers: make(map[key]*keeper),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.clock == nil {
		h.clock = systemClock{}
	}
	h.log = h.log.With("handler", id)
	h.book = newBook(h.count)
	h.slots = make(chan struct{}, h.policy.Parallel)
	h.owners.h = h
	makeDriver := cfg.Power
	if makeDriver == nil {
		makeDriver = power.New
	}
	if h.drivers, err = newDrivers(cfg.Inventory, cfg.Conn, makeDriver); err != nil {
		return nil, err
	}
	if err := h.openFlags(cfg); err != nil {
		return nil, err
	}
	return h, nil
}

// Run takes up the open jobs and serves requests until ctx ends, and returns
// when everything that it began has ended. It returns nil when ctx ended, and
// an error for what waiting cannot help.
func (h *Handler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.ctx = ctx
	defer h.flags.close()
	defer h.work.Wait()
	defer h.setOpen(false)
	defer cancel(nil)

	err := h.start(ctx, cancel)
	if err == nil {
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// start brings everything up, the projections first.
func (h *Handler) start(ctx context.Context, fail context.CancelCauseFunc) error {
	if err := h.conn.AwaitStreams(ctx); err != nil {
		return fmt.Errorf("handler: %w", err)
	}
	if err := h.owners.open(ctx); err != nil {
		return fmt.Errorf("handler: %w", err)
	}
	begin := func(name string, f func(context.Context) error) {
		h.work.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("handler: %s: %w", name, err))
			}
		})
	}
	for _, w := range []struct {
		name  string
		watch func(ctx context.Context, caughtUp func()) error
	}{{"facts", h.watchFacts}, {"nodes", h.watchReports}} {
		ready := make(chan struct{})
		begin(w.name, func(ctx context.Context) error { return w.watch(ctx, func() { close(ready) }) })
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	h.awakeAt(h.clock.Now()) // the grace begins
	begin("connection", h.watchConnection)
	begin("boot flags", h.flags.run)
	h.setOpen(true)
	open := h.book.open()
	h.log.Info("handler has read the log", "jobs_open", len(open))
	for _, k := range open {
		h.keeper(k, false)
	}
	begin("ownership", h.owners.run)
	begin("requests", h.consumeRequests)
	begin("kept reports", h.replay)
	begin("reports", h.consumeReports)
	begin("timers", h.consumeTimers)
	begin("sweep", h.sweep)
	return h.serve(ctx)
}

func (h *Handler) watchFacts(ctx context.Context, caughtUp func()) error {
	ready := false
	return h.conn.Watch(ctx, bus.WatchConfig{
		Stream:   bus.StreamFacts,
		Filters:  []string{events.AllJobFacts, events.AllLeases},
		CaughtUp: func() { ready = true; caughtUp() },
	}, func(m bus.Message) error {
		if k, ok := h.book.take(m); ok && ready {
			h.wake(k)
		}
		return nil
	})
}

// wake tells the keeper of a job that there are facts, and makes one for a
// job that another handler has begun.
func (h *Handler) wake(k key) {
	if s, _, _ := h.book.job(k); s.Phase == job.Unknown {
		return
	}
	if kp := h.keeper(k, false); kp != nil {
		kp.poke()
	}
}

// keeper returns the keeper of a job, nil for a job that has ended or, unless
// make is true, does not exist.
func (h *Handler) keeper(k key, create bool) *keeper {
	s, _, _ := h.book.job(k)
	h.mu.Lock()
	defer h.mu.Unlock()
	if kp := h.keepers[k]; kp != nil {
		return kp
	}
	if !h.open || s.Over() || s.Phase == job.Unknown && !create {
		return nil
	}
	kp := newKeeper(h, k)
	h.keepers[k] = kp
	h.work.Go(func() {
		kp.run(h.ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.keepers, k)
	})
	return kp
}

func (h *Handler) allKeepers() []*keeper {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*keeper, 0, len(h.keepers))
	for _, kp := range h.keepers {
		out = append(out, kp)
	}
	return out
}

func (h *Handler) setOpen(open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = open
}

// submit gives an input to a job and returns when its facts are stored. A
// refusal is a *job.Refusal; any other error means that it is not known to be
// stored, and may be given again.
func (h *Handler) submit(ctx context.Context, k key, in job.Input) error {
	_, create := in.(job.Request)
	for {
		kp := h.keeper(k, create)
		if kp == nil {
			s, _, _ := h.book.job(k)
			if s.Phase == job.Unknown || s.Over() {
				_, err := job.Decide(s, h.moment(k.testbed), in)
				return err
			}
			return errClosing
		}
		err := kp.give(ctx, in)
		if !errors.Is(err, errKeeperEnded) {
			return err
		}
		// It ended between our finding it and its taking the input; by now
		// the job is over, or this handler is.
		select {
		case <-kp.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errClosing is returned while the handler shuts down.
var errClosing = errors.New("the handler is shutting down")

func (h *Handler) moment(testbed string) job.Moment {
	now := h.clock.Now()
	return job.Moment{Now: now, Awake: h.awakeAt(now), Seen: func(n string) job.Sighting {
		return h.nodes.sighting(testbed, n)
	}}
}
