package job_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

// saved is what the image service says of the image of a save.
var saved = events.Image{Name: "saved.ndz", Digest: "d9", Size: 5 << 20, Chunks: 5, DiskBytes: 100 << 20, DataBytes: 20 << 20, SectorSize: 512, Format: "ndz"}

func placeStored() events.Place {
	i := saved
	return events.Place{Image: saved.Name, State: events.PlaceStored, Stored: &i}
}

func savedBy(ref events.NodeRef) events.SaveDone {
	return events.SaveDone{NodeRef: ref, Image: events.Image{Name: saved.Name, Digest: saved.Digest}, DiskBytes: 100 << 20, BytesRead: 30 << 20, BytesSent: saved.Size}
}

func saveFailed(ref events.NodeRef, class events.Class, again bool) events.SaveFailed {
	return events.SaveFailed(failed(ref, class, again))
}

// savedReport is save.done with what the image service says of the place.
func savedReport(d events.SaveDone, p events.Place) job.Report {
	r := report("n1-1", d)
	r.Place = &p
	return r
}

// saveCourse is a save up to job.accepted and the reboot.
func saveCourse(t testingT, change func(*events.SaveRequest, *events.JobAccepted)) *course {
	t.Helper()
	c := newCourse(t)
	r := events.SaveRequest{Node: "[1,1]", Image: saved.Name}
	var plan events.JobAccepted
	if change != nil {
		change(&r, &plan)
	}
	c.must(job.Request{Job: jobID, Save: &r, Requester: "tester", Expires: start.Add(2 * time.Minute)}, "job.requested")
	require.Equal(t, []string{"plan "}, c.effects())
	p := policy()
	p.SaveBytes = 100 << 30
	plan, e := p.PlanSave(jobID, job.SaveWish{Request: r, Node: nodes(1)[0], Image: saved.Name, Now: c.now, Requester: "tester"})
	require.Nil(t, e)
	if change != nil {
		change(&r, &plan)
	}
	c.must(job.Planned{Plan: plan}, "job.accepted", "reboot.requested n1-1")
	return c
}

func saving(t testingT, change func(*events.SaveRequest, *events.JobAccepted)) *course {
	t.Helper()
	c := saveCourse(t, change)
	c.must(up("n1-1", "b1"), "pxe.up n1-1")
	require.Equal(t, []string{"save n1-1", "probe n1-1"}, c.effects())
	c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1"), Disk: events.Disk{Path: "/dev/sda", Size: 10 << 30}}), "save.started n1-1")
	require.Equal(t, job.Saving, c.node("n1-1").Step)
	require.Equal(t, []string{"probe n1-1"}, c.effects())
	return c
}

func TestSave(t *testing.T) {
	c := saving(t, nil)
	require.True(t, c.s.Saves())
	require.Equal(t, saved.Name, c.s.Image())
	require.Equal(t, events.Image{Name: saved.Name}, c.s.Plan.Image, "nothing more is known of it")
	c.must(savedReport(savedBy(c.ref("n1-1")), placeStored()), "save.done n1-1", "shutdown.requested n1-1")
	require.Equal(t, saved, c.node("n1-1").Save.Image, "the image is what the image service says")
	c.must(report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbHalt}), "shutdown.done n1-1")
	r := c.end()
	require.Equal(t, events.OutcomeOK, r.Outcome)
	require.Equal(t, int64(30<<20), r.Results[0].Bytes)
	require.Empty(t, r.Results[0].Assurance)
	require.Equal(t, jobID+":n1-1:save.done:1", idOf(c, "save.done n1-1"))
	require.Equal(t, "r-n1-1-save.done", causeOf(c, "save.done n1-1"))

	for then, facts := range map[events.Then][]string{
		events.ThenStay:   {"save.done n1-1"},
		events.ThenReboot: {"save.done n1-1", "shutdown.requested n1-1"},
	} {
		c = saving(t, func(r *events.SaveRequest, _ *events.JobAccepted) { r.Then = then })
		c.must(savedReport(savedBy(c.ref("n1-1")), placeStored()), facts...)
		if then == events.ThenReboot {
			c.must(report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbReboot}), "reboot.done n1-1")
		}
		require.Equal(t, events.OutcomeOK, c.end().Outcome)
	}
}

