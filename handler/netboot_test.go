package handler_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
)

// linked makes the nodes of a world such that boot by links of a TFTP tree.
func (w *world) linked() {
	w.t.Helper()
	inv, err := inventory.Parse([]byte(`
version: 1
testbeds:
  default:
    defaults: {boot: {driver: pxelinux, image: imaging}}
    nodes:
      n1-1: {ip: 10.18.1.1, mac: "00:11:22:33:01:01"}
      n1-2: {ip: 10.18.1.2, mac: "00:11:22:33:01:02"}
`))
	require.NoError(w.t, err)
	w.inv, w.state, w.pxelinux.Dir = inv, w.t.TempDir(), w.t.TempDir()
	for _, name := range []string{"imaging", "orbit-1.0.0"} {
		require.NoError(w.t, os.WriteFile(filepath.Join(w.pxelinux.Dir, name), nil, 0o644))
	}
}

// links lists the links of the tree.
func (w *world) links() []string {
	all, err := os.ReadDir(w.pxelinux.Dir)
	require.NoError(w.t, err)
	out := []string{}
	for _, e := range all {
		if to, err := os.Readlink(filepath.Join(w.pxelinux.Dir, e.Name())); err == nil {
			out = append(out, e.Name()+" "+to)
		}
	}
	return out
}

func (w *world) unlinked() {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return len(w.links()) == 0 }, bustest.Patience, time.Millisecond, "links left: %v", w.links())
}

var (
	linksOf11 = []string{"01-00-11-22-33-01-01 ./imaging", "0A120101 ./imaging"}
	linksOf12 = []string{"01-00-11-22-33-01-02 ./imaging", "0A120102 ./imaging"}
)

// watched is a power driver that looks before it acts.
type watched struct {
	power.Driver
	before func(context.Context, power.Request)
}

func (d *watched) Do(ctx context.Context, r power.Request) (power.State, error) {
	if r.Action == events.PowerReset || r.Action == events.PowerOn {
		d.before(ctx, r)
	}
	return d.Driver.Do(ctx, r)
}

func (w *world) startWatched(id string, change func(*handler.Policy), before func(context.Context, power.Request)) *running {
	return w.startWith(id, change, func(spec inventory.Power, deps power.Deps) (power.Driver, error) {
		d, err := power.New(spec, deps)
		return &watched{d, before}, err
	})
}

// Links are there when a node is switched, and gone when it is up.
func TestLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.linked()
	hold := make(chan struct{})
	for _, n := range w.nodes {
		n.hold = hold
	}
	switched := make(chan []string, 10)
	w.startWatched("h1", nil, func(_ context.Context, r power.Request) {
		hex := map[string]string{"n1-1": "0A120101", "n1-2": "0A120102"}[r.Node]
		to, _ := os.Readlink(filepath.Join(w.pxelinux.Dir, hex))
		switched <- []string{r.Node, to}
	})
	id := w.load(events.LoadRequest{Nodes: "all"})
	for _, n := range w.names {
		w.until("load.started of "+n, has(events.KindLoadStarted, id, n))
	}
	w.unlinked() // while they load
	close(hold)
	require.Equal(t, 2, w.finished(id).OK)
	for range 2 {
		require.Equal(t, "./imaging", (<-switched)[1])
	}
	w.unlinked()
}

// A handler is killed between the link and the reset. The next one begins with
// what the job says: the link is there as long as it is wanted, and gone when
// the job is over.
func TestKilledBetweenLinkAndReset(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		t.Run(map[bool]string{false: "goes on", true: "cancelled meanwhile"}[cancelled], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			w.linked()
			reached := make(chan struct{}, 10)
			h := w.startWatched("h1", nil, func(ctx context.Context, _ power.Request) {
				reached <- struct{}{}
				<-ctx.Done() // until it is killed
			})
			id := w.load(events.LoadRequest{Nodes: "n1-1"})
			<-reached
			require.Equal(t, linksOf11, w.links())
			h.kill(t)
			require.Equal(t, linksOf11, w.links(), "nobody is there to clear it")
			if cancelled {
				w.request(tb, events.VerbCancel, "cancel1", events.CancelRequest{Job: id})
			}
			w.start("h1", nil)
			r := w.finished(id)
			if !cancelled {
				require.Equal(t, 1, r.OK, "%+v", r.Results)
			}
			w.unlinked()
		})
	}
}

