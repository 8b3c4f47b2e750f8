package handler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
)

// guarded is one node whose handler has a clock that leaps from one look at
// its agent to the next. All times but the silence are too long to matter.
type guarded struct {
	*world
	n     *node
	clock *leaping
	r     *running
	id    string
}

// The time between two looks, 15 s and a little more or less.
const (
	leastPause = 12 * time.Second
	mostPause  = 18 * time.Second
)

func guard(t *testing.T, set func(*node)) *guarded {
	t.Helper()
	w := newWorld(t, 1, 1)
	g := &guarded{world: w, n: w.nodes["n1-1"], clock: w.leaps()}
	if set != nil {
		set(g.n)
	}
	g.start("h1")
	g.id = w.load(events.LoadRequest{Nodes: "all"})
	return g
}

func (g *guarded) start(id string) {
	g.r = g.world.start(id, func(p *handler.Policy) {
		forever(p)
		p.Silence = 5 * mostPause
	})
}

// loading waits until the node loads.
func (g *guarded) loading() {
	g.t.Helper()
	g.until("load.started", has(events.KindLoadStarted, g.id, ""))
}

// look has the handler look at the agent once.
func (g *guarded) look() {
	g.t.Helper()
	g.idle()
	g.clock.leap(mostPause)
}

// idle waits until the look has ended and another is to come.
func (g *guarded) idle() {
	g.t.Helper()
	require.Eventually(g.t, func() bool { return g.clock.waits(leastPause, mostPause) }, bustest.Patience, time.Millisecond, "nobody watches")
}

// patient has the handler look five times: the node is not given up.
func (g *guarded) patient(before func()) {
	g.t.Helper()
	for range 5 {
		if before != nil {
			before()
		}
		g.look()
	}
	g.idle()
	require.False(g.t, has(events.KindLoadFailed, g.id, "")(g.facts()), "given up in %v", labels(g.facts()))
}

// lost waits for the end of the attempt.
func (g *guarded) lost() events.LoadFailed {
	g.t.Helper()
	g.until("load.failed", has(events.KindLoadFailed, g.id, ""))
	for _, m := range g.facts() {
		if m.Address.Kind == events.KindLoadFailed {
			return data[events.LoadFailed](g.t, m)
		}
	}
	return events.LoadFailed{}
}

// ends checks that the job ended well, with so many starts of the machine.
func (g *guarded) ends(cycles int) {
	g.t.Helper()
	r := g.finished(g.id)
	require.Equal(g.t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(g.t, cycles, g.n.count(func(n *node) int { return n.cycles }))
	g.free()
}

// An agent that vanishes is missed after the silence, and not at the deadline
// of its load; the node is rebooted and loaded.
func TestAgentVanishes(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*node)
		kind events.Kind // last fact before
	}{
		{"amid the load", func(n *node) { n.mute = 1 }, events.KindLoadStarted},
		{"before the load begins", func(n *node) { n.numb = 1 }, events.KindPxeUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := guard(t, tt.set)
			g.until(string(tt.kind), has(tt.kind, g.id, ""))
			g.n.away()
			g.patient(nil)
			g.look()
			f := g.lost()
			require.Equal(t, events.ClassTimeout, f.Class)
			require.Regexp(t, `^no word from the agent for 9\ds; power on$`, f.Evidence.Text)
			require.Equal(t, string(tt.kind), f.Evidence.LastEvent)
			require.True(t, f.Retry)
			g.ends(2)
		})
	}
}

// Where the power controller knows that the machine is off, two unanswered
// looks are enough.
func TestPowerFails(t *testing.T) {
	t.Parallel()
	g := guard(t, func(n *node) { n.mute, n.dark = 1, true })
	g.loading()
	g.n.away()
	g.look()
	g.idle()
	require.False(t, has(events.KindLoadFailed, g.id, "")(g.facts()), "one look is none")
	g.look()
	require.Regexp(t, `^no word from the agent for [12]\ds; power off$`, g.lost().Evidence.Text)
	g.ends(2)
}

// An agent that is cut off from the bus goes on by itself. As long as it
// comes back, or is heard in any other way, it is left alone.
func TestAgentCutOff(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(*guarded)
	}{
		{"and comes back", func(g *guarded) {
			g.patient(nil)
			g.n.back()
			g.look()
			g.idle()
			g.n.cutOff()
			g.patient(nil)
		}},
		{"and sends telemetry", func(g *guarded) {
			g.patient(g.n.progress)
			g.patient(g.n.progress)
		}},
		{"and reports", func(g *guarded) {
			report := func() {
				before := g.r.State().Counters["reports_refused_repeated"]
				g.n.mu.Lock()
				g.n.again(g.n.latest)
				g.n.mu.Unlock()
				require.Eventually(g.t, func() bool { return g.r.State().Counters["reports_refused_repeated"] > before }, bustest.Patience, time.Millisecond)
			}
			g.patient(report)
			g.patient(report)
		}},
		{"and the bus restarts", func(g *guarded) {
			g.patient(nil)
			g.h.Restart()
			for _, c := range []*bus.Conn{g.r.conn, g.conn, g.n.conn} {
				require.Eventually(g.t, func() bool { return c.NATS().IsConnected() && c.NATS().Stats().Reconnects > 0 }, bustest.Patience, time.Millisecond)
			}
			g.look() // for nothing: the connection is another one
			g.patient(nil)
		}},
		{"and the handler restarts", func(g *guarded) {
			g.patient(nil)
			g.r.kill(g.t)
			g.clock.forget()
			g.start("h1")
			g.idle() // it has looked at once
			for range 4 {
				g.look()
			}
			g.idle()
			require.False(g.t, has(events.KindLoadFailed, g.id, "")(g.facts()))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			g := guard(t, func(n *node) { n.hold = hold })
			g.loading()
			g.n.cutOff()
			tt.run(g)
			g.n.back()
			close(hold)
			g.ends(1)
		})
	}
}

// What an agent answers tells whether its load is still there.
func TestAgentAnswersOtherwise(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(n *node, hold chan struct{})
		cycles int
		course string
		lossy  bool
	}{
		{"the machine runs another boot of the imaging system", func(n *node, _ chan struct{}) { n.restart(true, false) }, 2, "load.failed pxe.up load.started", false},
		{"the machine runs its own disk", func(n *node, _ chan struct{}) { n.restart(true, true) }, 3, "load.failed reboot.requested pxe.up load.started", false},
		{"the agent runs anew", func(n *node, _ chan struct{}) { n.restart(false, false) }, 1, "load.failed load.started", false},
		{"the report of the end was lost", func(n *node, hold chan struct{}) {
			hold <- struct{}{}
			require.Eventually(n.w.t, func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.latest.last.Kind() == events.KindLoadDone
			}, bustest.Patience, time.Millisecond)
		}, 1, "load.done", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			g := guard(t, func(n *node) { n.hold, n.lossy = hold, tt.lossy })
			g.loading()
			tt.change(g.n, hold)
			before := len(of(g.facts(), g.id))
			g.n.mu.Lock()
			g.n.hold = nil // for the next attempt
			g.n.mu.Unlock()
			g.look()
			g.until("what follows", func(log []bus.Message) bool {
				got := course(of(log, g.id)[before:])
				return len(got) >= len(tt.course) && got[:len(tt.course)] == tt.course
			})
			g.ends(tt.cycles)
			close(hold)
		})
	}
}
