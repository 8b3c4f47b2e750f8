package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
	"loadnode/handler/job"
)

// universe is a course with simulated nodes whose reports may be lost,
// repeated and delivered in any order.
type universe struct {
	*course
	rt    *rapid.T
	boots int
	boot  map[string]string
	mail  []job.Report
	// places are what the image service has of each attempt of a save.
	places map[int]events.Place
}

// checked gives an input and holds the properties that every step has.
func (u *universe) checked(in job.Input) {
	_, _ = u.give(in)
	before := len(u.log)
	again, _ := u.give(in)
	require.Empty(u.rt, again, "the input %T repeated makes facts", in)
	require.Len(u.rt, u.log, before)
	u.invariants()
}

func (u *universe) invariants() {
	// Refolding gives the same state, at any point.
	require.Equal(u.rt, u.s, job.Fold(job.State{}, u.log...))
	if !u.s.Over() && u.s.Phase != job.Unknown {
		_, deadline := job.NextDeadline(u.s)
		require.True(u.rt, deadline || len(job.Outstanding(u.s)) > 0, "nothing will ever happen")
	}
	ids, ends := map[string]bool{}, map[string]int{}
	for _, f := range u.log {
		require.False(u.rt, ids[f.ID], "fact %s twice", f.ID)
		ids[f.ID] = true
		switch f.Data.(type) {
		case events.NodeFailed, events.ShutdownDone, events.RebootDone:
			ends[f.Node]++
		case events.JobFinished, events.JobRejected:
			ends[""]++
		}
	}
	for n, c := range ends {
		require.Equal(u.rt, 1, c, "ends of %q", n)
	}
}

// effect plays the outside world for one effect.
func (u *universe) effect(e job.Effect) {
	ref := events.NodeRef{Job: u.s.Job, Node: e.Node, Attempt: e.Attempt, Boot: u.boot[e.Node]}
	works := rapid.IntRange(0, 24).Draw(u.rt, "works") < 24 // rapid prefers small numbers
	id := fmt.Sprintf("r%d", len(u.mail))
	send := func(d events.Data) { u.mail = append(u.mail, job.Report{ID: id, Node: e.Node, Data: d}) }
	switch e.What {
	case job.DoPlan:
		if u.s.Saves() {
			plan, err := policy().PlanSave(u.s.Job, job.SaveWish{Request: *u.s.Save, Node: nodes(1)[0], Image: saved.Name, Now: u.now})
			require.Nil(u.rt, err)
			u.checked(job.Planned{Plan: plan})
			return
		}
		n := rapid.IntRange(1, 5).Draw(u.rt, "nodes")
		plan, err := policy().Plan(u.s.Job, job.Wish{Request: u.s.Request, Nodes: nodes(n), Image: image, Now: u.now})
		require.Nil(u.rt, err)
		u.checked(job.Planned{Plan: plan})
	case job.DoReboot:
		if !works {
			u.checked(job.NotBooted{Node: e.Node, Attempt: e.Attempt, Message: "no"})
			return
		}
		u.boots++
		u.boot[e.Node] = fmt.Sprintf("b%d", u.boots)
		send(events.Up{NodeRef: events.NodeRef{Node: e.Node, Boot: u.boot[e.Node]}, Imaging: true})
	case job.DoServe:
		if works {
			u.checked(served())
		} else {
			u.checked(job.NotServed{Error: events.Error{Code: events.CodeDamaged, Message: "bad"}})
		}
	case job.DoLoad:
		if e.Boot != u.boot[e.Node] {
			return
		}
		send(events.LoadStarted{NodeRef: ref})
		switch rapid.IntRange(0, 11).Draw(u.rt, "load") {
		case 10, 9:
			send(failed(ref, rapid.SampledFrom(events.Classes()).Draw(u.rt, "class"), rapid.Bool().Draw(u.rt, "retryable")))
		case 11:
			l := done(ref)
			l.Chunks--
			send(l)
		default:
			send(done(ref))
		}
	case job.DoSave:
		u.save(e, ref, works, send)
	case job.DoProbe:
		if !works {
			u.checked(job.Lost{Node: e.Node, Attempt: e.Attempt, Message: "idle", Gone: rapid.Bool().Draw(u.rt, "gone")})
		}
	case job.DoLeave:
		how := events.VerbHalt
		if u.s.Plan.Then == events.ThenReboot {
			how = events.VerbReboot
		}
		if works {
			send(events.Leaving{NodeRef: ref, How: how})
		} else {
			u.checked(job.NotLeft{Node: e.Node, Leave: e.Leave, Message: "no"})
		}
	case job.DoStop:
		u.checked(job.Stopped{Node: e.Node})
	case job.DoRelease:
		u.checked(job.Freed{})
	}
}

