package handler_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
)

// script is a power driver whose far side remembers nothing, such as a shell
// script: every request acts.
type script struct {
	w      *world
	refuse bool // every action but status fails
	blind  bool // status is not known
}

func (*script) Repeatable() bool { return false }

func (s *script) Do(ctx context.Context, r power.Request) (power.State, error) {
	if s.refuse && r.Action != events.PowerStatus {
		return power.State{}, errors.New("exit status 7: no route to the chassis")
	}
	r.Effect = "" // acted upon each time
	var st power.State
	err := s.w.conn.Request(ctx, events.PowerSubject(r.Testbed, r.Node, r.Action), r, &st)
	st.LastEffect = ""
	if s.blind {
		st.Power = power.Unknown
	}
	return st, err
}

func (w *world) startScript(id string, s *script) *running {
	w.t.Helper()
	short := func(p *handler.Policy) { p.CheckIn, p.BootAttempts = 2*time.Second, 5 }
	return w.startWith(id, short, func(inventory.Power, power.Deps) (power.Driver, error) { return s, nil })
}

// With a driver that remembers nothing, a successor looks before it acts: no
// node is started twice for a step that had taken effect.
func TestKilledAtEveryFactWithScripts(t *testing.T) {
	t.Parallel()
	for _, blind := range []bool{false, true} {
		// While nodes are planned for and load nobody asks about their power.
		for _, k := range []int{3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17} {
			t.Run(fmt.Sprintf("%d blind=%t", k, blind), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, 2)
				s := &script{w: w, blind: blind}
				h := w.startScript("h1", s)
				id := w.load(events.LoadRequest{Nodes: "all"})
				w.until(fmt.Sprintf("%d facts", k), func(log []bus.Message) bool { return len(log) >= k })
				h.kill(t)
				w.startScript("h1", s)
				r := w.finished(id)
				require.Equal(t, 2, r.OK, "%+v", r.Results)
				for _, res := range r.Results {
					// A kill between the fact and the script leaves a reboot that
					// nobody did: the second attempt does it. It is never two starts
					// for one attempt.
					n := w.nodes[res.Node]
					require.LessOrEqual(t, n.count(func(n *node) int { return n.cycles }), res.Attempts, res.Node)
				}
				w.free()
			})
		}
	}
}

func TestPowerControllerRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.startWith("h1", func(p *handler.Policy) { p.CheckIn = time.Second }, func(inventory.Power, power.Deps) (power.Driver, error) {
		return &script{w: w, refuse: true}, nil
	})
	r := w.finished(w.load(events.LoadRequest{Nodes: "all"}))
	require.Equal(t, events.ClassPower, r.Results[0].Class)
	require.Contains(t, r.Results[0].Error, "no route to the chassis")
	w.free()
}

// onDisk gives the nodes of a world power controllers of their own, so that
// what answers for power on the bus is the agent on their disks.
func (w *world) onDisk() {
	w.t.Helper()
	inv, err := inventory.Parse([]byte(`
version: 1
testbeds:
  default:
    nodes:
      n1-1: {power: {driver: exec, command: [/bin/true, "{action}"]}}
`))
	require.NoError(w.t, err)
	w.inv = inv
}

// refusing is a power controller that does nothing.
type refusing struct{}

func (refusing) Repeatable() bool { return false }

func (refusing) Do(context.Context, power.Request) (power.State, error) {
	return power.State{Power: power.Unknown, Cycles: -1}, errors.New("no route to the chassis")
}

// An agent on the node's own disk is asked to reboot before the power
// controller is, and omf wait finds it.
func TestResidentReboots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.onDisk()
	n := w.nodes["n1-1"]
	n.mu.Lock()
	n.start()
	n.mu.Unlock()
	n.resident = true
	w.startWith("h1", nil, func(inventory.Power, power.Deps) (power.Driver, error) { return refusing{}, nil })
	agents, err := ask[events.AgentReport](t, w, events.HandlerAgents, events.NodesQuery{Nodes: "all"})
	require.NoError(t, err)
	require.Equal(t, []events.AgentState{{Node: "n1-1", Answers: true, Boot: "n1-1-boot-1", State: "resident"}}, agents.Nodes)

	id := w.load(events.LoadRequest{Nodes: "all", Then: events.ThenStay})
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	require.Equal(t, 2, n.count(func(n *node) int { return n.cycles }))

	// By the next job it has started from its disk, which nobody reported.
	n.mu.Lock()
	n.stopAgent()
	n.start()
	n.mu.Unlock()
	id = w.load(events.LoadRequest{Nodes: "all", Then: events.ThenStay})
	r := w.finished(id)
	require.Equal(t, events.OutcomeOK, r.Outcome)
	require.Equal(t, 1, r.Results[0].Attempts)
	require.Equal(t, 4, n.count(func(n *node) int { return n.cycles }))
	w.free()
}

// A node that runs its own disk in place of the imaging system is said to do so.
func TestOwnDiskInEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.onDisk()
	n := w.nodes["n1-1"]
	n.deaf = 10 // every start leads to the disk
	w.startWith("h1", func(p *handler.Policy) { p.CheckIn = time.Second }, func(inventory.Power, power.Deps) (power.Driver, error) { return &script{w: w}, nil })
	id := w.load(events.LoadRequest{Nodes: "all"})
	require.Equal(t, events.ClassCheckin, w.finished(id).Results[0].Class)
	for _, m := range of(w.facts(), id, "n1-1") {
		if m.Address.Kind == events.KindNodeFailed {
			require.Contains(t, data[events.NodeFailed](t, m).Evidence.Text, "from its own disk (boot n1-1-boot-")
		}
	}
	w.free()
}

// An agent that runs is asked itself before its power controller is.
func TestSoftRebootFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.onDisk()
	n := w.nodes["n1-1"]
	_, err := n.power(context.Background(), asRequest(t, events.PowerRequest{Node: "n1-1", Action: events.PowerOn, Netboot: true}))
	require.NoError(t, err)
	n.softBoot = true
	w.startScript("h1", &script{w: w, refuse: true}) // hard ways do not work
	id := w.load(events.LoadRequest{Nodes: "all", Then: events.ThenStay})
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	require.Equal(t, 2, n.count(func(n *node) int { return n.cycles }))
	w.free()
}
