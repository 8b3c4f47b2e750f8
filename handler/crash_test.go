package handler_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
)

// once checks that nothing happened twice to any node: one start of the
// machine, one load for each attempt, one attempt.
func (w *world) once(t *testing.T, jobID string) {
	t.Helper()
	for _, name := range w.names {
		n := w.nodes[name]
		n.mu.Lock()
		cycles, loads := n.cycles, maps.Clone(n.loads)
		n.mu.Unlock()
		require.Equal(t, 1, cycles, "starts of %s", name)
		require.Equal(t, map[string]int{jobID + "#1": 1}, loads, "loads of %s", name)
	}
	seen := map[string]bool{}
	for _, m := range of(w.facts(), jobID) {
		require.False(t, seen[m.Event.ID()], "fact %s twice", m.Event.ID())
		seen[m.Event.ID()] = true
	}
}

// A handler is killed when each fact in turn stands, and its successor ends
// the job without doing anything a second time.
func TestKilledAtEveryFact(t *testing.T) {
	t.Parallel()
	const facts = 1 + 1 + 1 + 2*7 - 1 + 1 + 1 // of a job with two nodes, leases included
	for k := 1; k <= facts; k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 2)
			h := w.start("h1", nil)
			id := w.load(events.LoadRequest{Nodes: "all"})
			w.until(fmt.Sprintf("%d facts", k), func(log []bus.Message) bool { return len(log) >= k })
			h.kill(t)
			w.start("h1", nil)
			r := w.finished(id)
			require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
			require.Equal(t, 2, r.OK)
			w.once(t, id)
			w.free()
		})
	}
}

// The same, over and over at moments that nobody chose, by handlers of other
// names which have to wait until the jobs of the dead are orphans.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2)
	hold := make(chan struct{})
	for _, n := range w.nodes {
		n.hold = hold
	}
	h := w.start("h0", nil)
	id := w.load(events.LoadRequest{Nodes: "all"})
	for i := range 6 {
		seen := len(w.facts())
		more := rand.IntN(4)
		if i < 3 { // until all load, there is something to come
			w.until("some more facts", func(log []bus.Message) bool {
				return len(log) >= min(seen+more, 2)
			})
		} else if i == 4 {
			close(hold)
		}
		h.kill(t)
		h = w.start(fmt.Sprintf("h%d", i%3), nil)
	}
	r := w.finished(id)
	require.Equal(t, 4, r.OK, "%+v", r.Results)
	w.once(t, id)
	w.free()
}

// Two handlers share the work; one of them dies, the other adopts its jobs.
func TestTwoHandlers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 3)
	a, b := w.start("a", nil), w.start("b", nil)
	var ids []string
	for _, n := range w.names {
		ids = append(ids, w.load(events.LoadRequest{Nodes: n}))
	}
	for _, id := range ids {
		require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
		require.Equal(t, normal, course(of(w.facts(), id)), "no forks")
	}
	for _, n := range w.nodes {
		require.Equal(t, 1, n.count(func(n *node) int { return n.cycles }))
		require.Len(t, n.loads, 1)
	}
	w.free()
	_ = a

	hold := make(chan struct{})
	for _, n := range w.nodes {
		n.hold = hold
	}
	id := w.load(events.LoadRequest{Nodes: "all"})
	for _, n := range w.names {
		w.until("load.started of "+n, has(events.KindLoadStarted, id, n))
	}
	b.kill(t)
	close(hold)
	r := w.finished(id)
	require.Equal(t, 6, r.OK, "%+v", r.Results)
	for _, n := range w.nodes {
		require.Equal(t, 2, n.count(func(n *node) int { return n.cycles }))
	}
	w.free()
}

// The server is killed and comes back while nodes load; nothing is lost.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	hold := make(chan struct{})
	for _, n := range w.nodes {
		n.hold = hold
	}
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all"})
	for _, n := range w.names {
		w.until("load.started of "+n, has(events.KindLoadStarted, id, n))
	}
	w.h.Restart()
	close(hold)
	r := w.finished(id)
	require.Equal(t, 2, r.OK, "%+v", r.Results)
	w.once(t, id)
	w.free()
}

