package job_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

func TestNormalCourse(t *testing.T) {
	c := newCourse(t)
	c.must(job.Request{Job: jobID, Load: events.LoadRequest{Nodes: "all", Image: image.Name}, Requester: "tester", Expires: start.Add(time.Minute)}, "job.requested")
	require.Equal(t, []string{"plan "}, c.effects())
	plan, e := policy().Plan(jobID, job.Wish{Request: c.s.Request, Nodes: nodes(3), Image: image, Now: c.now})
	require.Nil(t, e)
	// A window of two: the third node waits.
	c.must(job.Planned{Plan: plan}, "job.accepted", "reboot.requested n1-1", "reboot.requested n1-2")
	require.Equal(t, []string{"reboot n1-1", "reboot n1-2"}, c.effects())

	c.must(up("n1-2", "b2"), "pxe.up n1-2", "reboot.requested n1-3")
	require.Equal(t, []string{"reboot n1-1", "reboot n1-3", "serve "}, c.effects())
	c.must(served(), "image.served")
	require.Equal(t, []string{"reboot n1-1", "load n1-2", "probe n1-2", "reboot n1-3"}, c.effects(), "no barrier: the node that is up loads")
	c.must(report("n1-2", events.LoadStarted{NodeRef: c.ref("n1-2"), Session: sess.ID}), "load.started n1-2")
	c.must(report("n1-2", done(c.ref("n1-2"))), "load.done n1-2", "shutdown.requested n1-2")
	require.Equal(t, []string{"reboot n1-1", "leave n1-2", "reboot n1-3"}, c.effects())
	c.must(report("n1-2", events.Leaving{NodeRef: c.ref("n1-2"), How: events.VerbHalt}), "shutdown.done n1-2")

	for _, n := range []string{"n1-1", "n1-3"} {
		c.must(up(n, "b-"+n), "pxe.up "+n)
		c.must(report(n, events.LoadStarted{NodeRef: c.ref(n)}), "load.started "+n)
		c.must(report(n, done(c.ref(n))), "load.done "+n, "shutdown.requested "+n)
		l := report(n, events.Leaving{NodeRef: c.ref(n), How: events.VerbHalt})
		l.Observable = true
		c.refused(l, job.ReasonRepeated)
		c.must(job.Left{Node: n, Leave: 1, Seen: "power"}, "shutdown.done "+n)
	}
	r := c.end()
	require.Equal(t, events.OutcomeOK, r.Outcome)
	require.Equal(t, 3, r.OK)
	require.Equal(t, 0, r.Failed)
	require.Equal(t, "n1-1", r.Results[0].Node)
	require.Equal(t, events.AssuranceWritten, r.Results[0].Assurance)

	var mine []string
	for _, f := range c.log {
		if f.Node == "n1-2" || f.Node == "" {
			mine = append(mine, string(f.Data.Kind()))
		}
	}
	require.Equal(t, "job.requested job.accepted reboot.requested pxe.up image.served load.started load.done shutdown.requested shutdown.done job.finished", strings.Join(mine, " "))
	require.Equal(t, "r-n1-2-up", causeOf(c, "pxe.up n1-2"))
	require.Equal(t, jobID+":n1-2:load.done:1", idOf(c, "load.done n1-2"))
}

func causeOf(c *course, want string) string { return factOf(c, want).Causation }
func idOf(c *course, want string) string    { return factOf(c, want).ID }

func factOf(c *course, want string) job.Fact {
	for _, f := range c.log {
		if label(f) == want {
			return f
		}
	}
	return job.Fact{}
}

func TestThen(t *testing.T) {
	t.Run("stay", func(t *testing.T) {
		c := loading(t, func(r *events.LoadRequest, _ *events.JobAccepted) { r.Then = events.ThenStay })
		c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1")
		require.Equal(t, events.OutcomeOK, c.end().Outcome)
	})
	t.Run("reboot", func(t *testing.T) {
		c := loading(t, func(r *events.LoadRequest, _ *events.JobAccepted) { r.Then = events.ThenReboot })
		c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
		c.refused(report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbHalt}), job.ReasonStep)
		l := report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbReboot})
		l.Observable = true // says nothing about a reboot
		c.must(l, "reboot.done n1-1")
		require.Equal(t, events.OutcomeOK, c.end().Outcome)
	})
}