func TestSaveDryRun(t *testing.T) {
	c := newCourse(t)
	r := events.SaveRequest{Node: "[1,1]", DryRun: true}
	c.must(job.Request{Job: jobID, Save: &r, Expires: start.Add(time.Minute)}, "job.requested")
	plan, e := policy().PlanSave(jobID, job.SaveWish{Request: r, Node: nodes(1)[0], Image: saved.Name, Now: c.now})
	require.Nil(t, e)
	c.must(job.Planned{Plan: plan}, "job.accepted", "job.finished")
	require.Equal(t, events.OutcomePlanned, c.s.Result.Outcome)
}

// The time of a save is that of the largest disk until the agent says how
// large its disk is, and then that disk's share.
func TestSaveDeadlines(t *testing.T) {
	deadline := func(disk int64) time.Duration {
		c := saveCourse(t, nil)
		c.must(up("n1-1", "b1"), "pxe.up n1-1")
		c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1"), Disk: events.Disk{Size: disk}}), "save.started n1-1")
		return c.node("n1-1").Deadline.Sub(c.now)
	}
	p := policy()
	p.SaveBytes = 100 << 30
	plan, e := p.PlanSave(jobID, job.SaveWish{Request: events.SaveRequest{Node: "n1-1"}, Node: nodes(1)[0], Now: start})
	require.Nil(t, e)
	most, join := time.Duration(plan.Budgets.Load), time.Duration(plan.Budgets.Join)
	// 100 GiB at 50 MB/s, and as much again at 90 Mbit/s, three times.
	require.InDelta(t, 3*(107374.18/50+107374.18*8/90), most.Seconds(), 11)
	require.Equal(t, most, deadline(100<<30))
	require.Equal(t, most, deadline(1<<50), "no disk gets more")
	require.Equal(t, most, deadline(0), "an agent that does not say gets the most")
	require.Equal(t, most, deadline(-1))
	require.Equal(t, most/10+join, deadline(10<<30))
	require.Less(t, plan.Deadline.Sub(start), 2*most, "three attempts share the time of one")
	require.Greater(t, plan.Deadline.Sub(start), most)
}

func TestSaveRetries(t *testing.T) {
	c := saving(t, nil)
	old := c.ref("n1-1")
	c.must(report("n1-1", saveFailed(old, events.ClassStore, true)), "save.failed n1-1")
	require.Equal(t, 2, c.node("n1-1").Attempt)
	require.Equal(t, []string{"save n1-1", "probe n1-1"}, c.effects(), "on the same boot")
	c.refused(savedReport(savedBy(old), placeStored()), job.ReasonAttempt)
	c.refused(report("n1-1", saveFailed(old, events.ClassStore, true)), job.ReasonAttempt)
	// The next one begins and is forgotten, the third takes another boot.
	c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1")}), "save.started n1-1")
	c.must(job.Lost{Node: "n1-1", Attempt: 2, Gone: true, Message: "the agent vanished"}, "save.failed n1-1", "reboot.requested n1-1")
	c.must(up("n1-1", "b2"), "pxe.up n1-1")
	c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1")}), "save.started n1-1")
	early := savedReport(savedBy(c.ref("n1-1")), placeStored())
	c.must(early, "save.done n1-1", "shutdown.requested n1-1")
	require.Equal(t, 3, c.node("n1-1").Attempt)

	c = saving(t, nil)
	for range 2 {
		c.must(report("n1-1", saveFailed(c.ref("n1-1"), events.ClassStore, true)), "save.failed n1-1")
	}
	c.must(report("n1-1", saveFailed(c.ref("n1-1"), events.ClassStore, true)), "save.failed n1-1", "node.failed n1-1")
	require.Equal(t, 3, c.end().Results[0].Attempts)
}