// The server is away until after the deadline of the loads, which went on
// meanwhile: what the agents kept for it counts, not the clock.
func TestServerAwayBeyondTheDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	hold := make(chan struct{})
	for _, n := range w.nodes {
		n.hold = hold
	}
	clock := w.leaps()
	h := w.start("h1", func(p *handler.Policy) {
		forever(p)
		p.Grace = time.Hour
	})
	id := w.load(events.LoadRequest{Nodes: "all"})
	for _, n := range w.names {
		w.until("load.started of "+n, has(events.KindLoadStarted, id, n))
	}
	w.h.Stop()
	close(hold) // the reports wait for the server
	require.Eventually(t, func() bool { return !h.conn.NATS().IsConnected() }, bustest.Patience, time.Millisecond)
	clock.leap(3 * time.Hour)
	w.h.Resume()
	r := w.finished(id)
	require.Equal(t, 2, r.OK, "%+v", r.Results)
	w.once(t, id)
	w.free()
}

// Leases of jobs that were rejected or never were are released by the next
// handler.
func TestLeftOverLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	ev, err := events.New(events.Meta{ID: "l1", Source: "/omf/default/handler/dead", Time: time.Now()}, events.Leased{Job: "01j0000000000000000000000a", Nodes: []string{"n1-1", "n1-2"}})
	require.NoError(t, err)
	_, err = w.conn.Append(context.Background(), events.LeasesSubject(tb), 0, bus.Record{Subject: events.LeasesSubject(tb), Event: ev})
	require.NoError(t, err)
	w.svc.leases["left"] = 1 // of nobody that we know: it stays
	w.start("h1", nil)
	w.until("released", func(log []bus.Message) bool {
		for _, m := range log {
			if m.Event.Type() == events.KindReleased.Type() {
				return true
			}
		}
		return false
	})
	require.Equal(t, 2, w.finished(w.load(events.LoadRequest{Nodes: "all"})).OK)
	require.Equal(t, []string{"left"}, w.svc.held())
}

// A deadline that passes while no handler runs fires when one does.
func TestDeadlineWhileNobodyWasThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.nodes["n1-1"].deaf = 99
	clock := w.leaps()
	h := w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all", Timeout: events.Duration(time.Minute)})
	w.until("reboot.requested", has(events.KindRebootRequested, id, ""))
	h.kill(t)
	clock.leap(2 * time.Minute)
	w.start("h1", nil)
	r := w.finished(id)
	require.Equal(t, events.OutcomeTimeout, r.Outcome)
	require.Equal(t, events.ClassTimeout, r.Results[0].Class)
	w.free()
}

func TestArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	h := w.start("h1", nil)
	n := w.nodes["n1-2"]
	n.hold = make(chan struct{})
	id := w.load(events.LoadRequest{Nodes: "all", Requester: "ann"})
	w.until("load.started", has(events.KindLoadStarted, id, "n1-2"))
	alarm := events.CredentialMisused{NodeRef: events.NodeRef{Job: id, Node: "n1-2", Attempt: 1}, Reason: events.MisuseAddress, Address: "10.0.0.66"}
	n.sendBy(w.conn, events.KindCredentialMisused, alarm)
	w.until("credential.misused", has(events.KindCredentialMisused, id, "n1-2"))
	close(n.hold)
	w.finished(id)
	h.stop(t)
	h = w.start("h1", func(p *handler.Policy) { p.ArchiveAfter, p.Sweep = time.Nanosecond, 20*time.Millisecond })
	require.Eventually(t, func() bool { return h.State().Counters["jobs_archived"] == 1 }, 10*time.Second, 10*time.Millisecond)
	check := func() {
		d, err := ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: id})
		require.NoError(t, err)
		require.True(t, d.Archived)
		require.Equal(t, image.Name, d.Image)
		require.Equal(t, "ann", d.Requester)
		require.Equal(t, 2, d.OK)
		require.Equal(t, "done", d.Members[1].State)
		require.Equal(t, 1, d.Alarms)
		require.Equal(t, []int{0, 1}, []int{d.Members[0].Alarms, d.Members[1].Alarms})
		require.Equal(t, events.AssuranceWritten, d.Members[1].Result.Assurance)
	}
	check()
	_, err := w.conn.Last(context.Background(), bus.StreamFacts, events.NodeFactSubject(tb, id, "n1-1", events.KindLoadDone))
	require.ErrorIs(t, err, bus.ErrNoMessage)
	h.stop(t)
	w.start("h1", nil) // read again from what is left
	check()
}
