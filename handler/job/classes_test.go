package job_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

// commands are those of omf that hints may name: they exist.
var commands = []string{"load", "save", "images", "images ls", "images verify", "job show", "watch"}

// mention finds a command in a hint.
var mention = regexp.MustCompile(`\bomf ((?:images verify|images ls|job \w+|nodes \w+|\w+))`)

func TestFailureClasses(t *testing.T) {
	only := func(ps *events.JobAccepted) {
		ps.Budgets.BootAttempts, ps.Budgets.LoadAttempts, ps.Budgets.LeaveAttempts = 1, 1, 1
	}
	once := func(_ *events.LoadRequest, p *events.JobAccepted) { only(p) }
	tests := []struct {
		class events.Class
		run   func(t *testing.T) *course
		text  string // in the message
		hint  string
	}{
		{events.ClassPower, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.must(job.NotBooted{Node: "n1-1", Attempt: 1, Message: "exit status 7: no route"}, "node.failed n1-1")
			return c
		}, "exit status 7", "power driver (bus) by hand, then run: omf load 'n1-1' baseline.ndz"},
		{events.ClassCheckin, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.tick("reboot.requested n1-1")
			require.Equal(t, 2, c.node("n1-1").Attempt)
			c.seen["n1-1"] = job.Sighting{Boot: "b7", Time: start}
			c.tick("node.failed n1-1")
			require.Contains(t, c.lastFailure().Evidence.Text, "from its own disk (boot b7)")
			return c
		}, "after 2 reboots", "console"},
		{events.ClassImage, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(job.NotServed{Error: events.Error{Code: events.CodeDamaged, Message: "chunk 3 is damaged"}}, "node.failed n1-1")
			return c
		}, "chunk 3", "omf images verify baseline.ndz"},
		{events.ClassImage, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.tick("load.failed n1-1", "node.failed n1-1")
			return c
		}, "gave no session", "omf images verify"},
		{events.ClassImage, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			other := served()
			other.Session.Image.Digest = "d2"
			c.must(other, "node.failed n1-1")
			return c
		}, "serves digest d2", ""},
		{events.ClassRefused, func(t *testing.T) *course {
			c := accepted(t, 1, nil)
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(served(), "image.served")
			c.must(job.NotLoaded{Node: "n1-1", Attempt: 1, Error: events.Error{Code: events.CodeRefused, Message: "/dev/sda is mounted"}}, "load.failed n1-1", "node.failed n1-1")
			return c
		}, "mounted", "omf watch " + jobID + " -o jsonl"},
		{events.ClassRefused, func(t *testing.T) *course {
			c := loading(t, nil)
			c.must(report("n1-1", failed(c.ref("n1-1"), events.ClassRefused, true)), "load.failed n1-1", "node.failed n1-1")
			return c
		}, "it broke", ""},
		{events.ClassJoin, func(t *testing.T) *course { return reported(t, once, events.ClassJoin) }, "it broke", "omf images"},
		{events.ClassStalled, func(t *testing.T) *course { return reported(t, once, events.ClassStalled) }, "it broke", "IGMP"},
		{events.ClassReceive, func(t *testing.T) *course { return reported(t, once, events.ClassReceive) }, "it broke", "omf images verify"},
		{events.ClassReceive, func(t *testing.T) *course { return reported(t, once, "whim") }, `class "whim": it broke`, ""},
		{events.ClassWrite, func(t *testing.T) *course { return reported(t, once, events.ClassWrite) }, "it broke", "SMART"},
		{events.ClassVerify, func(t *testing.T) *course {
			c := loading(t, nil)
			c.must(report("n1-1", failed(c.ref("n1-1"), events.ClassVerify, true)), "load.failed n1-1", "node.failed n1-1")
			return c
		}, "it broke", "--verify readback"},
		{events.ClassTimeout, func(t *testing.T) *course {
			c := loading(t, once)
			c.tick("load.failed n1-1", "node.failed n1-1")
			return c
		}, "nothing came of it", "omf job show " + jobID},
		{events.ClassTimeout, func(t *testing.T) *course {
			c := accepted(t, 1, once)
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(served(), "image.served")
			c.tick("load.failed n1-1", "node.failed n1-1")
			return c
		}, "did not begin", ""},
		{events.ClassTimeout, func(t *testing.T) *course {
			c := loading(t, func(_ *events.LoadRequest, p *events.JobAccepted) { p.Deadline = start.Add(time.Second) })
			c.tick("node.failed n1-1")
			return c
		}, "deadline of the job", ""},
		{events.ClassTimeout, func(t *testing.T) *course {
			c := loading(t, nil)
			c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
			c.tick("shutdown.requested n1-1")
			require.True(t, c.node("n1-1").Hard)
			c.tick("node.failed n1-1")
			require.Contains(t, c.lastFailure().Evidence.Text, "the disk is good")
			return c
		}, "its disk is loaded", "switch the machine off by hand"},
		{events.ClassPower, func(t *testing.T) *course {
			c := loading(t, nil)
			c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
			c.must(job.NotLeft{Node: "n1-1", Leave: 1, Message: "the agent is gone"}, "shutdown.requested n1-1")
			c.refused(job.NotLeft{Node: "n1-1", Leave: 1}, job.ReasonStep)
			c.must(job.NotLeft{Node: "n1-1", Leave: 2, Message: "the controller is gone"}, "node.failed n1-1")
			return c
		}, "the controller is gone; its disk is loaded", ""},
		{events.ClassCancelled, func(t *testing.T) *course {
			c := loading(t, nil)
			c.must(job.Cancel{Reason: "enough"}, "job.cancelled")
			require.Equal(t, []string{"stop n1-1"}, c.effects())
			c.must(job.Stopped{Node: "n1-1"}, "node.failed n1-1")
			return c
		}, "enough", "partly written"},
	}
	for _, tt := range tests {
		t.Run(string(tt.class)+" "+tt.text, func(t *testing.T) {
			c := tt.run(t)
			f := c.lastFailure()
			require.Equal(t, tt.class, f.Class)
			require.Contains(t, f.Message, tt.text)
			require.Contains(t, f.Hint, tt.hint)
			require.NotEmpty(t, f.Hint)
			for _, m := range mention.FindAllStringSubmatch(f.Hint, -1) {
				require.Contains(t, commands, m[1], f.Hint)
			}
			require.NotEmpty(t, f.Evidence.LastEvent)
			r := c.end()
			require.Equal(t, 1, r.Failed)
			require.Equal(t, tt.class, r.Results[0].Class)
			require.NotEqual(t, events.OutcomeOK, r.Outcome)
		})
	}
}

