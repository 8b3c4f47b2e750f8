package handler_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

// TestAfterTheLoad: what is asked for after the image reaches the agent, and what became of it is a fact.
func TestAfterTheLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all", Resize: "80%", Personalise: &events.Personalise{Hostname: "{node}"}})
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	told := false
	for _, m := range of(w.facts(), id) {
		if m.Address.Kind != events.KindLoadDone {
			continue
		}
		d, err := events.Decode(m.Event)
		require.NoError(t, err)
		done := d.(events.LoadDone)
		require.Equal(t, &events.Grown{Partition: 1, Before: 1, After: 2, Notes: []string{"80%"}}, done.Grown)
		require.True(t, done.Personalised)
		told = true
	}
	require.True(t, told)
}

// TestWeight: the weight of a job is that of its session.
func TestWeight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all", Weight: 7})
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	weights := map[events.Kind]int{}
	for _, m := range of(w.facts(), id) {
		switch m.Address.Kind {
		case events.KindJobAccepted:
			weights[m.Address.Kind] = data[events.JobAccepted](t, m).Weight
		case events.KindImageServed:
			weights[m.Address.Kind] = data[events.ImageServed](t, m).Session.Weight
		}
	}
	require.Equal(t, map[events.Kind]int{events.KindJobAccepted: 7, events.KindImageServed: 7}, weights)
}
