package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestRefOf(t *testing.T) {
	ref := events.NodeRef{Job: "j", Node: "n1-1", Attempt: 2, Boot: "b"}
	for _, d := range []events.Data{
		events.RebootRequested{NodeRef: ref}, events.PxeUp{NodeRef: ref}, events.LoadStarted{NodeRef: ref}, events.LoadDone{NodeRef: ref},
		events.LoadFailed{NodeRef: ref}, events.SaveStarted{NodeRef: ref}, events.SaveDone{NodeRef: ref}, events.SaveFailed{NodeRef: ref},
		events.ShutdownRequested{NodeRef: ref}, events.ShutdownDone{NodeRef: ref}, events.RebootDone{NodeRef: ref}, events.NodeFailed{NodeRef: ref},
		events.Up{NodeRef: ref}, events.Leaving{NodeRef: ref}, events.Progress{NodeRef: ref}, events.SaveProgress{NodeRef: ref},
		events.BootStage{NodeRef: ref}, events.CredentialMisused{NodeRef: ref},
	} {
		got, ok := events.RefOf(d)
		require.True(t, ok, d.Kind())
		require.Equal(t, ref, got, d.Kind())
	}
	for _, d := range []events.Data{events.JobAccepted{}, events.JobFinished{}, events.Leased{}, events.ImageServed{}, events.LoadRequest{}} {
		_, ok := events.RefOf(d)
		require.False(t, ok, d.Kind())
	}
}
