package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// TestLinesAboveLive: a line takes the place of the live view, which is drawn
// again below it.
func TestLinesAboveLive(t *testing.T) {
	var b bytes.Buffer
	s := &screen{out: &b, lines: &b, live: display.NewLive(&b, false), now: time.Now, began: time.Now()}
	j := display.NewJob("x")
	up := events.PxeUp{NodeRef: events.NodeRef{Job: "x", Node: "n1-1"}}
	j.Apply(up)
	require.NoError(t, s.draw(j))
	b.Reset()
	require.NoError(t, s.fact(bus.Message{Address: events.Address{Job: "x", Node: "n1-1"}}, up, nil))
	require.Regexp(t, `^\x1b\[2A\r\x1b\[J\S+  n1-1     pxe.up\n$`, b.String())
	b.Reset()
	require.NoError(t, s.draw(j))
	require.Regexp(t, `^n1-1 `, b.String(), "there is nothing to replace")

	b.Reset()
	s.lines = nil
	require.NoError(t, s.fact(bus.Message{}, up, nil))
	require.Empty(t, b.String(), "omf load draws and writes no lines")
}
