package sim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

const n = "n1-1"

func TestNoBoot(t *testing.T) {
	b := newBench(t, []string{n, "n1-2"}, faults(t, "noboot:"+n))
	b.netboot("n1-2", "e1") // the other one comes up
	state := b.power(n, events.PowerReset, "e1", true)
	require.Equal(t, "on", state.Power)
	require.ErrorIs(t, b.handler.Request(t.Context(), events.CommandSubject(bustest.Testbed, n, events.VerbProbe), nil, nil), bus.ErrNoResponders)
	require.Empty(t, bustest.All(t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, n)))
}

func TestDiesOnceAndLoadsThen(t *testing.T) {
	b := newBench(t, []string{n}, faults(t, "die"))
	b.images.StartData()
	boot := b.netboot(n, "e1")
	b.load(n, boot, 1, "")
	require.Equal(t, 1, b.awaitPower(n, "off").Cycles)
	_, _, right := b.damage(n)
	require.False(t, right, "it died in the middle")

	boot = b.netboot(n, "e2")
	b.load(n, boot, 2, events.VerifyReadback)
	b.done(n, 2)
	b.requireRight(n)
	require.Empty(t, bustest.All(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, n, events.KindLoadFailed)), "the dead say nothing")
}

func TestBadNetworksOnlyCostTime(t *testing.T) {
	b := newBench(t, []string{n, "n1-2", "n1-3"}, faults(t, "loss=5:"+n, "reorder:n1-2", "loss=2:n1-3", "reorder:n1-3"))
	b.images.Pace(200_000_000)
	b.images.StartData()
	for _, node := range []string{n, "n1-2", "n1-3"} {
		b.load(node, b.netboot(node, "e1"), 1, events.VerifyReadback)
	}
	require.Positive(t, b.done(n, 1).Counters["lost"])
	b.done("n1-2", 1)
	b.done("n1-3", 1)
	for _, node := range []string{n, "n1-2", "n1-3"} {
		b.requireRight(node)
	}
}

func TestSlowDisk(t *testing.T) {
	const rate = 8 << 20
	b := newBench(t, []string{n}, faults(t, "slowdisk=8388608"))
	b.images.StartData()
	b.load(n, b.netboot(n, "e1"), 1, "")
	done := b.done(n, 1)
	least := time.Duration(float64(done.BytesWritten) / rate * float64(time.Second))
	require.GreaterOrEqual(t, time.Duration(done.Took), least)
	b.requireRight(n)
}

func TestWriteError(t *testing.T) {
	const bad = 2_222_222
	b := newBench(t, []string{n}, faults(t, "writeerr=2222222"))
	b.images.StartData()
	b.load(n, b.netboot(n, "e1"), 1, "")
	f := b.failed(n, 1)
	require.Equal(t, events.ClassWrite, f.Class)
	require.LessOrEqual(t, *f.Evidence.First, int64(bad))
	require.Greater(t, *f.Evidence.Last, int64(bad))
	require.Contains(t, f.Evidence.Text, "input/output error")
}

// TestFlip: the agent is honest and its disk is not. Read-back finds the very
// place; without it nothing can.
func TestFlip(t *testing.T) {
	var places []int64
	for _, verify := range []string{events.VerifyReadback, ""} {
		b := newBench(t, []string{n}, faults(t, "flip"))
		b.images.StartData()
		b.load(n, b.netboot(n, "e1"), 1, verify)
		if verify == "" {
			require.Equal(t, events.AssuranceWritten, b.done(n, 1).Assurance)
		} else {
			f := b.failed(n, 1)
			require.Equal(t, events.ClassVerify, f.Class)
			first, last, right := b.damage(n)
			require.False(t, right)
			require.Equal(t, first, last, "one byte differs")
			require.LessOrEqual(t, *f.Evidence.First, first)
			require.Greater(t, *f.Evidence.Last, first)
		}
		first, _, right := b.damage(n)
		require.False(t, right)
		places = append(places, first)
		b.end()
	}
	require.Equal(t, places[0], places[1], "the same seed flips the same bit, whatever is done about it")
}

// TestLies: what a handler can tell from the report, and what it cannot.
func TestLies(t *testing.T) {
	for what, caught := range map[string]func(cmd events.Image, d events.LoadDone) bool{
		sim.LieDigest: func(i events.Image, d events.LoadDone) bool { return d.Digest != i.Digest && d.Chunks == i.Chunks },
		sim.LieCount:  func(i events.Image, d events.LoadDone) bool { return d.Digest == i.Digest && d.Chunks < i.Chunks },
		sim.LieSound: func(i events.Image, d events.LoadDone) bool { // not at all
			return d.Digest == i.Digest && d.Chunks == i.Chunks && d.Assurance == events.AssuranceReadback
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, []string{n}, faults(t, "lie="+what))
			b.images.StartData()
			b.load(n, b.netboot(n, "e1"), 1, events.VerifyReadback)
			done := b.done(n, 1)
			require.True(t, caught(b.images.Describe(), done), "%+v", done)
			_, _, right := b.damage(n)
			require.False(t, right, "the disk is not what the report claims")
		})
	}
}
