package sim_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/internal/lab"
	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestLifeOfNodes(t *testing.T) {
	nodes := []string{"n1-1", "n1-2", "omf.nicta.node3"}
	b := newBench(t, nodes, nil)
	b.images.StartData()
	boots := map[string]string{}
	for _, n := range nodes {
		state := b.power(n, events.PowerStatus, "", false)
		require.Equal(t, "on", state.Power, "nodes stand about switched on")
		require.Zero(t, state.Cycles)
		require.ErrorIs(t, b.handler.Request(t.Context(), events.CommandSubject(bustest.Testbed, n, events.VerbProbe), nil, nil),
			bus.ErrNoResponders, "booted from the disk there is no agent")
		boots[n] = b.netboot(n, "e1")
		require.NotEqual(t, state.Boot, boots[n])
	}
	for _, n := range nodes {
		b.load(n, boots[n], 1, events.VerifyReadback)
	}
	for _, n := range nodes {
		require.Equal(t, events.AssuranceReadback, b.done(n, 1).Assurance)
		b.requireRight(n)
		require.Equal(t, 1, b.command(n, events.VerbProbe, nil).Loads)
	}
	b.command(nodes[0], events.VerbHalt, events.LeaveCommand{NodeRef: b.ref(nodes[0], boots[nodes[0]], 1)})
	require.Equal(t, 1, b.awaitPower(nodes[0], "off").Cycles)
	bustest.AwaitReport(t, b.handler, nodes[0], events.KindLeaving)

	// A reboot leads to the disk, whatever the last start was.
	b.command(nodes[1], events.VerbReboot, events.LeaveCommand{NodeRef: b.ref(nodes[1], boots[nodes[1]], 1)})
	bustest.AwaitReport(t, b.handler, nodes[1], events.KindLeaving)
	require.Eventually(t, func() bool { return b.power(nodes[1], events.PowerStatus, "", false).Cycles == 2 }, bustest.Patience, time.Millisecond)
	state := b.power(nodes[1], events.PowerStatus, "", false)
	require.Equal(t, "on", state.Power)
	require.NotEqual(t, boots[nodes[1]], state.Boot)
	b.awaitGone(nodes[1])
}

func TestPower(t *testing.T) {
	const n = "n1-1"
	b := newBench(t, []string{n}, nil)
	cycles := func(want int, s events.PowerState) events.PowerState {
		t.Helper()
		require.Equal(t, want, s.Cycles)
		return s
	}
	first := cycles(0, b.power(n, events.PowerStatus, "", false))

	same := cycles(0, b.power(n, events.PowerOn, "e0", true))
	require.Equal(t, first.Boot, same.Boot, "on does nothing to a machine that is on")

	off := cycles(0, b.power(n, events.PowerOff, "e1", false))
	require.Equal(t, "off", off.Power)
	require.Empty(t, off.Boot)
	require.Equal(t, "e1", off.LastEffect)
	require.Equal(t, off, b.power(n, events.PowerOff, "e1", false))

	on := cycles(1, b.power(n, events.PowerOn, "e2", true))
	require.Equal(t, "on", on.Power)
	b.awaitUp(n, on.Boot)

	require.Equal(t, on, b.power(n, events.PowerOn, "e2", true), "a repeat does nothing")
	old := b.power(n, events.PowerOff, "e1", false)
	require.Equal(t, "on", old.Power, "nor does an older one: off e1 was before on e2")

	reset := cycles(2, b.power(n, events.PowerReset, "e3", true))
	require.NotEqual(t, on.Boot, reset.Boot)
	b.awaitUp(n, reset.Boot)
	require.Equal(t, reset, b.power(n, events.PowerReset, "e3", true))

	cycled := cycles(3, b.power(n, events.PowerCycle, "e4", false))
	require.NotEqual(t, reset.Boot, cycled.Boot)

	require.Equal(t, "off", cycles(3, b.power(n, events.PowerSoft, "e5", false)).Power, "no agent, so it is off at once")
	require.Equal(t, "off", cycles(3, b.power(n, events.PowerReset, "e6", true)).Power, "a machine that is off cannot be reset")
	require.Equal(t, "off", cycles(3, b.power(n, events.PowerSoft, "e7", false)).Power)

	again := cycles(4, b.power(n, events.PowerCycle, "e8", true))
	b.awaitUp(n, again.Boot)
	b.power(n, events.PowerSoft, "e9", false)
	cycles(4, b.awaitPower(n, "off"))
	require.Equal(t, "off", cycles(4, b.power(n, events.PowerOff, "e10", false)).Power)

	// Without an effect id each request counts.
	cycles(5, b.power(n, events.PowerCycle, "", false))
	cycles(6, b.power(n, events.PowerReset, "", false))
	cycles(7, b.power(n, events.PowerReset, "", false))

	ctx := t.Context()
	err := b.handler.Request(ctx, events.PowerSubject(bustest.Testbed, n, "explode"), events.PowerRequest{Node: n}, nil)
	require.ErrorIs(t, err, bus.ErrNoResponders)
	var refusal *events.Error
	err = b.handler.Request(ctx, events.PowerSubject(bustest.Testbed, n, events.PowerOff), events.PowerRequest{Node: "n1-2"}, nil)
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, events.CodeBadRequest, refusal.Code)
	err = b.handler.Request(ctx, events.PowerSubject(bustest.Testbed, n, events.PowerStatus), events.PowerRequest{Action: events.PowerOff}, nil)
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, "on", b.power(n, events.PowerStatus, "", false).Power)
}

