package job_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

// TestLastBootStage: a node that does not come up is reported with the last
// stage that the boot service saw of its current attempt.
func TestLastBootStage(t *testing.T) {
	at := start.Add(90 * time.Second)
	for stage, want := range map[string][2]string{
		events.StageArmed:  {"no DHCP request was seen from MAC 52:54:00:00:01:01", "boot from the network first"},
		events.StageDHCP:   {"fetched no loader", "UDP port 69"},
		events.StageTFTP:   {"did not ask for its script", "--boot-base"},
		events.StageScript: {"did not fetch the kernel", "kernel and initrd"},
		events.StageKernel: {"the node fetched its kernel at 2026-03-01T12:01:30Z and was not heard of again", "HTTP port"},
		events.StageInitrd: {"did not ask for its configuration", "network card"},
		events.StageConfig: {"its agent did not report", "--boot-bus"},
		"later":            {"the last that was seen of its boot is later", "console"},
	} {
		c := accepted(t, 1, nil)
		c.tick("reboot.requested n1-1")
		b := events.BootStage{NodeRef: events.NodeRef{Job: c.s.Job, Node: "n1-1", Attempt: 2}, Stage: stage, Time: at, MAC: "52:54:00:00:01:01"}
		c.boot = &b
		c.tick("node.failed n1-1")
		f := c.lastFailure()
		require.Equal(t, events.ClassCheckin, f.Class)
		require.Contains(t, f.Message, "after 2 reboots: ")
		require.Contains(t, f.Message, want[0])
		require.Contains(t, f.Evidence.Text, want[0])
		require.Contains(t, f.Hint, want[1])
		require.Contains(t, f.Hint, "omf load 'n1-1' baseline.ndz")
	}
	// What was seen of another attempt, or for another job, says nothing.
	for _, ref := range []events.NodeRef{{Job: jobID, Node: "n1-1", Attempt: 1}, {Job: "other", Node: "n1-1", Attempt: 2}} {
		c := accepted(t, 1, nil)
		c.tick("reboot.requested n1-1")
		c.boot = &events.BootStage{NodeRef: ref, Stage: events.StageKernel, Time: at}
		c.tick("node.failed n1-1")
		require.NotContains(t, c.lastFailure().Message, "kernel")
	}
}
