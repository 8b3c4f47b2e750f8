package main

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/internal/golden"
)

func TestPrintMembers(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	members := []events.JobNode{
		{Node: "n1-1", State: "done", Attempt: 1, Since: at, Result: &events.NodeResult{OK: true, Assurance: events.AssuranceReadback}},
		{Node: "n1-2", State: "loading", Attempt: 2, Since: at.Add(time.Minute), Alarms: 2, Alarm: "the credential of n1-2 was asked for from 10.0.0.66, which is not its address"},
		{Node: "n1-3", State: "failed", Attempt: 2, Since: at, Result: &events.NodeResult{
			Class: events.ClassVerify, Error: "the disk differs from what was written in bytes 1048576 to 1114111 of /dev/sda, which has 480103981056 bytes",
			Hint: "do not trust this disk; run: omf load 'n1-3' wireless-2.6.ndz --verify readback",
		}},
		{Node: "n1-4", State: "pending"},
	}
	var b bytes.Buffer
	for _, width := range []int{0, 110, 80} {
		fmt.Fprintf(&b, "== %d\n", width)
		require.NoError(t, printMembers(&b, members, width))
	}
	golden.Equal(t, "members.txt", b.String())
}