// The job ended while this handler was away, by another one that had other
// links: the start clears what is left.
func TestEndedWhileAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.linked()
	w.nodes["n1-1"].deaf = 99
	clock := w.leaps()
	h := w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "n1-1", Timeout: events.Duration(30 * time.Minute)})
	w.until("reboot.requested", has(events.KindRebootRequested, id, ""))
	require.Eventually(t, func() bool { return slices.Equal(w.links(), linksOf11) }, bustest.Patience, time.Millisecond)
	h.kill(t)
	state := w.state
	w.state = t.TempDir()
	clock.leap(time.Hour)
	other := w.start("h2", nil)
	w.finished(id)
	other.stop(t)
	require.Equal(t, linksOf11, w.links(), "it does not know them")
	w.state = state
	w.start("h1", nil)
	w.unlinked()
}

// Nodes that never come up, and jobs that are cancelled, leave no link.
func TestLinksOfFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.linked()
	w.nodes["n1-1"].deaf = 99
	w.nodes["n1-2"].deaf = 99
	h := w.start("h1", func(p *handler.Policy) { p.CheckIn, p.BootAttempts = 300*time.Millisecond, 2 })
	r := w.finished(w.load(events.LoadRequest{Nodes: "n1-1"}))
	require.Equal(t, events.ClassCheckin, r.Results[0].Class)
	w.unlinked()
	h.stop(t)

	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "n1-2"})
	require.Eventually(t, func() bool { return slices.Equal(w.links(), linksOf12) }, bustest.Patience, time.Millisecond)
	w.request(tb, events.VerbCancel, "cancel1", events.CancelRequest{Job: id})
	w.finished(id)
	w.unlinked()
}

// A node whose link cannot be set is not switched.
func TestLinkInTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.linked()
	require.NoError(t, os.WriteFile(filepath.Join(w.pxelinux.Dir, "0A120101"), []byte("by hand"), 0o644))
	w.start("h1", nil)
	r := w.finished(w.load(events.LoadRequest{Nodes: "all", Require: "1"}))
	for _, res := range r.Results {
		require.Equal(t, res.Node == "n1-2", res.OK)
		if !res.OK {
			require.Equal(t, events.ClassPower, res.Class)
			require.Contains(t, res.Error, "0A120101")
			require.Contains(t, res.Error, "is no link but a file; it is left")
		}
	}
	require.Zero(t, w.nodes["n1-1"].count(func(n *node) int { return n.cycles }))
	w.unlinked()
}

func TestNetbootByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.linked()
	clock := w.leaps()
	w.nodes["n1-2"].deaf = 99
	w.start("h1", forever)
	do := func(action, nodes, image string) (events.NetbootReport, error) {
		return ask[events.NetbootReport](t, w, events.HandlerNetboot, events.NetbootQuery{Nodes: nodes, Action: action, Image: image, By: "ann"})
	}
	r, err := do(events.NetbootSet, "all", "")
	require.NoError(t, err)
	require.Equal(t, append(slices.Clone(linksOf11[:1]), linksOf12[0], linksOf11[1], linksOf12[1]), w.links())
	require.Equal(t, "10.18.1.2", r.Nodes[1].IP)
	require.Equal(t, "imaging", r.Nodes[1].Image)
	require.Equal(t, []string{"0A120102", "01-00-11-22-33-01-02"}, r.Nodes[1].Links)
	_, err = do(events.NetbootClear, "n1-2", "")
	require.NoError(t, err)
	require.Equal(t, linksOf11, w.links())
	_, err = do(events.NetbootSet, "n1-1", "orbit-1.0.0")
	require.NoError(t, err)
	r, err = do(events.NetbootStatus, "all", "")
	require.NoError(t, err)
	require.Equal(t, []string{"orbit-1.0.0", ""}, []string{r.Nodes[0].Image, r.Nodes[1].Image})
	r, err = do(events.NetbootSet, "n1-2", "nowhere")
	require.NoError(t, err)
	require.Equal(t, events.CodeImage, r.Nodes[0].Error.Code)
	for query, code := range map[events.NetbootQuery]events.Code{
		{Nodes: "all", Action: "explode"}:              events.CodeBadRequest,
		{Nodes: "foo(", Action: "set"}:                 events.CodeBadRequest,
		{Nodes: "n9-9", Action: "set"}:                 events.CodeNode,
		{Nodes: "all", Action: "set", Image: "../etc"}: events.CodeImage,
	} {
		_, err := ask[events.NetbootReport](t, w, events.HandlerNetboot, query)
		require.Equal(t, code, events.AsError(err).Code, "%+v", query)
	}
	// A node of a job is left alone.
	id := w.load(events.LoadRequest{Nodes: "n1-2"})
	w.until("reboot.requested", has(events.KindRebootRequested, id, ""))
	_, err = do(events.NetbootClear, "all", "")
	require.Equal(t, events.CodeLeased, events.AsError(err).Code)
	// What was set by hand ends by itself.
	clock.leap(31 * time.Minute)
	require.Eventually(t, func() bool { return slices.Equal(w.links(), linksOf12) }, bustest.Patience, time.Millisecond)

	plain := newWorld(t, 1, 1)
	plain.start("h1", nil)
	_, err = ask[events.NetbootReport](t, plain, events.HandlerNetboot, events.NetbootQuery{Nodes: "all", Action: "set"})
	require.Equal(t, events.CodeUnsupported, events.AsError(err).Code)
}