func TestDryRun(t *testing.T) {
	c := accepted(t, 2, func(r *events.LoadRequest, _ *events.JobAccepted) { r.DryRun = true })
	require.Equal(t, []string{"job.requested", "job.accepted", "job.finished"}, []string{label(c.log[0]), label(c.log[1]), label(c.log[2])})
	require.Len(t, c.log, 3)
	require.Equal(t, events.OutcomePlanned, c.s.Result.Outcome)
	require.Empty(t, job.Outstanding(c.s))
}

func TestRequests(t *testing.T) {
	t.Run("twice", func(t *testing.T) {
		c := accepted(t, 1, nil)
		c.refused(job.Request{Job: jobID}, job.ReasonRepeated)
	})
	t.Run("rejected at once", func(t *testing.T) {
		c := newCourse(t)
		c.must(job.Request{Job: jobID, Raw: "{{{", Reject: &events.Error{Code: events.CodeBadRequest, Message: "no"}}, "job.requested", "job.rejected")
		require.True(t, c.s.Over())
		require.Equal(t, events.CodeBadRequest, c.s.Reject.Code)
	})
	t.Run("expires while it waits", func(t *testing.T) {
		c := newCourse(t)
		c.must(job.Request{Job: jobID, Expires: start.Add(time.Minute)}, "job.requested")
		c.must(job.Tick{})
		c.tick("job.rejected")
		require.Equal(t, events.CodeExpired, c.s.Reject.Code)
		require.NotEmpty(t, c.s.Reject.Hint)
	})
	t.Run("expired when taken", func(t *testing.T) {
		c := newCourse(t)
		c.must(job.Request{Job: jobID, Expires: start.Add(-time.Second)}, "job.requested", "job.rejected")
	})
	t.Run("refused", func(t *testing.T) {
		c := newCourse(t)
		c.must(job.Request{Job: jobID, Expires: start.Add(time.Minute)}, "job.requested")
		c.must(job.Refuse{Error: events.Error{Code: events.CodeLeased, Job: "other"}}, "job.rejected")
		require.Equal(t, "other", c.s.Reject.Job)
		c.refused(job.Planned{}, job.ReasonOver)
	})
	t.Run("cancelled before it was accepted", func(t *testing.T) {
		c := newCourse(t)
		c.must(job.Request{Job: jobID, Expires: start.Add(time.Minute)}, "job.requested")
		c.must(job.Cancel{Reason: "changed my mind"}, "job.cancelled", "job.rejected")
		require.Contains(t, c.s.Reject.Message, "changed my mind")
	})
}

func TestReportsRefused(t *testing.T) {
	c := loading(t, nil)
	ref := c.ref("n1-1")
	with := func(change func(*events.NodeRef)) events.NodeRef { r := ref; change(&r); return r }
	tests := []struct {
		name   string
		r      job.Report
		reason job.Reason
	}{
		{"wrong job", report("n1-1", done(with(func(r *events.NodeRef) { r.Job = "other" }))), job.ReasonJob},
		{"no job", report("n1-1", done(with(func(r *events.NodeRef) { r.Job = "" }))), job.ReasonJob},
		{"wrong attempt", report("n1-1", done(with(func(r *events.NodeRef) { r.Attempt = 2 }))), job.ReasonAttempt},
		{"wrong boot", report("n1-1", done(with(func(r *events.NodeRef) { r.Boot = "b0" }))), job.ReasonBoot},
		{"no boot", report("n1-1", done(with(func(r *events.NodeRef) { r.Boot = "" }))), job.ReasonBoot},
		{"not held", report("n9-9", done(with(func(r *events.NodeRef) { r.Node = "n9-9" }))), job.ReasonNotHeld},
		{"forged", report("n9-9", done(ref)), job.ReasonForged},
		{"not imaging", report("n1-1", events.Up{NodeRef: with(func(r *events.NodeRef) { r.Boot = "b5" })}), job.ReasonNotImaging},
		{"repeated", report("n1-1", events.LoadStarted{NodeRef: ref}), job.ReasonRepeated},
		{"not leaving", report("n1-1", events.Leaving{NodeRef: ref, How: events.VerbHalt}), job.ReasonStep},
		{"no report", report("n1-1", events.PxeUp{NodeRef: ref}), job.ReasonKind},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { c.refused(tt.r, tt.reason) })
	}
	c.must(report("n1-1", done(ref)), "load.done n1-1", "shutdown.requested n1-1")
	c.refused(report("n1-1", done(ref)), job.ReasonRepeated)
	c.refused(report("n1-1", failed(ref, events.ClassWrite, false)), job.ReasonStep)
}