// A machine that restarts by itself saves once more, and one whose save.done
// overtook its save.started is not held up.
func TestSaveCourses(t *testing.T) {
	c := saving(t, nil)
	again := up("n1-1", "b2")
	again.Confirmed = true
	c.must(again, "save.failed n1-1", "pxe.up n1-1")
	early := savedReport(savedBy(c.ref("n1-1")), placeStored())
	c.refused(early, job.ReasonEarly)
	early.Overtaken = true
	c.must(early, "save.done n1-1", "shutdown.requested n1-1")
	c.refused(early, job.ReasonRepeated)
	c.refused(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1")}), job.ReasonRepeated)
	c.refused(report("n1-1", saveFailed(c.ref("n1-1"), events.ClassStore, false)), job.ReasonStep)
	c.tick("shutdown.requested n1-1")
	c.tick("node.failed n1-1")
	f := c.lastFailure()
	require.Contains(t, f.Message, "its image is stored")
	require.Contains(t, f.Evidence.Text, saved.Digest)
	require.Contains(t, f.Hint, "need not be saved again; switch the machine off by hand")
}

// No node can claim a save that did not happen.
func TestSaveClaims(t *testing.T) {
	other := placeStored()
	other.Stored.Digest = "d8"
	broken := events.Place{State: events.PlaceFailed, Message: "the stream ended after 7 bytes"}
	for _, tt := range []struct {
		name, text string
		place      events.Place
		digest     string
		legacy     bool
		again      bool // another attempt follows
		good       bool
	}{
		{"nothing came", "has got nothing", events.Place{State: events.PlaceOpen}, "d9", false, false, false},
		{"no such place", "has got nothing", events.Place{}, "d9", false, false, false},
		{"stored, and no word of what", "has got nothing", events.Place{State: events.PlaceStored}, "d9", false, false, false},
		{"another digest", `digest "d9", the image service has d8 under the name saved.ndz`, other, "d9", false, false, false},
		{"no digest", `digest ""`, placeStored(), "", false, false, false},
		{"broken", "ended after 7 bytes", broken, "d9", false, true, false},
		{"broken, and netcat does not know", "ended after 7 bytes", broken, "", true, true, false},
		{"legacy agents know no digest", "", placeStored(), "", true, false, true},
		{"but cannot have another", `digest "d8"`, placeStored(), "d8", true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := saving(t, func(_ *events.SaveRequest, p *events.JobAccepted) {
				if tt.legacy && len(p.Nodes) > 0 {
					p.Nodes[0].Agent = "legacy"
				}
			})
			d := savedBy(c.ref("n1-1"))
			d.Image.Digest = tt.digest
			c.refused(report("n1-1", d), job.ReasonUnconfirmed)
			c.refused(savedReport(d, events.Place{State: events.PlaceReceiving}), job.ReasonUnconfirmed)
			switch r := savedReport(d, tt.place); {
			case tt.good:
				c.must(r, "save.done n1-1", "shutdown.requested n1-1")
				c.must(report("n1-1", events.Leaving{NodeRef: c.ref("n1-1"), How: events.VerbHalt}), "shutdown.done n1-1")
				require.Equal(t, events.AssuranceUnverified, c.end().Results[0].Assurance)
				return
			case tt.again:
				c.must(r, "save.failed n1-1")
			default:
				c.must(r, "save.failed n1-1", "node.failed n1-1")
				require.Equal(t, events.OutcomeFailed, c.end().Outcome)
			}
			require.Equal(t, events.ClassStore, c.node("n1-1").Fault.Class)
			require.Contains(t, c.node("n1-1").Fault.Message, tt.text)
		})
	}
}

// What the image service has counts, even if the agent that sent it is gone.
func TestSavePlaced(t *testing.T) {
	lost := func() *course {
		c := saving(t, nil)
		c.must(job.Lost{Node: "n1-1", Attempt: 1, Message: "idle"}, "save.failed n1-1")
		return c
	}
	c := lost()
	c.refused(job.Placed{Node: "n1-1", Attempt: 1, Place: placeStored()}, job.ReasonAttempt)
	c.refused(job.Placed{Node: "n1-1", Attempt: 2, Place: events.Place{State: events.PlaceOpen}}, job.ReasonStep)
	c.must(job.Placed{Node: "n1-1", Attempt: 2, Place: placeStored()}, "save.done n1-1", "shutdown.requested n1-1")
	require.Equal(t, saved, c.node("n1-1").Save.Image)
	c = lost()
	c.must(job.Placed{Node: "n1-1", Attempt: 2, Place: events.Place{State: events.PlaceFailed, Message: "cut"}}, "save.failed n1-1")
	require.Equal(t, 3, c.node("n1-1").Attempt)
	require.Contains(t, c.node("n1-1").Fault.Message, "cut")
}

