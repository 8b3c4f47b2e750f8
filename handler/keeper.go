package handler

import (
	"context"
	"errors"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// keeper looks after one open job.
type keeper struct {
	h   *Handler
	key key

	mu    sync.Mutex
	inbox []*given
	calls []func() // to be run by the goroutine of run
	over  bool     // takes no more
	signal,
	ended chan struct{}

	residents sync.Map // id of an effect → boot of the resident agent that was found first for it

	// What follows belongs to the goroutine of run.
	effects map[string]*running
	done    map[string]bool      // effects that have taken place in this process
	nudged  map[string]time.Time // nodes whose effect was begun again, and when
	own     ownership
	timer   alarm
}

// given is an input and where its outcome goes.
type given struct {
	in     job.Input
	err    error
	answer chan struct{}
}

// errKeeperEnded is returned for an input that came too late.
var errKeeperEnded = errors.New("the job's keeper has ended")

func newKeeper(h *Handler, k key) *keeper {
	return &keeper{
		h: h, key: k, signal: make(chan struct{}, 1), ended: make(chan struct{}),
		effects: make(map[string]*running), done: make(map[string]bool),
		nudged: make(map[string]time.Time),
	}
}

// poke makes the keeper look again.
func (k *keeper) poke() {
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

// give hands an input in and waits until it is decided and stored.
func (k *keeper) give(ctx context.Context, in job.Input) error {
	g, ok := k.hand(in)
	if !ok {
		return errKeeperEnded
	}
	select {
	case <-g.answer:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hand puts an input into the inbox.
func (k *keeper) hand(in job.Input) (*given, bool) {
	g := &given{in: in, answer: make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil, false
	}
	k.inbox = append(k.inbox, g)
	k.poke()
	return g, true
}

// call has f run by the goroutine of run, before its next decision.
func (k *keeper) call(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, f)
	k.poke()
}

// take empties the inbox and runs the calls.
func (k *keeper) take() []*given {
	k.mu.Lock()
	inbox, calls := k.inbox, k.calls
	k.inbox, k.calls = nil, nil
	k.mu.Unlock()
	for _, f := range calls {
		f()
	}
	return inbox
}

// run keeps the job until it has ended or ctx has.
func (k *keeper) run(ctx context.Context) {
	effects, cancel := context.WithCancel(ctx)
	defer close(k.ended)
	defer k.leave()
	defer k.stopEffects(cancel)
	k.own.acquire(ctx, k)
	for first := true; ; first = false {
		work := k.take()
		if len(work) > 0 || first || k.timer.due(k.h.clock.Now()) {
			k.decide(ctx, work)
		}
		if ctx.Err() != nil {
			return
		}
		s, _, _ := k.h.book.job(k.key)
		if s.Over() {
			k.closing(ctx, s)
			return
		}
		if k.own.held(k.h.clock.Now()) {
			k.reconcile(effects, s)
		} else {
			k.cancelEffects()
		}
		k.arm(ctx, s)
		select {
		case <-k.signal:
		case <-k.timer.fires():
		case <-ctx.Done():
			return
		}
	}
}

// leave answers whoever came too late.
func (k *keeper) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	for _, g := range k.inbox {
		g.err = errKeeperEnded
		close(g.answer)
	}
	k.inbox = nil
}

// decide decides on inputs, stores the facts and answers the senders.
func (k *keeper) decide(ctx context.Context, work []*given) {
	err := k.settle(ctx, work)
	for _, g := range work {
		if err != nil {
			g.err = err
		}
		if r, ok := g.in.(job.Report); ok {
			k.nudge(r, g.err)
		}
		close(g.answer)
	}
}

func (k *keeper) settle(ctx context.Context, work []*given) error {
	h := k.h
	for checked := false; ; {
		s, seq, correlation := h.book.job(k.key)
		at := h.moment(k.key.testbed)
		at.Booted = h.bootStages(ctx, k.key.testbed, s, at)
		h.ownDisks(ctx, k.key.testbed, s, at)
		next := s
		var facts []job.Fact
		doubt := false
		for _, g := range work {
			f, err := job.Decide(next, at, g.in)
			next, facts, g.err = job.Fold(next, f...), append(facts, f...), err
			doubt = doubt || err != nil
			if r, ok := g.in.(job.Request); ok && err == nil {
				correlation = r.Correlation
			}
		}
		if len(work) == 0 {
			facts, _ = job.Decide(next, at, job.Tick{})
		}
		if doubt && !checked {
			// Another handler may have written what would make the report
			// right. A refusal is only believed with the newest facts.
			newer, err := h.behind(ctx, events.JobFacts(k.key.testbed, k.key.job), seq)
			if err != nil {
				return err
			}
			if newer {
				continue
			}
			checked = true
		}
		err := k.store(ctx, correlation, seq, facts)
		if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrDuplicate) {
			h.count.add(countConflicts)
			if _, err := h.behind(ctx, events.JobFacts(k.key.testbed, k.key.job), seq); err != nil {
				return err
			}
			checked = false
			continue
		}
		if err != nil {
			h.log.Warn("facts not stored", "job", k.key.job, "err", err)
			return err
		}
		if len(facts) > 0 {
			k.timer.changed()
			h.log.Debug("facts stored", "job", k.key.job, "facts", len(facts), "first", facts[0].ID)
		}
		return nil
	}
}

func (k *keeper) store(ctx context.Context, correlation string, seq uint64, facts []job.Fact) error {
	for len(facts) > 0 {
		n := min(len(facts), batch)
		last, err := k.h.append(ctx, k.key, correlation, seq, facts[:n])
		if err != nil {
			return err
		}
		seq, facts = last, facts[n:]
	}
	return nil
}

// nudge looks at what the report of an agent says about effects: one that is
// up and whose load or save was asked for is asked again, since it may have been
// started anew and forgotten the command.
func (k *keeper) nudge(r job.Report, err error) {
	var refusal *job.Refusal
	if _, up := r.Data.(events.Up); !up || !errors.As(err, &refusal) || refusal.Reason != job.ReasonRepeated {
		return
	}
	// Not more often than once a second: the node decides how many it sends.
	now := k.h.clock.Now()
	if now.Sub(k.nudged[r.Node]) < time.Second {
		return
	}
	k.nudged[r.Node] = now
	s, _, _ := k.h.book.job(k.key)
	n, ok := s.Node(r.Node)
	if !ok {
		return
	}
	for _, told := range []job.What{job.DoLoad, job.DoSave} {
		delete(k.done, events.EffectID(k.key.job, r.Node, string(told), n.Attempt))
	}
	if watching := k.effects[events.EffectID(k.key.job, r.Node, string(job.DoProbe), n.Attempt)]; watching != nil {
		watching.cancel() // it begins again, and asks at once
	}
}

// closing gives back what an ended job may still hold.
func (k *keeper) closing(ctx context.Context, s job.State) {
	held := k.own.held(k.h.clock.Now())
	if !held {
		return
	}
	if err := k.h.free(ctx, k.key); err != nil && ctx.Err() == nil {
		k.h.log.Warn("nodes of an ended job not released yet", "job", k.key.job, "err", err)
	}
	if s.Plan != nil {
		_ = k.h.conn.CancelSchedule(ctx, k.key.testbed, k.key.job) // a wake-up of an ended job is harmless
	}
	k.own.release(ctx, k)
}
