package events_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestSaveName(t *testing.T) {
	at := time.Date(2026, 11, 23, 15, 5, 59, 0, time.FixedZone("", 3600))
	require.Equal(t, "node-1-2-sb8-2026-11-23-14-05-59.ndz", events.SaveName("sb8", "n1-2", 1, 2, at))
	require.Equal(t, "node-omf.nicta.node1-my-bed-2026-11-23-14-05-59.ndz", events.SaveName("my/bed", "omf.nicta.node1", 0, 0, at))
}