func TestSaveFailureClasses(t *testing.T) {
	again := "omf save 'n1-1' saved.ndz"
	tests := []struct {
		class      events.Class
		run        func(*course)
		text, hint string
	}{
		{events.ClassCheckin, func(c *course) { c.tick("reboot.requested n1-1"); c.tick("node.failed n1-1") }, "after 2 reboots", again},
		{events.ClassPower, func(c *course) {
			c.must(job.NotBooted{Node: "n1-1", Attempt: 1, Message: "no route"}, "node.failed n1-1")
		}, "no route", again},
		{events.ClassImage, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(job.NoPlace{Node: "n1-1", Attempt: 1, Error: events.Error{Code: events.CodeConflict, Message: "saved.ndz is there"}}, "save.failed n1-1", "node.failed n1-1")
		}, "saved.ndz is there", "omf images ls"},
		{events.ClassStore, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.refused(job.NoPlace{Node: "n1-1", Attempt: 2}, job.ReasonAttempt)
			c.must(job.NoPlace{Node: "n1-1", Attempt: 1, Error: events.Error{Code: events.CodeFailed, Message: "no space"}}, "save.failed n1-1", "node.failed n1-1")
		}, "no space", again},
		{events.ClassRefused, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(job.NotLoaded{Node: "n1-1", Attempt: 1, Error: events.Error{Code: events.CodeRefused, Message: "/dev/sda is mounted"}}, "save.failed n1-1", "node.failed n1-1")
		}, "mounted", "--disk SELECTOR"},
		{events.ClassRefused, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(job.NotLoaded{Node: "n1-1", Attempt: 1, Error: events.Error{Code: events.CodeUnsupported, Message: "this agent cannot save"}}, "save.failed n1-1", "node.failed n1-1")
		}, "cannot save", "with omf-agent"},
		{events.ClassTimeout, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.tick("save.failed n1-1", "reboot.requested n1-1")
			c.must(up("n1-1", "b2"), "pxe.up n1-1")
			c.tick("save.failed n1-1", "node.failed n1-1")
		}, "told to save and did not begin", "omf job show " + jobID},
		{events.ClassTimeout, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1"), Disk: events.Disk{Size: 10 << 30}}), "save.started n1-1")
			c.tick("save.failed n1-1", "reboot.requested n1-1")
			c.must(job.NotBooted{Node: "n1-1", Attempt: 2, Message: "x"}, "node.failed n1-1")
			require.Contains(c.t, factOf(c, "save.failed n1-1").Data.(events.SaveFailed).Message, "nothing came of it within")
		}, "", ""},
		{events.ClassRead, reporting(events.ClassRead), "it broke", "SMART"},
		{events.ClassStore, reporting("whim"), `class "whim": it broke`, "image service"},
		{events.ClassStore, reporting(events.ClassWrite), `class "write"`, again},
		{events.ClassImage, reporting(events.ClassImage), "it broke", "another name"},
		{events.ClassCancelled, func(c *course) {
			c.must(up("n1-1", "b1"), "pxe.up n1-1")
			c.must(report("n1-1", events.SaveStarted{NodeRef: c.ref("n1-1")}), "save.started n1-1")
			c.must(job.Cancel{Reason: "enough"}, "job.cancelled")
			require.Equal(c.t, []string{"stop n1-1"}, c.effects())
			c.must(job.Stopped{Node: "n1-1"}, "node.failed n1-1")
		}, "enough", "its disk is as it was"},
	}
	for _, tt := range tests {
		t.Run(string(tt.class)+" "+tt.text, func(t *testing.T) {
			c := saveCourse(t, nil)
			tt.run(c)
			f := c.lastFailure()
			if tt.text != "" {
				require.Equal(t, tt.class, f.Class)
			}
			require.Contains(t, f.Message, tt.text)
			require.Contains(t, f.Hint, tt.hint)
			for _, m := range mention.FindAllStringSubmatch(f.Hint, -1) {
				require.Contains(t, commands, m[1], f.Hint)
			}
			require.NotEmpty(t, f.Evidence.LastEvent)
			require.NotEqual(t, events.OutcomeOK, c.end().Outcome)
		})
	}
}

