package powertest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/power"
)

// Rig is a driver and the machines it switches.
type Rig struct {
	Driver    power.Driver
	Impatient power.Driver // the same with a timeout of about 100 ms
	Testbed   string
	Nodes     []string                  // at least two, all off
	Look      func(node string) Machine // from outside
	Break     func(node string)         // its controller refuses from now on
	Hang      func(node string)         // its controller does not answer from now on
	Reason    string                    // part of what a refusing controller says
}

// Run runs the suite. make is called once for each test and cleans up with
// t.Cleanup.
func Run(t *testing.T, make func(t *testing.T) Rig) {
	for name, test := range map[string]func(*testing.T, Rig){
		"actions":    actions,
		"repeat":     repeat,
		"refusals":   refusals,
		"broken":     broken,
		"cancelled":  cancelled,
		"hanging":    hanging,
		"concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

func (r Rig) request(node, action, effect string) power.Request {
	return power.Request{Testbed: r.Testbed, Node: node, Action: action, Effect: effect}
}

func (r Rig) do(t *testing.T, node, action, effect string) power.State {
	t.Helper()
	state, err := r.Driver.Do(t.Context(), r.request(node, action, effect))
	require.NoError(t, err)
	require.Contains(t, []string{power.On, power.Off, power.Unknown}, state.Power)
	require.GreaterOrEqual(t, state.Cycles, -1)
	return state
}

// actions goes once through the life of a machine.
func actions(t *testing.T, r Rig) {
	node := r.Nodes[0]
	for i, step := range []struct {
		action string
		power  string
		cycles int
	}{
		{events.PowerOn, power.On, 1},
		{events.PowerOn, power.On, 1}, // on while on is no restart
		{events.PowerReset, power.On, 2},
		{events.PowerCycle, power.On, 3},
		{events.PowerSoft, power.Off, 3},
		{events.PowerReset, power.Off, 3}, // a machine that is off stays off
		{events.PowerCycle, power.On, 4},
		{events.PowerOff, power.Off, 4},
		{events.PowerOff, power.Off, 4},
	} {
		state := r.do(t, node, step.action, fmt.Sprintf("job:%s:step:%d", node, i))
		seen := r.Look(node)
		require.Equal(t, step.power, seen.Power, "after step %d, %s", i, step.action)
		require.Equal(t, step.cycles, seen.Cycles, "after step %d, %s", i, step.action)
		if state.Power != power.Unknown {
			require.Equal(t, step.power, state.Power, "an action's answer is true or unknown")
		}
		acts := seen.Acts
		status := r.do(t, node, events.PowerStatus, "")
		require.Equal(t, step.power, status.Power, "status after %s", step.action)
		if status.Cycles >= 0 {
			require.Equal(t, step.cycles, status.Cycles)
		}
		require.Equal(t, acts, r.Look(node).Acts, "status changes nothing")
	}
	require.Equal(t, Machine{Power: power.Off}, r.Look(r.Nodes[1]), "the other machine was left alone")
}

// repeat does the same effect twice. A driver that calls itself repeatable
// acts once; any other acts as often as it is told.
func repeat(t *testing.T, r Rig) {
	node := r.Nodes[0]
	r.do(t, node, events.PowerOn, "e0")
	for range 3 {
		r.do(t, node, events.PowerReset, "e1")
	}
	want := 4
	if r.Driver.Repeatable() {
		want = 2
		require.Equal(t, "e1", r.do(t, node, events.PowerStatus, "").LastEffect)
	}
	require.Equal(t, want, r.Look(node).Cycles)
	r.do(t, node, events.PowerReset, "e2")
	r.do(t, node, events.PowerReset, "") // without an effect there is nothing to remember
	r.do(t, node, events.PowerReset, "")
	require.Equal(t, want+3, r.Look(node).Cycles)
}

// refusals are requests that no controller may see.
func refusals(t *testing.T, r Rig) {
	node := r.Nodes[0]
	for name, req := range map[string]power.Request{
		"no action":      r.request(node, "", "e"),
		"unknown action": r.request(node, "explode", "e"),
		"upper case":     r.request(node, "ON", "e"),
		"no node":        r.request("", events.PowerOn, "e"),
		"no testbed":     {Node: node, Action: events.PowerOn},
		"unknown node":   r.request("no-such-node", events.PowerOn, "e"),
	} {
		_, err := r.Driver.Do(t.Context(), req)
		require.Error(t, err, name)
	}
	_, err := r.Driver.Do(t.Context(), r.request(node, "explode", "e"))
	require.ErrorIs(t, err, power.ErrAction)
	require.Equal(t, Machine{Power: power.Off}, r.Look(node))
}

// broken is a controller that refuses: the error says who, what and why.
func broken(t *testing.T, r Rig) {
	node := r.Nodes[0]
	r.Break(node)
	for _, action := range power.Actions() {
		state, err := r.Driver.Do(t.Context(), r.request(node, action, "e"))
		require.ErrorContains(t, err, r.Reason)
		require.ErrorContains(t, err, node)
		require.ErrorContains(t, err, action)
		require.Empty(t, state, "no state beside an error")
	}
	require.Equal(t, Machine{Power: power.Off}, r.Look(node))
	r.do(t, r.Nodes[1], events.PowerOn, "e")
}

// cancelled is a caller that is gone already.
func cancelled(t *testing.T, r Rig) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Driver.Do(ctx, r.request(r.Nodes[0], events.PowerOn, "e"))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Machine{Power: power.Off}, r.Look(r.Nodes[0]))
}

// hanging is a controller that does not answer: the driver's own timeout ends
// it, and the caller's end ends it at once.
func hanging(t *testing.T, r Rig) {
	node := r.Nodes[0]
	r.Hang(node)
	_, err := r.Impatient.Do(t.Context(), r.request(node, events.PowerStatus, ""))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no answer within")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Driver.Do(ctx, r.request(node, events.PowerOn, "e"))
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// concurrent switches all machines at once.
func concurrent(t *testing.T, r Rig) {
	var wg sync.WaitGroup
	errs := make([]error, len(r.Nodes))
	for i, node := range r.Nodes {
		wg.Go(func() {
			for j := range 5 {
				if _, errs[i] = r.Driver.Do(t.Context(), r.request(node, events.PowerCycle, fmt.Sprint(node, j))); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, node := range r.Nodes {
		require.NoError(t, errs[i])
		require.Equal(t, Machine{Power: power.On, Cycles: 5, Acts: 5}, r.Look(node))
	}
}
