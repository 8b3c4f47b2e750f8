package powertest

import (
	"context"
	"fmt"
	"slices"
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
	Hang      func(node string)         // its controller does not answer from now on; nil: the driver waits for no answer
	Reason    string                    // part of what a refusing controller says
	// Cannot are the actions that the driver does not have: each is refused
	// with ErrUnsupported and changes nothing.
	Cannot []string
	// Start switches a machine on from outside, for drivers that cannot.
	Start func(node string)
	// Blind is a driver that never knows the state.
	Blind bool
	// Settle waits until a machine is as it should be, where the driver does not
	// hear when it is.
	Settle func(node string, want Machine)
	// Asleep: of a machine that is off the state is not known.
	Asleep bool
}

// can reports whether the driver has an action.
func (r Rig) can(action string) bool { return !slices.Contains(r.Cannot, action) }

// powered is what the driver should say of a machine.
func (r Rig) powered(truth string) string {
	if r.Blind || r.Asleep && truth == power.Off {
		return power.Unknown
	}
	return truth
}

// on switches a node on, by the driver or from outside.
func (r Rig) on(t *testing.T, node, effect string) {
	t.Helper()
	if r.can(events.PowerOn) {
		r.do(t, node, events.PowerOn, effect)
		return
	}
	r.Start(node)
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
		"cannot":     unable,
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

// actions goes once through the life of a machine. Where the driver does not
// have an action, the machine goes on from where it is.
func actions(t *testing.T, r Rig) {
	node := r.Nodes[0]
	want := Machine{Power: power.Off}
	if !r.can(events.PowerOn) {
		r.Start(node)
		want = Machine{Power: power.On, Cycles: 1}
	}
	for i, action := range []string{
		events.PowerOn, events.PowerOn, events.PowerReset, events.PowerCycle, events.PowerSoft, events.PowerReset,
		events.PowerCycle, events.PowerOff, events.PowerOff,
	} {
		if !r.can(action) || want.Power == power.Off && r.Asleep {
			continue
		}
		switch action {
		case events.PowerOn: // on while on is no restart
			if want.Power == power.Off {
				want.Cycles++
			}
			want.Power = power.On
		case events.PowerReset: // a machine that is off stays off
			if want.Power == power.On {
				want.Cycles++
			}
		case events.PowerCycle:
			want.Power = power.On
			want.Cycles++
		default:
			want.Power = power.Off
		}
		state := r.do(t, node, action, fmt.Sprintf("job:%s:step:%d", node, i))
		if r.Settle != nil {
			r.Settle(node, want)
		}
		seen := r.Look(node)
		require.Equal(t, want.Power, seen.Power, "after step %d, %s", i, action)
		require.Equal(t, want.Cycles, seen.Cycles, "after step %d, %s", i, action)
		if state.Power != power.Unknown {
			require.Equal(t, want.Power, state.Power, "an action's answer is true or unknown")
		}
		acts := seen.Acts
		status := r.do(t, node, events.PowerStatus, "")
		require.Equal(t, r.powered(want.Power), status.Power, "status after %s", action)
		if status.Cycles >= 0 {
			require.Equal(t, want.Cycles, status.Cycles)
		}
		require.Equal(t, acts, r.Look(node).Acts, "status changes nothing")
	}
	require.Equal(t, Machine{Power: power.Off}, r.Look(r.Nodes[1]), "the other machine was left alone")
}

// unable refuses what the driver does not have, in words that help.
func unable(t *testing.T, r Rig) {
	node := r.Nodes[0]
	if r.Start != nil {
		r.Start(node)
	}
	before := r.Look(node)
	for _, action := range r.Cannot {
		state, err := r.Driver.Do(t.Context(), r.request(node, action, "e"))
		require.ErrorIs(t, err, power.ErrUnsupported)
		require.ErrorContains(t, err, node)
		require.ErrorContains(t, err, "cannot do "+action)
		require.Empty(t, state)
	}
	require.Equal(t, before, r.Look(node))
}

// repeat does the same effect twice. A driver that calls itself repeatable
// acts once; any other acts as often as it is told.
func repeat(t *testing.T, r Rig) {
	node := r.Nodes[0]
	r.on(t, node, "e0")
	if !r.can(events.PowerReset) {
		require.False(t, r.Driver.Repeatable())
		r.on(t, node, "e0") // it is on
		require.Equal(t, 1, r.settled(node, 1).Cycles)
		return
	}
	for range 3 {
		r.do(t, node, events.PowerReset, "e1")
	}
	want := 4
	if r.Driver.Repeatable() {
		want = 2
		require.Equal(t, "e1", r.do(t, node, events.PowerStatus, "").LastEffect)
	}
	require.Equal(t, want, r.settled(node, want).Cycles)
	r.do(t, node, events.PowerReset, "e2")
	r.do(t, node, events.PowerReset, "") // without an effect there is nothing to remember
	r.do(t, node, events.PowerReset, "")
	require.Equal(t, want+3, r.settled(node, want+3).Cycles)
}

// settled looks at a machine that is on, once it has come to be so.
func (r Rig) settled(node string, cycles int) Machine {
	if r.Settle != nil {
		r.Settle(node, Machine{Power: power.On, Cycles: cycles})
	}
	return r.Look(node)
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
		if !r.can(action) {
			continue
		}
		state, err := r.Driver.Do(t.Context(), r.request(node, action, "e"))
		require.ErrorContains(t, err, r.Reason)
		require.ErrorContains(t, err, node)
		require.ErrorContains(t, err, action)
		require.Empty(t, state, "no state beside an error")
	}
	require.Equal(t, Machine{Power: power.Off}, r.Look(node))
	r.on(t, r.Nodes[1], "e")
}

// cancelled is a caller that is gone already.
func cancelled(t *testing.T, r Rig) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Driver.Do(ctx, r.request(r.Nodes[0], r.starting(), "e"))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Machine{Power: power.Off}, r.Look(r.Nodes[0]))
}

// hanging is a controller that does not answer: the driver's own timeout ends
// it, and the caller's end ends it at once.
func hanging(t *testing.T, r Rig) {
	node := r.Nodes[0]
	if r.Hang == nil { // it sends and is done, however long the node takes
		r.do(t, node, r.starting(), "e")
		return
	}
	r.Hang(node)
	_, err := r.Impatient.Do(t.Context(), r.request(node, events.PowerStatus, ""))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no answer within")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Driver.Do(ctx, r.request(node, r.starting(), "e"))
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// starting is an action that the driver has: the first of those that lead to a
// machine that runs.
func (r Rig) starting() string {
	for _, a := range []string{events.PowerOn, events.PowerCycle, events.PowerReset} {
		if r.can(a) {
			return a
		}
	}
	return events.PowerStatus
}

// concurrent switches all machines at once.
func concurrent(t *testing.T, r Rig) {
	action, cycles := events.PowerCycle, 5
	switch {
	case !r.can(events.PowerCycle) && r.can(events.PowerReset):
		action, cycles = events.PowerReset, 6
	case !r.can(events.PowerCycle):
		action, cycles = events.PowerOn, 1
	}
	if action == events.PowerReset {
		for _, node := range r.Nodes {
			r.on(t, node, "first")
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(r.Nodes))
	for i, node := range r.Nodes {
		wg.Go(func() {
			for j := range 5 {
				if _, errs[i] = r.Driver.Do(t.Context(), r.request(node, action, fmt.Sprint(node, j))); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, node := range r.Nodes {
		require.NoError(t, errs[i])
		seen := r.settled(node, cycles)
		require.Equal(t, power.On, seen.Power)
		require.Equal(t, cycles, seen.Cycles)
	}
}