func TestRepeatedResetsRunOneAgent(t *testing.T) {
	const n = "n1-1"
	b := newBench(t, []string{n}, nil)
	for i := range 20 {
		b.power(n, events.PowerReset, fmt.Sprint("e", i), true)
	}
	boot := b.netboot(n, "last")
	require.Equal(t, boot, b.command(n, events.VerbProbe, nil).Boot)
	require.Equal(t, 21, b.power(n, events.PowerStatus, "", false).Cycles)
}

func TestPowerCutSaysNoGoodbye(t *testing.T) {
	const n = "n1-1"
	b := newBench(t, []string{n}, nil)
	b.images.Pace(2_000_000)
	b.images.StartData()
	boot := b.netboot(n, "e1")
	b.load(n, boot, 1, "")
	bustest.AwaitReport(t, b.handler, n, events.KindLoadStarted)
	b.power(n, events.PowerOff, "e2", false)
	b.awaitGone(n)

	b.images.StopData()
	b.images.Pace(0)
	b.images.StartData()
	second := b.netboot(n, "e3")
	b.load(n, second, 2, "")
	b.done(n, 2)
	b.requireRight(n)
	require.Empty(t, bustest.All(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, n, events.KindLoadFailed)))
	require.Empty(t, bustest.All(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, n, events.KindLeaving)))
}

func TestSoftOffIsSaid(t *testing.T) {
	const n = "n1-1"
	b := newBench(t, []string{n}, nil)
	b.images.Pace(2_000_000)
	b.images.StartData()
	boot := b.netboot(n, "e1")
	b.load(n, boot, 1, "")
	bustest.AwaitReport(t, b.handler, n, events.KindLoadStarted)
	b.power(n, events.PowerSoft, "e2", false)
	require.Equal(t, events.ClassCancelled, b.failed(n, 1).Class)
	b.awaitPower(n, "off")
}

func TestNodesOutliveTheBus(t *testing.T) {
	const n = "n1-1"
	b := newBench(t, []string{n}, nil)
	b.images.StartData()
	boot := b.netboot(n, "e1")
	b.bus.Restart()
	require.Eventually(t, func() bool {
		var state events.PowerState
		err := b.handler.Request(t.Context(), events.PowerSubject(bustest.Testbed, n, events.PowerReset),
			events.PowerRequest{Node: n, Effect: "e1", Netboot: true}, &state)
		return err == nil && state.Boot == boot && state.Cycles == 1
	}, bustest.Patience, 10*time.Millisecond, "the effect is remembered")
	require.Eventually(t, func() bool {
		var reply events.CommandReply
		err := b.handler.Request(t.Context(), events.CommandSubject(bustest.Testbed, n, events.VerbProbe), nil, &reply)
		return err == nil && reply.Boot == boot
	}, bustest.Patience, 10*time.Millisecond)
	b.load(n, boot, 1, "")
	b.done(n, 1)
	b.requireRight(n)
}

