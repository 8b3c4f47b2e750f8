package handler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestLastBootStageIsReported: what the boot service told last of a node that
// never comes up is in its result.
func TestLastBootStageIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	clock := w.leaps()
	w.start("h1", forever)
	w.nodes["n1-1"].deaf = 99
	id := w.load(events.LoadRequest{Nodes: "all"})
	for attempt := 1; attempt <= 2; attempt++ {
		w.until("the reboot", func(log []bus.Message) bool {
			return strings.Count(course(of(log, id, "n1-1")), string(events.KindRebootRequested)) == attempt
		})
		stage := events.BootStage{
			NodeRef: events.NodeRef{Job: id, Node: "n1-1", Attempt: attempt}, Stage: events.StageKernel,
			Time: time.Date(2026, 3, 1, 12, attempt, 0, 0, time.UTC), MAC: "52:54:00:00:01:01",
		}
		ev, err := events.New(events.Meta{ID: string(rune('a' + attempt)), Source: "/omf/default/netboot/boot", Time: stage.Time}, stage)
		require.NoError(t, err)
		_, err = w.conn.Publish(t.Context(), events.BootSubject(tb, "n1-1"), ev)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return w.nodes["n1-1"].count(func(n *node) int { return n.cycles }) == attempt }, bustest.Patience, time.Millisecond)
		clock.leap(2 * time.Hour)
	}
	r := w.finished(id).Results[0]
	require.Equal(t, events.ClassCheckin, r.Class)
	require.Contains(t, r.Error, "the node fetched its kernel at 2026-03-01T12:02:00Z and was not heard of again")
	require.Contains(t, r.Hint, "HTTP port")
}