// A report of a boot long ago, delivered once more after the reboot was
// requested, is not the answer to it unless the agent says so itself.
func TestStaleUp(t *testing.T) {
	c := accepted(t, 1, nil)
	stale := up("n1-1", "b0")
	stale.Stored = c.node("n1-1").Since.Add(-time.Second)
	c.refused(stale, job.ReasonUnconfirmed)
	require.Equal(t, []string{"reboot n1-1"}, c.effects())
	fresh := up("n1-1", "b1")
	fresh.Stored = c.node("n1-1").Since.Add(time.Second)
	c.must(fresh, "pxe.up n1-1")

	c = accepted(t, 1, nil)
	stale.Confirmed = true // the clock of the bus is behind the handler's
	c.must(stale, "pxe.up n1-1")
}

// What an agent that was stopped says is a cancellation if the job was
// cancelled, and the end of the agent otherwise.
func TestAgentStopped(t *testing.T) {
	c := loading(t, nil)
	c.must(job.Cancel{}, "job.cancelled")
	c.must(report("n1-1", failed(c.ref("n1-1"), events.ClassCancelled, true)), "load.failed n1-1", "node.failed n1-1")
	require.Equal(t, events.ClassCancelled, c.lastFailure().Class)

	c = loading(t, nil)
	c.must(report("n1-1", failed(c.ref("n1-1"), events.ClassCancelled, true)), "load.failed n1-1")
	require.Equal(t, events.ClassTimeout, c.node("n1-1").Fault.Class)
	require.Equal(t, job.Up, c.node("n1-1").Step)
}

// An agent that claims success for anything but the plan's image never gets
// it.
func TestLies(t *testing.T) {
	tests := []struct {
		name    string
		request func(*events.LoadRequest)
		lie     func(*events.LoadDone)
	}{
		{"another digest", nil, func(l *events.LoadDone) { l.Digest = "d2" }},
		{"no digest", nil, func(l *events.LoadDone) { l.Digest = "" }},
		{"fewer chunks", nil, func(l *events.LoadDone) { l.Chunks-- }},
		{"less disk", nil, func(l *events.LoadDone) { l.DiskBytes-- }},
		{"legacy word of a native agent", nil, func(l *events.LoadDone) { l.Digest, l.Assurance = "", events.AssuranceUnverified }},
		{"unverified", func(r *events.LoadRequest) { r.RequireVerified = true }, func(l *events.LoadDone) { l.Assurance = events.AssuranceUnverified }},
		{"invented assurance", func(r *events.LoadRequest) { r.RequireVerified = true }, func(l *events.LoadDone) { l.Assurance = "certain" }},
		{"not read back", func(r *events.LoadRequest) { r.Verify = events.VerifyReadback }, func(*events.LoadDone) {}},
		{"not resized", func(r *events.LoadRequest) { r.Resize = "max" }, func(*events.LoadDone) {}},
		{"not personalised", func(r *events.LoadRequest) { r.Personalise = &events.Personalise{ResetMachineID: true} }, func(*events.LoadDone) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := loading(t, func(r *events.LoadRequest, _ *events.JobAccepted) {
				if tt.request != nil {
					tt.request(r)
				}
			})
			l := done(c.ref("n1-1"))
			tt.lie(&l)
			c.must(report("n1-1", l), "load.failed n1-1", "node.failed n1-1")
			require.Equal(t, events.ClassVerify, c.lastFailure().Class)
			require.NotEqual(t, events.OutcomeOK, c.end().Outcome)
		})
	}
	legacy := func(require bool) *course {
		return loading(t, func(r *events.LoadRequest, p *events.JobAccepted) {
			r.RequireVerified = require
			if len(p.Nodes) > 0 {
				p.Nodes[0].Agent = "legacy"
			}
		})
	}
	c := legacy(false)
	l := events.LoadDone{NodeRef: c.ref("n1-1"), Assurance: events.AssuranceUnverified}
	c.must(report("n1-1", l), "load.done n1-1", "shutdown.requested n1-1")
	c = legacy(true)
	c.must(report("n1-1", l), "load.failed n1-1", "node.failed n1-1")
}

