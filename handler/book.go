package handler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
	"loadnode/handler/lease"
)

// key names a job: ids are unique in a testbed only as far as requesters are
// trusted, so the testbed belongs to it.
type key struct{ testbed, job string }

// entry is a job as the log tells it.
type entry struct {
	state       job.State
	seq         uint64 // of the last fact
	correlation string // of job.requested
	// asked tells where the facts stand that asked for an effect.
	asked map[string]uint64
}

type leases struct {
	state lease.State
	seq   uint64
}

// book is the projection of the log: every job and every lease, in memory.
// It is fed by the watch of the log and, a little earlier, by what this
// handler has appended itself.
type book struct {
	count *counters

	mu      sync.Mutex
	jobs    map[key]*entry
	leases  map[string]leases
	watched uint64        // sequence of the last message that the watch delivered
	changed chan struct{} // closed and replaced at each change
}

func newBook(c *counters) *book {
	return &book{count: c, jobs: make(map[key]*entry), leases: make(map[string]leases), changed: make(chan struct{})}
}

// take reads a message of the watch. It returns the job that it is about.
func (b *book) take(m bus.Message) (key, bool) {
	a := m.Address
	data, err := events.Decode(m.Event)
	switch {
	case m.Err != nil:
		data = nil
		b.count.add(countFactsUndecodable)
	case errors.Is(err, events.ErrUnknownType):
		data = nil
		b.count.add(countFactsUnknown)
	case err != nil:
		data = nil
		b.count.add(countFactsUndecodable)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.broadcast()
	b.watched = max(b.watched, m.Seq)
	switch {
	case a.Leases:
		l := b.leases[a.Testbed]
		if m.Seq > l.seq {
			b.leases[a.Testbed] = leases{state: lease.Apply(l.state, data), seq: m.Seq}
		}
	case a.Job != "":
		k := key{a.Testbed, a.Job}
		f := job.Fact{Node: a.Node, Data: data}
		if m.Err == nil {
			f.ID, f.Time = m.Event.ID(), m.Event.Time()
		}
		correlation, _ := m.Event.Extensions()[events.ExtCorrelation].(string)
		b.apply(k, m.Seq, correlation, f)
		return k, true
	}
	return key{}, false
}

// apply folds one fact; the lock is held.
func (b *book) apply(k key, seq uint64, correlation string, f job.Fact) {
	e := b.jobs[k]
	if e == nil {
		e = &entry{asked: make(map[string]uint64), correlation: correlation}
		b.jobs[k] = e
	}
	if seq <= e.seq {
		return
	}
	e.seq = seq
	e.state = job.Apply(e.state, f)
	switch d := f.Data.(type) {
	case events.RebootRequested:
		e.asked[d.Effect] = seq
	case events.ShutdownRequested:
		e.asked[d.Effect] = seq
	case events.JobFinished, events.JobRejected:
		e.asked = nil
	}
}

// own applies what this handler has appended: facts with consecutive
// sequences, the last of which is known.
func (b *book) own(k key, last uint64, correlation string, facts []job.Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.broadcast()
	first := last - uint64(len(facts)) + 1
	for i, f := range facts {
		b.apply(k, first+uint64(i), correlation, f)
	}
}

func (b *book) ownLeases(testbed string, last uint64, facts []events.Data) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.broadcast()
	first := last - uint64(len(facts)) + 1
	l := b.leases[testbed]
	for i, f := range facts {
		if seq := first + uint64(i); seq > l.seq {
			l = leases{state: lease.Apply(l.state, f), seq: seq}
		}
	}
	b.leases[testbed] = l
}

// archived forgets the nodes of a job whose facts are purged.
func (b *book) archived(k key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[k]; e != nil {
		e.state = job.Archive(e.state)
	}
}

func (b *book) broadcast() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// job returns what is known of a job.
func (b *book) job(k key) (s job.State, seq uint64, correlation string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[k]; e != nil {
		return e.state, e.seq, e.correlation
	}
	return job.State{}, 0, ""
}

// asked returns where the fact stands that asked for an effect, 0 if it does
// not.
func (b *book) asked(k key, effect string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[k]; e != nil {
		return e.asked[effect]
	}
	return 0
}

func (b *book) lease(testbed string) (lease.State, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.leases[testbed]
	return l.state, l.seq
}

func (b *book) leasedTestbeds() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for tb := range b.leases {
		out = append(out, tb)
	}
	slices.Sort(out)
	return out
}

// open lists the jobs that have not ended.
func (b *book) open() []key {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []key
	for k, e := range b.jobs {
		if !e.state.Over() && e.state.Phase != job.Unknown {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, c key) int { return strings.Compare(a.job, c.job) })
	return out
}

// all lists the states of a testbed's jobs, newest first.
func (b *book) all(testbed string) []job.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []job.State
	for k, e := range b.jobs {
		if k.testbed == testbed && e.state.Phase != job.Unknown {
			out = append(out, e.state)
		}
	}
	slices.SortFunc(out, func(a, c job.State) int {
		if d := c.Requested.Compare(a.Requested); d != 0 {
			return d
		}
		return strings.Compare(c.Job, a.Job)
	})
	return out
}

// await blocks until ok, asked after each change, is true.
func (b *book) await(ctx context.Context, ok func() bool) error {
	for {
		b.mu.Lock()
		ch := b.changed
		b.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitWatch blocks until the watch has delivered a sequence.
func (b *book) awaitWatch(ctx context.Context, seq uint64) error {
	return b.await(ctx, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.watched >= seq
	})
}