// save plays image service and agent for one attempt of a save.
func (u *universe) save(e job.Effect, ref events.NodeRef, works bool, send func(events.Data)) {
	if p := u.places[e.Attempt]; p.State == events.PlaceStored || p.State == events.PlaceFailed {
		u.checked(job.Placed{Node: e.Node, Attempt: e.Attempt, Place: p})
		return
	}
	if !works {
		code := rapid.SampledFrom([]events.Code{events.CodeConflict, events.CodeFailed}).Draw(u.rt, "code")
		u.checked(job.NoPlace{Node: e.Node, Attempt: e.Attempt, Error: events.Error{Code: code, Message: "no"}})
		return
	}
	u.places[e.Attempt] = events.Place{State: events.PlaceOpen}
	if e.Boot != u.boot[e.Node] {
		return
	}
	send(events.SaveStarted{NodeRef: ref, Disk: events.Disk{Size: rapid.Int64Range(0, 1<<40).Draw(u.rt, "disk")}})
	broken := events.Place{State: events.PlaceFailed, Message: "it broke"}
	switch rapid.IntRange(0, 11).Draw(u.rt, "save") {
	case 11: // a lie
		send(savedBy(ref))
	case 10: // netcat does not notice
		u.places[e.Attempt] = broken
		send(savedBy(ref))
	case 9, 8:
		u.places[e.Attempt] = broken
		send(saveFailed(ref, rapid.SampledFrom(events.Classes()).Draw(u.rt, "class"), rapid.Bool().Draw(u.rt, "retryable")))
	default:
		u.places[e.Attempt] = placeStored()
		send(savedBy(ref))
	}
}

func TestProperties(t *testing.T) {
	ended := map[string]int{}
	for range 5 { // of a hundred each
		rapid.Check(t, func(rt *rapid.T) { properties(rt, ended, nil) })
	}
	t.Logf("how the jobs ended: %v", ended)
	for _, o := range []events.Outcome{events.OutcomeOK, events.OutcomePartial, events.OutcomeFailed, events.OutcomeCancelled} {
		require.NotZero(t, ended[string(o)], "no random job ended %s: the property was not tried", o)
	}
}

func TestPropertiesOfSaves(t *testing.T) {
	ended := map[string]int{}
	for range 5 {
		rapid.Check(t, func(rt *rapid.T) {
			properties(rt, ended, &events.SaveRequest{Node: "n1-1", Then: rapid.SampledFrom([]events.Then{"", events.ThenReboot, events.ThenStay}).Draw(rt, "then of the save")})
		})
	}
	t.Logf("how the jobs ended: %v", ended)
	for _, o := range []events.Outcome{events.OutcomeOK, events.OutcomeFailed, events.OutcomeCancelled} {
		require.NotZero(t, ended[string(o)], "no random job ended %s: the property was not tried", o)
	}
}