func TestDiskOfAGivenSize(t *testing.T) {
	for name, c := range map[string]struct {
		size  int64
		class events.Class
	}{"too small": {1 << 20, events.ClassRefused}, "large": {64 << 20, ""}} {
		t.Run(name, func(t *testing.T) {
			const n = "n1-1"
			b := newBench(t, []string{n}, func(cfg *sim.Config) { cfg.DiskSize = c.size })
			b.images.StartData()
			boot := b.netboot(n, "e1")
			b.load(n, boot, 1, events.VerifyReadback)
			if c.class != "" {
				require.Equal(t, c.class, b.failed(n, 1).Class)
				return
			}
			b.done(n, 1)
			b.requireRight(n)
			hw := b.command(n, events.VerbProbe, nil).Hardware
			require.Equal(t, c.size, hw.Disks[0].Size)
			require.Equal(t, "sim-"+n, hw.Disks[0].Serial)
			require.Equal(t, "127.77.1.1", hw.NICs[0].Address)
		})
	}
}

func TestManyNodesShareOneSession(t *testing.T) {
	var nodes []string
	for i := range 30 {
		nodes = append(nodes, fmt.Sprintf("n%d-%d", i/10+1, i%10+1))
	}
	b := newBench(t, nodes, nil)
	b.images.Image = lab.NewImage(t, 2, 12) // there are many disks to fill
	b.images.Pace(40_000_000)
	b.images.StartData()
	boots := map[string]string{}
	for _, n := range nodes {
		boots[n] = b.power(n, events.PowerReset, "e1", true).Boot
	}
	for _, n := range nodes {
		b.awaitUp(n, boots[n])
		b.load(n, boots[n], 1, "")
	}
	for _, n := range nodes {
		b.done(n, 1)
		b.requireRight(n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := sim.Config{
		Testbed: "default", Nodes: []string{"n1-1"}, Dir: t.TempDir(),
		Connect: func(context.Context, events.Credential) (*bus.Conn, error) { return nil, errors.New("no") },
		Credential: func(context.Context, string, events.CredentialKind) (events.Credential, error) {
			return events.Credential{}, nil
		},
	}
	_, err := sim.New(good)
	require.NoError(t, err)
	for want, change := range map[string]func(*sim.Config){
		"testbed":             func(c *sim.Config) { c.Testbed = "" },
		"are required":        func(c *sim.Config) { c.Dir = "" },
		"0 nodes":             func(c *sim.Config) { c.Nodes = nil },
		"named twice":         func(c *sim.Config) { c.Nodes = []string{"a", "a"} },
		"name is empty":       func(c *sim.Config) { c.Nodes = []string{""} },
		"multiple of 512":     func(c *sim.Config) { c.DiskSize = 1000 },
		"there is no node n9": func(c *sim.Config) { c.Faults = []sim.Fault{{Kind: sim.Flip, Nodes: []string{"n9"}}} },
	} {
		bad := good
		change(&bad)
		_, err := sim.New(bad)
		require.ErrorContains(t, err, want)
	}
}

func TestSimulatorEndsWithoutABus(t *testing.T) {
	s, err := sim.New(sim.Config{
		Testbed: "default", Nodes: []string{"n1-1"}, Dir: t.TempDir(),
		Connect: func(context.Context, events.Credential) (*bus.Conn, error) { return nil, bus.ErrUnreachable },
		Credential: func(context.Context, string, events.CredentialKind) (events.Credential, error) {
			return events.Credential{}, nil
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Run(ctx))
	select {
	case <-s.Ready():
		t.Fatal("ready without a bus")
	default:
	}
}
