package job_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

func misused(c *course, attempt int) job.Report {
	return misusedBy(c, attempt, events.MisuseSecond)
}

func misusedBy(c *course, attempt int, reason string) job.Report {
	return report("n1-1", events.CredentialMisused{
		NodeRef: events.NodeRef{Job: jobID, Node: "n1-1", Attempt: attempt}, Reason: reason, Message: "asked for once more",
		Address: "10.0.0.66", MAC: "02:00:00:00:00:01", Expected: "10.0.0.1", Delivered: c.now, Time: c.now,
	})
}

// TestCredentialMisused: the attempt fails, the next begins with a reboot, and
// a report about an earlier boot, delivered again, does nothing.
func TestCredentialMisused(t *testing.T) {
	c := accepted(t, 1, nil)
	first := c.node("n1-1").Attempt
	c.must(misused(c, first), "credential.misused n1-1", "load.failed n1-1", "reboot.requested n1-1")
	require.Equal(t, job.Rebooting, c.node("n1-1").Step)
	c.refused(misused(c, first), job.ReasonAttempt)
	c.must(up("n1-1", "b2"), "pxe.up n1-1")
	c.must(served(), "image.served")
	c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1")}), "load.started n1-1")
	c.refused(misused(c, first), job.ReasonAttempt)
	// The budget of reboots is used up: the node fails with the reason.
	c.must(misused(c, c.node("n1-1").Armed), "credential.misused n1-1", "load.failed n1-1", "node.failed n1-1")
	require.Equal(t, 2, c.node("n1-1").Alarms)
	f := c.lastFailure()
	require.Equal(t, events.ClassCredential, f.Class)
	require.Equal(t, "asked for once more", f.Message)
	require.Contains(t, f.Evidence.Text, "asked from 10.0.0.66")
	require.Contains(t, f.Evidence.Text, "the node is at 10.0.0.1")
	require.Contains(t, f.Evidence.Text, c.now.UTC().Format(time.RFC3339))
	require.Contains(t, f.Hint, "omf load 'n1-1'")
}

// TestCredentialOfLoaded: whoever asks after the disk is loaded harms no job.
func TestCredentialOfLoaded(t *testing.T) {
	c := accepted(t, 1, nil)
	c.must(up("n1-1", "b1"), "pxe.up n1-1")
	c.must(served(), "image.served")
	c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1")}), "load.started n1-1")
	c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
	c.refused(misused(c, 1), job.ReasonStep)
}

// TestCredentialFromElsewhere: whoever asks from another address ends no
// attempt. The alarm is written down once for each boot.
func TestCredentialFromElsewhere(t *testing.T) {
	c := accepted(t, 1, nil)
	first := c.node("n1-1").Attempt
	c.must(misusedBy(c, first, events.MisuseAddress), "credential.misused n1-1")
	require.Equal(t, job.Rebooting, c.node("n1-1").Step)
	require.Equal(t, "10.0.0.66", c.node("n1-1").Alarm.Address)
	c.refused(misusedBy(c, first, events.MisuseAddress), job.ReasonRepeated)
	c.must(up("n1-1", "b1"), "pxe.up n1-1")
	c.refused(misusedBy(c, first, events.MisuseAddress), job.ReasonRepeated)
	// The harmless one does not hide the other.
	c.must(misused(c, first), "credential.misused n1-1", "load.failed n1-1", "reboot.requested n1-1")
	c.must(misusedBy(c, c.node("n1-1").Armed, events.MisuseAddress), "credential.misused n1-1")
	c.must(up("n1-1", "b2"), "pxe.up n1-1")
	c.must(served(), "image.served")
	c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1")}), "load.started n1-1")
	c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
	require.Equal(t, 3, c.node("n1-1").Alarms)
}