func TestOutcomes(t *testing.T) {
	run := func(t *testing.T, quorum string, good, bad int) events.JobFinished {
		c := accepted(t, good+bad, func(r *events.LoadRequest, p *events.JobAccepted) {
			r.Then, r.Require, p.Window = events.ThenStay, quorum, good+bad
			if len(p.Nodes) > 0 {
				q, e := job.Quorum(quorum, good+bad)
				require.Nil(t, e)
				p.Quorum = q
			}
		})
		for i, n := range c.s.Nodes() {
			_, err := c.give(up(n.Name, "b"))
			require.NoError(t, err)
			if i == 0 {
				c.must(served(), "image.served")
			}
			if i < good {
				early := report(n.Name, done(c.ref(n.Name)))
				c.refused(early, job.ReasonEarly)
				early.Overtaken = true
				c.must(early, "load.done "+n.Name)
			} else {
				c.must(report(n.Name, failed(c.ref(n.Name), events.ClassWrite, false)), "load.failed "+n.Name, "node.failed "+n.Name)
			}
		}
		return c.end()
	}
	for _, tt := range []struct {
		quorum    string
		good, bad int
		want      events.Outcome
	}{
		{"", 3, 0, events.OutcomeOK}, {"", 2, 1, events.OutcomePartial}, {"", 0, 2, events.OutcomeFailed},
		{"50%", 2, 2, events.OutcomeOK}, {"75%", 2, 2, events.OutcomeFailed}, {"1", 1, 3, events.OutcomeOK}, {"4", 3, 1, events.OutcomeFailed},
	} {
		require.Equal(t, tt.want, run(t, tt.quorum, tt.good, tt.bad).Outcome, "%+v", tt)
	}
	t.Run("timeout", func(t *testing.T) {
		c := accepted(t, 3, func(_ *events.LoadRequest, p *events.JobAccepted) { p.Deadline = start.Add(time.Second) })
		c.tick("node.failed n1-1", "node.failed n1-2", "node.failed n1-3")
		require.Equal(t, events.OutcomeTimeout, c.end().Outcome)
	})
	t.Run("cancelled", func(t *testing.T) {
		c := accepted(t, 4, nil)
		c.must(up("n1-1", "b1"), "pxe.up n1-1", "reboot.requested n1-3")
		c.must(served(), "image.served")
		c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1")}), "load.started n1-1")
		c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
		c.must(job.Cancel{}, "job.cancelled", "node.failed n1-4")
		c.refused(job.Cancel{}, job.ReasonRepeated)
		// A node whose disk is loaded keeps its result.
		require.Equal(t, []string{"leave n1-1", "stop n1-2", "stop n1-3"}, c.effects())
		c.must(report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbHalt}), "shutdown.done n1-1")
		c.must(job.Stopped{Node: "n1-2"}, "node.failed n1-2")
		c.tick("node.failed n1-3")
		r := c.end()
		require.Equal(t, events.OutcomeCancelled, r.Outcome)
		require.Equal(t, 1, r.OK)
		require.Equal(t, 3, r.Failed)
	})
}

// A handler that was away hears what was kept for it before deadlines count.
func TestAwake(t *testing.T) {
	c := loading(t, nil)
	c.now = c.node("n1-1").Deadline.Add(time.Hour)
	at := c.moment()
	at.Awake = c.now.Add(time.Second)
	facts, err := job.Decide(c.s, at, job.Tick{})
	require.NoError(t, err)
	require.Empty(t, facts)
	at.Now = at.Awake
	facts, err = job.Decide(c.s, at, job.Tick{})
	require.NoError(t, err)
	require.NotEmpty(t, facts)
}