// reporting has the agent report a failure that is not tried again.
func reporting(class events.Class) func(*course) {
	return func(c *course) {
		c.must(up("n1-1", "b1"), "pxe.up n1-1")
		again := class == events.ClassImage // which no agent gets for it
		c.must(report("n1-1", saveFailed(c.ref("n1-1"), class, again)), "save.failed n1-1", "node.failed n1-1")
	}
}

// Reports of the one kind make no facts in a job of the other, and neither do
// facts that somebody else wrote.
func TestSavesAndLoadsAreApart(t *testing.T) {
	c := saving(t, nil)
	for _, d := range []events.Data{events.LoadStarted{NodeRef: c.ref("n1-1")}, done(c.ref("n1-1")), failed(c.ref("n1-1"), events.ClassWrite, true)} {
		c.refused(report("n1-1", d), job.ReasonStep)
	}
	c.refused(served(), job.ReasonStep)
	c.refused(job.NotServed{}, job.ReasonStep)
	before := c.s.Ignored
	c.s = job.Apply(c.s, job.Fact{Node: "n1-1", Data: events.LoadDone{}})
	require.Equal(t, before+1, c.s.Ignored)

	c = loading(t, nil)
	for _, d := range []events.Data{events.SaveStarted{NodeRef: c.ref("n1-1")}, savedBy(c.ref("n1-1")), saveFailed(c.ref("n1-1"), events.ClassRead, true)} {
		c.refused(report("n1-1", d), job.ReasonStep)
	}
	c.s = job.Apply(c.s, job.Fact{Node: "n1-1", Data: events.SaveDone{}})
	require.Equal(t, 1, c.s.Ignored)
	require.Equal(t, job.Loading, c.node("n1-1").Step)
}

// A log from before there were saves has none of their fields.
func TestFoldOfOldLogs(t *testing.T) {
	c := loading(t, nil)
	c.must(report("n1-1", done(c.ref("n1-1"))), "load.done n1-1", "shutdown.requested n1-1")
	for _, f := range c.log {
		raw, err := json.Marshal(f.Data)
		require.NoError(t, err)
		require.NotContains(t, strings.ToLower(string(raw)), `"save`, "a load writes what it always wrote")
	}
	s := job.Fold(job.State{}, c.log...)
	require.False(t, s.Saves())
	require.Zero(t, s.Ignored)
	require.Equal(t, c.s, s)
}

func TestCheckSave(t *testing.T) {
	good := events.SaveRequest{Node: "[1,1]"}
	require.Nil(t, job.CheckSave(good))
	for name, change := range map[string]func(*events.SaveRequest){
		"nodes":        func(r *events.SaveRequest) { r.Node = " " },
		"then":         func(r *events.SaveRequest) { r.Then = "fly" },
		"level":        func(r *events.SaveRequest) { r.Level = 10 },
		"image":        func(r *events.SaveRequest) { r.Image = strings.Repeat("x", 129) },
		"disk":         func(r *events.SaveRequest) { r.Disk = strings.Repeat("x", 129) },
		"not negative": func(r *events.SaveRequest) { r.Timeout = -1 },
	} {
		r := good
		change(&r)
		e := job.CheckSave(r)
		require.NotNil(t, e, name)
		require.Equal(t, events.CodeBadRequest, e.Code)
		require.Contains(t, e.Message, name)
		_, e = policy().PlanSave(jobID, job.SaveWish{Request: r})
		require.NotNil(t, e, name)
	}
}