func reported(t *testing.T, change func(*events.LoadRequest, *events.JobAccepted), class events.Class) *course {
	c := loading(t, change)
	c.must(report("n1-1", failed(c.ref("n1-1"), class, true)), "load.failed n1-1", "node.failed n1-1")
	require.Equal(t, int64(3), c.lastFailure().Evidence.Counters["retries"])
	return c
}

func TestRetries(t *testing.T) {
	t.Run("same boot when the agent reported", func(t *testing.T) {
		c := loading(t, nil)
		old := c.ref("n1-1")
		c.must(report("n1-1", failed(old, events.ClassStalled, true)), "load.failed n1-1")
		n := c.node("n1-1")
		require.Equal(t, job.Up, n.Step)
		require.Equal(t, 2, n.Attempt)
		require.Equal(t, "b1", n.Boot)
		require.Equal(t, []string{"load n1-1", "probe n1-1"}, c.effects())
		c.refused(report("n1-1", failed(old, events.ClassStalled, true)), job.ReasonAttempt)
		c.refused(report("n1-1", done(old)), job.ReasonAttempt)
		c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1")}), "load.started n1-1")
		c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
	})
	t.Run("a reboot when it is silent", func(t *testing.T) {
		c := loading(t, nil)
		c.tick("load.failed n1-1", "reboot.requested n1-1")
		n := c.node("n1-1")
		require.Equal(t, 2, n.Attempt)
		require.Equal(t, "b1", n.PrevBoot)
		require.True(t, n.Hard)
		c.refused(up("n1-1", "b1"), job.ReasonBoot)
		c.must(up("n1-1", "b2"), "pxe.up n1-1")
	})
	t.Run("a machine that restarts by itself", func(t *testing.T) {
		c := loading(t, nil)
		c.refused(up("n1-1", "b2"), job.ReasonUnconfirmed)
		u := up("n1-1", "b2")
		u.Confirmed = true
		c.must(u, "load.failed n1-1", "pxe.up n1-1")
		require.Equal(t, "b2", c.node("n1-1").Boot)
		require.Equal(t, 2, c.node("n1-1").Attempt)
	})
	t.Run("an agent that restarts on the same boot", func(t *testing.T) {
		c := loading(t, nil)
		c.refused(up("n1-1", "b1"), job.ReasonRepeated)
		c.must(job.Lost{Node: "n1-1", Attempt: 1, Message: "idle"}, "load.failed n1-1")
		require.Equal(t, []string{"load n1-1", "probe n1-1"}, c.effects())
	})
	t.Run("a reboot when the agent is gone", func(t *testing.T) {
		c := loading(t, nil)
		c.refused(job.Lost{Node: "n1-1", Attempt: 2, Gone: true}, job.ReasonAttempt)
		c.must(job.Lost{Node: "n1-1", Attempt: 1, Gone: true, Message: "the agent vanished", Evidence: "power off"}, "load.failed n1-1", "reboot.requested n1-1")
		require.Equal(t, "power off", c.node("n1-1").Fault.Evidence.Text)
		require.Equal(t, "b1", c.node("n1-1").PrevBoot)
		c.refused(job.Lost{Node: "n1-1", Attempt: 1, Gone: true}, job.ReasonAttempt)
		// Up and told to load, it may be lost as well; the boots are spent.
		c.must(up("n1-1", "b2"), "pxe.up n1-1")
		c.refused(job.Lost{Node: "n1-1", Attempt: 2}, job.ReasonStep)
		c.must(job.Lost{Node: "n1-1", Attempt: 2, Gone: true, Message: "the agent vanished"}, "load.failed n1-1", "node.failed n1-1")
		require.Equal(t, events.ClassTimeout, c.lastFailure().Class)
	})
	t.Run("a reboot out of its own disk", func(t *testing.T) {
		c := loading(t, nil)
		c.seen["n1-1"] = job.Sighting{Boot: "b7"}
		c.must(job.Lost{Node: "n1-1", Attempt: 1, Gone: true}, "load.failed n1-1", "reboot.requested n1-1")
		require.Equal(t, "b7", c.node("n1-1").PrevBoot, "the boot before the reboot is the one that was found")
	})
	t.Run("a reboot waits for the window", func(t *testing.T) {
		c := accepted(t, 3, nil)
		c.must(up("n1-1", "b1"), "pxe.up n1-1", "reboot.requested n1-3")
		c.must(served(), "image.served")
		c.now = c.node("n1-1").Deadline
		c.must(job.Tick{}, "load.failed n1-1")
		require.Equal(t, job.Pending, c.node("n1-1").Step)
		c.must(up("n1-2", "b2"), "pxe.up n1-2", "reboot.requested n1-1")
	})
}
