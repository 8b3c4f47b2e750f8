package agent

import (
	"context"
	"sync"
	"time"

	"loadnode/events"
)

// States of an agent, as its replies name them.
const (
	stateIdle    = "idle"
	stateLoading = "loading"
	stateLoaded  = "loaded"
	stateSaving  = "saving"
	stateSaved   = "saved"
	stateFailed  = "failed"
	stateLeaving = "leaving"
)

// operation is one attempt of one job, a load or a save: running, or over with
// its outcome.
type operation struct {
	cmd    events.LoadCommand  // of a load
	save   *events.SaveCommand // of a save, nil for a load
	ref    events.NodeRef
	effect string
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it is over and its outcome is set

	mu      sync.Mutex
	at      step
	state   string
	last    events.Data    // the last report made of it, nil before the first
	err     string         // once failed
	measure func() Figures // once receiving
	over    Figures        // once over
	changed chan struct{}  // one token: the phase may have changed
}

func newOperation(ref events.NodeRef, boot, effect string, cancel context.CancelCauseFunc) *operation {
	ref.Boot = boot
	return &operation{
		ref: ref, effect: effect, cancel: cancel, state: stateLoading,
		done: make(chan struct{}), changed: make(chan struct{}, 1),
	}
}

// verb names what the operation does.
func (op *operation) verb() events.Verb {
	if op.save != nil {
		return events.VerbSave
	}
	return events.VerbLoad
}

// deadline is when the operation gives up by itself; zero for never.
func (op *operation) deadline() time.Time {
	if op.save != nil {
		return op.save.Deadline
	}
	return op.cmd.Deadline
}

// is reports whether the operation is that attempt of that job.
func (op *operation) is(ref events.NodeRef) bool {
	return op.ref.Job == ref.Job && op.ref.Attempt == ref.Attempt
}

func (op *operation) running() bool {
	select {
	case <-op.done:
		return false
	default:
		return true
	}
}

func (op *operation) enter(s step) {
	op.mu.Lock()
	phase := op.at.phase()
	op.at = s
	op.mu.Unlock()
	if s.phase() != phase {
		select {
		case op.changed <- struct{}{}:
		default:
		}
	}
}

// started says that data flow from here on.
func (op *operation) started(report events.Data, at step) {
	op.mu.Lock()
	op.last = report
	op.mu.Unlock()
	op.enter(at)
}

func (op *operation) current() (step, string) {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.at, op.state
}

func (op *operation) meter(measure func() Figures) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.measure = measure
}

func (op *operation) figures() Figures {
	op.mu.Lock()
	defer op.mu.Unlock()
	switch {
	case op.state != stateLoading && op.state != stateSaving:
		return op.over
	case op.measure != nil:
		return op.measure()
	}
	return Figures{Chunks: op.cmd.Image.Chunks}
}

// lastReport is what the operation reported last, nil if nothing yet.
func (op *operation) lastReport() events.Data {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.last
}

func (op *operation) describe(r *events.CommandReply) {
	f := op.figures()
	op.mu.Lock()
	defer op.mu.Unlock()
	r.NodeRef, r.State, r.LastError = op.ref, op.state, op.err
	r.Percent, r.Counters = f.Percent, f.Counters
}
