package handler

import (
	"context"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

// owners says which handler runs the effects of which job.
type owners struct {
	h *Handler

	mu     sync.Mutex
	bucket *bus.Owners
}

func (o *owners) open(ctx context.Context) error {
	bucket, err := o.h.conn.Owners(ctx, o.h.policy.Owner)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bucket = bucket
	return nil
}

func (o *owners) get() *bus.Owners {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bucket
}

// run renews what this handler owns and tries to get what it does not, three
// times in the life of an ownership.
func (o *owners) run(ctx context.Context) error {
	for {
		select {
		case <-o.h.clock.After(o.h.policy.Owner / 3):
		case <-ctx.Done():
			return nil
		}
		failed := false
		for _, k := range o.h.allKeepers() {
			failed = k.own.acquire(ctx, k) != nil || failed
			k.poke()
		}
		if failed && ctx.Err() == nil {
			// The bucket is in the memory of the server and may be gone.
			if err := o.open(ctx); err != nil {
				o.h.log.Warn("ownership of jobs cannot be renewed", "err", err)
			}
		}
	}
}

// ownership is what a keeper knows about its own right to act.
type ownership struct {
	mu    sync.Mutex
	until time.Time // zero: not the owner
	since uint64    // sequence of the job when it became the owner
}

// acquireTimeout bounds one try.
const acquireTimeout = 2 * time.Second

// acquire gets or renews the ownership.
func (w *ownership) acquire(ctx context.Context, k *keeper) error {
	h := k.h
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	asked := h.clock.Now()
	ok, err := h.owners.get().Acquire(ctx, k.name(), h.id)
	if err != nil {
		return err // the time that it has left goes on
	}
	if !ok {
		w.mu.Lock()
		w.until = time.Time{}
		w.mu.Unlock()
		return nil
	}
	if !w.held(asked) {
		// Effects that were asked for before now may have been run by the
		// owner before us: read all its facts first.
		_, seq, _ := h.book.job(k.key)
		if _, err := h.behind(ctx, events.JobFacts(k.key.testbed, k.key.job), seq); err != nil {
			return err
		}
		if _, seq, _ = h.book.job(k.key); seq > 0 {
			h.count.add(countAdopted)
		}
		w.mu.Lock()
		w.since = seq
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = asked.Add(h.policy.Owner)
	return nil
}

func (w *ownership) held(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return now.Before(w.until)
}

// fresh reports whether a fact was written while this handler has owned the
// job all along, so that nobody else can have acted on it.
func (w *ownership) fresh(seq uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return seq > w.since
}

func (w *ownership) release(ctx context.Context, k *keeper) {
	w.mu.Lock()
	w.until = time.Time{}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	if err := k.h.owners.get().Release(ctx, k.name(), k.h.id); err != nil && ctx.Err() == nil {
		k.h.log.Debug("ownership not released, it expires", "job", k.key.job, "err", err)
	}
}

// name is the key of the job among the owned things.
func (k *keeper) name() string { return "job/" + k.key.testbed + "/" + k.key.job }
