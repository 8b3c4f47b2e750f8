package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

const (
	// commandTimeout bounds one request to an agent or a service; all of them
	// answer from memory.
	commandTimeout = 5 * time.Second
	// firstDelay and lastDelay bound the growing delay between tries of an
	// effect.
	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// running is an effect at work.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// reconcile begins the effects that the state asks for and that are neither
// at work nor done, and gives up those that it does not ask for any more.
func (k *keeper) reconcile(ctx context.Context, s job.State) {
	outstanding := job.Outstanding(s)
	wanted := make(map[string]bool, len(outstanding))
	done := make(map[string]bool)
	for _, e := range outstanding {
		if k.done[e.ID] {
			done[e.ID] = true
			continue
		}
		wanted[e.ID] = true
		if k.effects[e.ID] == nil {
			k.begin(ctx, e)
		}
	}
	k.done = done
	for id, r := range k.effects {
		if !wanted[id] {
			r.cancel()
		}
	}
}

func (k *keeper) cancelEffects() {
	for _, r := range k.effects {
		r.cancel()
	}
}

func (k *keeper) stopEffects(cancel context.CancelFunc) {
	cancel()
	for _, r := range k.effects {
		<-r.done
	}
}

func (k *keeper) begin(ctx context.Context, e job.Effect) {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel: cancel, done: make(chan struct{})}
	k.effects[e.ID] = r
	k.h.count.add(countEffects + string(e.What))
	k.h.work.Go(func() {
		defer close(r.done)
		defer cancel()
		finished := k.perform(ctx, e)
		k.call(func() {
			delete(k.effects, e.ID)
			if finished {
				k.done[e.ID] = true
			}
		})
	})
}

// later is an error that is none: there is something to wait for.
type later struct {
	after time.Duration // 0: the growing delay
	err   error
}

func (l *later) Error() string { return l.err.Error() }
func (l *later) Unwrap() error { return l.err }

// perform runs an effect until it has taken place or is not asked for any
// more. It reports whether it has taken place.
func (k *keeper) perform(ctx context.Context, e job.Effect) bool {
	h := k.h
	log := h.log.With("job", k.key.job, "effect", e.ID)
	delay := firstDelay
	var eye watch
	for try := 1; ; try++ {
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		in, err := k.do(ctx, e, &eye)
		<-h.slots
		if ctx.Err() != nil {
			return false
		}
		if err == nil && in != nil {
			// The outcome counts when it is stored. What is refused came too
			// late, which is an outcome as well.
			if err = k.give(ctx, in); errors.Is(err, job.ErrRefused) {
				log.Debug("outcome refused", "err", err)
				err = nil
				if e.What == job.DoProbe {
					// What it meant is known by now, or was never so.
					err = &later{after: h.pause(), err: errWatching}
				}
			}
		}
		if err == nil {
			log.Debug("effect done", "attempt", try)
			return true
		}
		if ctx.Err() != nil || errors.Is(err, errKeeperEnded) {
			return false
		}
		wait := delay
		delay = min(2*delay, lastDelay)
		var l *later
		if errors.As(err, &l) {
			if l.after > 0 {
				wait = l.after
			}
		} else {
			h.count.add(countEffectErrors)
			log.Info("effect will be tried again", "attempt", try, "after", wait, "err", err)
		}
		select {
		case <-h.clock.After(wait - wait/5 + rand.N(wait*2/5+1)):
		case <-ctx.Done():
			return false
		}
	}
}

// do makes one try. The input, if there is one, tells the job how it went.
func (k *keeper) do(ctx context.Context, e job.Effect, eye *watch) (job.Input, error) {
	s, _, _ := k.h.book.job(k.key)
	if s.Plan == nil && e.What != job.DoPlan {
		return nil, nil
	}
	switch e.What {
	case job.DoPlan:
		return k.plan(ctx, s)
	case job.DoServe:
		return k.serve(ctx, s)
	case job.DoReboot:
		return k.reboot(ctx, s, e)
	case job.DoLoad:
		return k.load(ctx, s, e)
	case job.DoSave:
		return k.save(ctx, s, e)
	case job.DoProbe:
		return k.watch(ctx, s, e, eye)
	case job.DoLeave:
		return k.depart(ctx, s, e)
	case job.DoStop:
		return k.stop(ctx, s, e)
	case job.DoRelease:
		return k.release(ctx, s)
	}
	return nil, nil
}

// command sends a command to an agent.
func (h *Handler) command(ctx context.Context, testbed, node string, v events.Verb, cmd any) (events.CommandReply, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var reply events.CommandReply
	err := h.conn.Request(ctx, events.CommandSubject(testbed, node, v), cmd, &reply)
	return reply, err
}

// ask sends a request to a service.
func (h *Handler) ask(ctx context.Context, subject string, req, resp any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return h.conn.Request(ctx, subject, req, resp)
}

// remote returns the refusal of the other side; nil for any other error.
func remote(err error) *events.Error {
	var e *events.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// passing reports whether the other side may answer otherwise later.
func passing(err error) bool {
	e := remote(err)
	return bus.IsTransient(err) || e != nil && e.Code == events.CodeStale
}

// ref names a node and what the job is about to do with it.
func (k *keeper) ref(e job.Effect) events.NodeRef {
	return events.NodeRef{Job: k.key.job, Node: e.Node, Attempt: e.Attempt, Boot: e.Boot}
}
