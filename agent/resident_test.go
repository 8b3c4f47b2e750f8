package agent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// leaver is a machine that is told to leave.
type leaver struct {
	told chan events.Verb
	fail chan error // what the next one comes to
}

func (l *leaver) Leave(_ context.Context, how events.Verb) error {
	l.told <- how
	return <-l.fail
}

// soon is a clock on which long waits are over at once.
type soon struct{ agent.SystemClock }

func (c soon) After(d time.Duration) <-chan time.Time {
	if d > time.Minute {
		d = 0
	}
	return c.SystemClock.After(d)
}

// asks sends requests for the power of the node, as the handler does.
func asks(t *testing.T, c *bus.Conn) func(events.PowerRequest) (events.PowerState, error) {
	return func(q events.PowerRequest) (st events.PowerState, err error) {
		err = c.Request(t.Context(), events.PowerSubject(bustest.Testbed, nodeName, q.Action), q, &st)
		return st, err
	}
}

func TestResident(t *testing.T) {
	h := bustest.Start(t)
	handler := h.Connect(t)
	machine := &leaver{told: make(chan events.Verb), fail: make(chan error)}
	a, err := agent.NewResident(agent.ResidentConfig{Testbed: bustest.Testbed, Node: nodeName, Boot: "b1", Conn: h.ConnectResident(t, nodeName), Machine: machine, Clock: soon{}})
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	power := asks(t, handler)
	answers := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := power(events.PowerRequest{Action: events.PowerStatus})
			return err == nil
		}, bustest.Patience, time.Millisecond)
	}
	answers()
	on := events.PowerState{Power: events.PowerOn, Boot: "b1", Cycles: -1}
	st, _ := power(events.PowerRequest{Node: nodeName, Action: events.PowerStatus})
	require.Equal(t, on, st)
	for _, c := range []struct {
		q    events.PowerRequest
		want events.Code
	}{
		{events.PowerRequest{Action: events.PowerOff}, events.CodeUnsupported},
		{events.PowerRequest{Action: events.PowerOn}, events.CodeUnsupported},
		{events.PowerRequest{Action: events.PowerCycle}, events.CodeUnsupported},
		{events.PowerRequest{Action: events.PowerReset, Boot: "b0"}, events.CodeStale},
		{events.PowerRequest{Action: events.PowerReset, Node: "n9-9"}, events.CodeBadRequest},
	} {
		_, err := power(c.q)
		require.Equal(t, c.want, events.AsError(err).Code, "%+v", c.q)
	}

	// One request, one reboot; while the machine leaves nobody is there to ask.
	reset := events.PowerRequest{Node: nodeName, Action: events.PowerReset, Boot: "b1", Effect: "e1"}
	st, err = power(reset)
	require.NoError(t, err)
	require.Equal(t, "e1", st.LastEffect)
	require.Equal(t, events.VerbReboot, <-machine.told)
	_, err = power(reset)
	require.ErrorIs(t, err, bus.ErrNoResponders)

	// A machine that does not leave can be told again, by the same request too.
	machine.fail <- errors.New("/sbin/reboot: Failed to connect to bus")
	answers()
	st, _ = power(events.PowerRequest{Action: events.PowerStatus})
	require.Equal(t, on, st)
	_, err = power(reset)
	require.NoError(t, err)
	require.Equal(t, events.VerbReboot, <-machine.told)
	machine.fail <- errors.New("again")
	answers()
	_, err = power(events.PowerRequest{Action: events.PowerSoft})
	require.NoError(t, err)
	require.Equal(t, events.VerbHalt, <-machine.told)
	machine.fail <- nil
	answers() // it took its leave, and runs on all the same
	end()
	require.NoError(t, <-done)
	require.Empty(t, bustest.All(t, handler, bus.StreamReports, ">"), "it reports nothing")
}

// A credential of another kind does not serve, and is told at once.
func TestResidentDenied(t *testing.T) {
	h := bustest.Start(t)
	a, err := agent.NewResident(agent.ResidentConfig{Testbed: bustest.Testbed, Node: nodeName, Boot: "b1", Conn: h.ConnectNode(t, nodeName), Machine: &leaver{}})
	require.NoError(t, err)
	require.ErrorIs(t, a.Run(t.Context()), bus.ErrDenied)
}
