package display

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestAfterwards(t *testing.T) {
	grown := &events.Grown{Partition: 2, Before: 64 << 20, After: 271 << 20, Filesystem: "ext4", FilesystemGrown: true}
	require.Empty(t, Afterwards(nil, false))
	require.Equal(t, "personalised", Afterwards(nil, true))
	require.Equal(t, "partition 2 grown from 64.0 MiB to 271.0 MiB, personalised", Afterwards(grown, true))
	require.Equal(t, "partition 1 grown from 1.0 MiB to 2.0 MiB but not its filesystem", Afterwards(&events.Grown{Partition: 1, Before: 1 << 20, After: 2 << 20}, false))
	require.Equal(t, "partition 1 as large as it was (1.0 MiB)", Afterwards(&events.Grown{Partition: 1, Before: 1 << 20, After: 1 << 20}, false))

	j := NewJob("j")
	results := []events.NodeResult{{Node: "a", OK: true, Grown: grown}, {Node: "b", OK: true}, {Node: "c", OK: true, Grown: grown}}
	for i := range 6 {
		results = append(results, events.NodeResult{Node: "d", OK: true, Grown: &events.Grown{Partition: 1, Before: 1 << 20, After: int64(2+i) << 20, FilesystemGrown: true}})
	}
	j.Apply(events.JobFinished{Outcome: events.OutcomeOK, OK: len(results), Results: results})
	var b strings.Builder
	require.NoError(t, Summary(&b, j, 0))
	require.Contains(t, b.String(), "\n2 nodes: partition 2 grown from 64.0 MiB to 271.0 MiB\n1 node: partition 1 grown from 1.0 MiB to 2.0 MiB\n")
	require.True(t, strings.HasSuffix(b.String(), "\nand 3 more kinds: omf job show\n"), b.String())
	require.Contains(t, nodeDetail(events.LoadDone{Assurance: events.AssuranceWritten, Grown: grown}), "written, partition 2 grown")
}
