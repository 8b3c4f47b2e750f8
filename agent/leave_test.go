package agent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestServersRestartDuringALoad(t *testing.T) {
	b := newBench(t)
	b.loading()

	b.bus.Stop()
	b.images.StopData()
	b.images.Pace(0)
	b.images.StartData()
	select {
	case <-b.machine.closed: // the load has gone on to its end without the bus
	case <-time.After(bustest.Patience):
		t.Fatal("the load does not end")
	}
	b.bus.Resume()
	require.Equal(t, events.AssuranceWritten, b.done().Assurance)
	require.Equal(t, []events.Kind{events.KindUp, events.KindLoadStarted, events.KindLoadDone}, b.kinds())
	require.Equal(t, "loaded", b.obeyed(events.VerbProbe, nil).State, "commands are served again")
	b.requireDisk(true)
}

func TestReportsSurviveManyRestarts(t *testing.T) {
	b := newBench(t)
	b.images.StartData()
	b.up()
	want := []events.Kind{events.KindUp}
	for attempt := 1; attempt <= 4; attempt++ {
		cmd := b.command()
		cmd.Attempt = attempt
		b.obeyed(events.VerbLoad, cmd)
		b.bus.Stop()
		select {
		case <-b.machine.closed:
		case <-time.After(bustest.Patience):
			t.Fatal("the load does not end")
		}
		b.bus.Resume()
		bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadDone), func(m bus.Message) bool {
			d, err := events.Decode(m.Event)
			return err == nil && d.(events.LoadDone).Attempt == attempt
		})
		want = append(want, events.KindLoadStarted, events.KindLoadDone)
	}
	require.Equal(t, want, b.kinds())
}

func TestHaltAndReboot(t *testing.T) {
	for verb, how := range map[events.Verb]events.Verb{events.VerbHalt: events.VerbHalt, events.VerbReboot: events.VerbReboot} {
		t.Run(string(verb), func(t *testing.T) {
			b := newBench(t)
			b.up()
			ref := events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: bootID}
			stale := ref
			stale.Boot = "boot-0"
			b.refused(events.CodeStale, verb, events.LeaveCommand{NodeRef: stale})
			stale.Boot = ""
			b.refused(events.CodeBadRequest, verb, events.LeaveCommand{NodeRef: stale})

			require.Equal(t, "leaving", b.obeyed(verb, events.LeaveCommand{NodeRef: ref, Effect: "e1"}).State)
			require.Equal(t, how, <-b.machine.left)
			// The machine leaves when the report is stored, not before.
			stored := bustest.All(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLeaving))
			require.Len(t, stored, 1)
			d, err := events.Decode(stored[0].Event)
			require.NoError(t, err)
			require.Equal(t, events.Leaving{NodeRef: ref, Effect: "e1", How: how}, d)

			require.Equal(t, "leaving", b.obeyed(verb, events.LeaveCommand{NodeRef: ref, Effect: "e1"}).State)
			b.refused(events.CodeBusy, events.VerbLoad, b.command())
			other := events.VerbReboot
			if verb == other {
				other = events.VerbHalt
			}
			b.refused(events.CodeBusy, other, events.LeaveCommand{NodeRef: ref, Effect: "e2"})
			require.Empty(t, b.machine.left, "a repeated command leaves once")
		})
	}
}

func TestLeavingStopsTheLoadOfTheSameJob(t *testing.T) {
	b := newBench(t)
	cmd := b.loading()
	b.obeyed(events.VerbHalt, events.LeaveCommand{NodeRef: cmd.NodeRef})
	require.Equal(t, events.VerbHalt, <-b.machine.left)
	require.Equal(t, []events.Kind{events.KindUp, events.KindLoadStarted, events.KindLoadFailed, events.KindLeaving}, b.kinds())
}

func TestLeavingDoesNotWaitForEver(t *testing.T) {
	t.Parallel() // it mostly waits
	b := newBench(t, func(c *agent.Config, _ *fileMachine) { c.Farewell = 300 * time.Millisecond })
	b.up()
	// The stream takes no report any more; the broker still passes commands.
	require.NoError(t, b.handler.JetStream().DeleteStream(t.Context(), bus.StreamReports))
	b.obeyed(events.VerbReboot, events.LeaveCommand{NodeRef: events.NodeRef{Job: jobID, Boot: bootID}})
	require.Equal(t, events.VerbReboot, <-b.machine.left)
}

func TestMachineThatDoesNotLeave(t *testing.T) {
	b := newBench(t, func(_ *agent.Config, m *fileMachine) { m.leave = errors.New("no such program") })
	b.up()
	leave := events.LeaveCommand{NodeRef: events.NodeRef{Job: jobID, Boot: bootID}}
	b.obeyed(events.VerbHalt, leave)
	<-b.machine.left
	// It takes back what it said, and can be told again.
	gone := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLeaving), nil)
	bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindUp),
		func(m bus.Message) bool { return m.Seq > gone.Seq })
	require.Contains(t, b.obeyed(events.VerbProbe, nil).LastError, "no such program")
	b.obeyed(events.VerbHalt, leave)
	<-b.machine.left
}

func TestEndOfAnAgent(t *testing.T) {
	for name, c := range map[string]struct {
		cause error
		want  []events.Kind
	}{
		"told to end":  {nil, []events.Kind{events.KindUp, events.KindLoadStarted, events.KindLoadFailed}},
		"power is cut": {agent.ErrAbrupt, []events.Kind{events.KindUp, events.KindLoadStarted}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.loading()
			b.end(c.cause)
			b.wait()
			require.Equal(t, c.want, b.kinds())
			if c.cause == nil {
				f := b.failed()
				require.Equal(t, events.ClassCancelled, f.Class)
				require.True(t, f.Retryable)
			}
		})
	}
}