// The first attempt asks the node itself. One that obeys and does not come up
// is forced the second time.
func TestSecondBootIsHard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	inv, err := inventory.Parse([]byte(`{version: 1, testbeds: {default: {nodes: {n1-1: {power: {driver: exec, command: [/bin/true, "{action}"]}}}}}}`))
	require.NoError(t, err)
	w.inv = inv
	n := w.nodes["n1-1"]
	_, err = n.power(context.Background(), asRequest(t, events.PowerRequest{Node: "n1-1", Action: events.PowerOn, Netboot: true}))
	require.NoError(t, err)
	w.startScript("h1", &script{w: w})
	r := w.finished(w.load(events.LoadRequest{Nodes: "all", Then: events.ThenStay}))
	require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(t, 2, r.Results[0].Attempts)
	var hard []bool
	for _, m := range w.facts() {
		if m.Address.Kind == events.KindRebootRequested {
			hard = append(hard, data[events.RebootRequested](t, m).Hard)
		}
	}
	require.Equal(t, []bool{false, true}, hard)
	require.Equal(t, 2, n.count(func(n *node) int { return n.cycles }))
}

// Nodes start one after the other, with a pause between, and have that much
// more time to report.
func TestStagger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	clock := w.leaps()
	started := make(chan string, 10)
	w.startWatched("h1", func(p *handler.Policy) { forever(p); p.Stagger = time.Minute }, func(_ context.Context, r power.Request) { started <- r.Node })
	id := w.load(events.LoadRequest{Nodes: "all"})
	seen := []string{<-started}
	for i := 1; i < 3; i++ {
		for _, n := range w.names {
			w.until("reboot.requested of "+n, has(events.KindRebootRequested, id, n))
		}
		require.Empty(t, started)
		clock.leap(time.Minute)
		seen = append(seen, <-started)
	}
	slices.Sort(seen)
	require.Equal(t, w.names, seen)
	require.Equal(t, 3, w.finished(id).OK)
	for _, m := range w.facts() {
		if m.Address.Kind == events.KindJobAccepted {
			require.Equal(t, time.Hour+2*time.Minute, time.Duration(data[events.JobAccepted](t, m).Budgets.CheckIn))
		}
	}
}

// waking is a driver that can only switch on, and does not know what is on.
type waking struct{ *script }

func (d waking) Do(ctx context.Context, r power.Request) (power.State, error) {
	switch r.Action {
	case events.PowerStatus:
		return power.State{Power: power.Unknown, Cycles: -1}, nil
	case events.PowerOn:
		return d.script.Do(ctx, r)
	}
	return power.State{}, bus.Permanent(power.ErrUnsupported)
}

// A node that answers nowhere and can only be woken is woken.
func TestWoken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.startWith("h1", nil, func(inventory.Power, power.Deps) (power.Driver, error) {
		return waking{&script{w: w, blind: true}}, nil
	})
	r := w.finished(w.load(events.LoadRequest{Nodes: "all"}))
	require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(t, 1, w.nodes["n1-1"].count(func(n *node) int { return n.cycles }))
}

// leading is a driver that leads the next start into the network.
type leading struct{ *script }

func (leading) Netboots() bool { return true }

// Where the controller has the boot flag, the agent's reboot would lead to the
// disk: the controller is asked the first time.
func TestControllerLeadsTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	inv, err := inventory.Parse([]byte(`{version: 1, testbeds: {default: {nodes: {n1-1: {power: {driver: exec, command: [/bin/true, "{action}"]}}}}}}`))
	require.NoError(t, err)
	w.inv = inv
	n := w.nodes["n1-1"]
	_, err = n.power(context.Background(), asRequest(t, events.PowerRequest{Node: "n1-1", Action: events.PowerOn, Netboot: true}))
	require.NoError(t, err)
	w.startWith("h1", nil, func(inventory.Power, power.Deps) (power.Driver, error) { return leading{&script{w: w}}, nil })
	r := w.finished(w.load(events.LoadRequest{Nodes: "all", Then: events.ThenStay}))
	require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(t, 1, r.Results[0].Attempts)
	require.Equal(t, 2, n.count(func(n *node) int { return n.cycles }))
}