func properties(rt *rapid.T, ended map[string]int, save *events.SaveRequest) {
	u := &universe{course: newCourse(rt), rt: rt, boot: map[string]string{}, places: map[int]events.Place{}}
	r := events.LoadRequest{
		Nodes: "all", Image: image.Name,
		Then:    rapid.SampledFrom([]events.Then{"", events.ThenReboot, events.ThenStay}).Draw(rt, "then"),
		Require: rapid.SampledFrom([]string{"", "50%", "1"}).Draw(rt, "require"),
	}
	if save != nil {
		r = events.LoadRequest{}
	}
	u.checked(job.Request{Job: jobID, Load: r, Save: save, Expires: u.now.Add(time.Minute)})
	for range rapid.IntRange(20, 150).Draw(rt, "steps") {
		if u.s.Over() {
			break
		}
		switch 39 - rapid.IntRange(0, 39).Draw(rt, "what") {
		case 0: // time passes, sometimes beyond the next deadline
			if u.s.Plan == nil && rapid.IntRange(0, 9).Draw(rt, "in vain") < 9 {
				continue
			}
			if at, ok := job.NextDeadline(u.s); ok {
				u.now = at.Add(time.Duration(rapid.IntRange(0, 2).Draw(rt, "late")) * time.Minute)
			}
			u.checked(job.Tick{})
		case 1:
			if rapid.IntRange(0, 9).Draw(rt, "cancel") == 9 {
				u.checked(job.Cancel{Reason: "why not"})
			}
		case 2: // a restart, in the middle of nothing
			u.s = job.Fold(job.State{}, u.log...)
			u.checked(job.Tick{})
		case 3: // a report nobody asked for
			ref := events.NodeRef{Job: jobID, Node: "n1-1", Attempt: rapid.IntRange(0, 3).Draw(rt, "attempt"), Boot: rapid.SampledFrom([]string{"", "b1", "bx"}).Draw(rt, "boot")}
			d := rapid.SampledFrom([]events.Data{done(ref), failed(ref, events.ClassStalled, true), events.LoadStarted{NodeRef: ref}, events.Leaving{NodeRef: ref}, events.Up{NodeRef: ref},
				savedBy(ref), saveFailed(ref, events.ClassStore, true), events.SaveStarted{NodeRef: ref}}).Draw(rt, "data")
			u.checked(job.Report{ID: "forged", Node: rapid.SampledFrom([]string{"n1-1", "n1-2", "n7"}).Draw(rt, "node"), Data: d})
		case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
			if es := job.Outstanding(u.s); len(es) > 0 {
				u.effect(rapid.SampledFrom(es).Draw(rt, "effect"))
			}
		default:
			if len(u.mail) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(u.mail)-1).Draw(rt, "mail")
			m := u.mail[i]
			fate := 9 - rapid.IntRange(0, 9).Draw(rt, "fate")
			if fate != 0 { // 0: lost
				m.Confirmed = fate > 7
				if d, ok := m.Data.(events.SaveDone); ok && fate > 1 { // 1: the image service does not answer
					p := u.places[d.Attempt]
					m.Place = &p
				}
				u.checked(m)
			}
			if fate > 2 { // 1, 2: delivered once more later
				u.mail = append(u.mail[:i], u.mail[i+1:]...)
			}
		}
	}
	// From wherever it is, the job ends by time and release alone.
	for i := 0; !u.s.Over(); i++ {
		require.Less(rt, i, 300, "the job does not end")
		if at, ok := job.NextDeadline(u.s); ok {
			if at.After(u.now) {
				u.now = at
			}
			u.checked(job.Tick{})
			continue
		}
		u.checked(job.Freed{})
	}
	ended[string(u.s.Phase)]++
	if u.s.Phase != job.Finished {
		return
	}
	res := u.s.Result
	ended[string(res.Outcome)]++
	require.Equal(rt, len(u.s.Plan.Nodes), res.OK+res.Failed)
	require.Len(rt, res.Results, len(u.s.Plan.Nodes))
	for i, r := range res.Results {
		require.Equal(rt, u.s.Plan.Nodes[i].Name, r.Node)
		if !r.OK {
			require.NotEmpty(rt, r.Class)
			require.NotEmpty(rt, r.Hint)
			continue
		}
		n, _ := u.s.Node(r.Node)
		if save != nil {
			kept := false
			for _, p := range u.places {
				kept = kept || p.State == events.PlaceStored
			}
			require.True(rt, kept, "the image service has no image")
			require.Equal(rt, saved, n.Save.Image)
			continue
		}
		require.Equal(rt, image.Digest, n.Load.Digest)
		require.Equal(rt, image.Chunks, n.Load.Chunks)
	}
}

// Whatever a log holds, folding it neither panics nor loses the terminal
// fact, and what does not fit is counted.
func TestFoldOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		u := newCourse(rt)
		all := events.Vocabulary()
		for range rapid.IntRange(0, 30).Draw(rt, "facts") {
			f := job.Fact{Time: u.now, Node: rapid.SampledFrom([]string{"", "n1-1", "n2"}).Draw(rt, "node"), Data: rapid.SampledFrom(all).Draw(rt, "data")}
			if _, ok := f.Data.(events.JobAccepted); ok {
				p, _ := policy().Plan(jobID, job.Wish{Request: events.LoadRequest{Nodes: "a", Image: "b"}, Nodes: nodes(2), Image: image, Now: u.now})
				if rapid.Bool().Draw(rt, "save") {
					p, _ = policy().PlanSave(jobID, job.SaveWish{Request: events.SaveRequest{Node: "a"}, Node: nodes(1)[0], Image: "b", Now: u.now})
				}
				f.Data = p
			}
			u.s = job.Apply(u.s, f)
			_, _ = job.Decide(u.s, u.moment(), job.Tick{})
			_ = job.Outstanding(u.s)
			_, _ = job.NextDeadline(u.s)
		}
	})
}
