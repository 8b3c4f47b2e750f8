package job

import (
	"time"

	"loadnode/events"
)

// What is something to be done outside.
type What string

// What a job may want done.
const (
	DoPlan    What = "plan"    // resolve nodes, check the image, lease → Planned or Refuse
	DoReboot  What = "reboot"  // node into its imaging system; → NotBooted
	DoServe   What = "serve"   // a session for the image → Served or NotServed
	DoLoad    What = "load"    // tell the agent; → NotLoaded
	DoSave    What = "save"    // a place for the image, then tell the agent; → NoPlace, Placed or NotLoaded
	DoProbe   What = "probe"   // watch over the agent of an attempt, as long as it is asked for (Vigil); → Lost
	DoLeave   What = "leave"   // shut down or reboot into the disk → Left or NotLeft
	DoStop    What = "stop"    // end what a node does for a cancelled job → Stopped
	DoRelease What = "release" // session or places, and nodes → Freed
)

// Steps in the ids of effects that facts carry.
const (
	stepReboot = "reboot"
	stepLeave  = "leave"
)

// Effect is something that the state asks for. The same state asks for the
// same effects; one that is no longer asked for is to be given up. Each is
// harmless to repeat (docs/architecture.md).
type Effect struct {
	ID       string // events.EffectID, except for effects of the whole job
	What     What
	Node     string
	Attempt  int
	Leave    int    // Node.Leaves, for DoLeave
	Boot     string // for DoReboot the boot before, if known; otherwise the current one
	Hard     bool
	Step     Step      // of the node
	Deadline time.Time // after which it is no longer wanted; zero for none
}

// Outstanding derives the effects that a state asks for, in the order of the
// plan.
func Outstanding(s State) []Effect {
	job := func(w What, deadline time.Time) Effect {
		return Effect{ID: events.EffectID(s.Job, "", string(w), 0), What: w, Deadline: deadline}
	}
	switch {
	case s.Phase == Requested:
		return []Effect{job(DoPlan, s.Expires)}
	case s.Phase != Accepted && s.Phase != Cancelling || s.Plan == nil:
		return nil
	case s.settled():
		return []Effect{job(DoRelease, time.Time{})}
	}
	var out []Effect
	serve := false
	for _, n := range s.nodes {
		if e, ok := nodeEffect(s, n); ok {
			out = append(out, e)
			if e.What == DoLoad || e.What == DoSave {
				out = append(out, e.of(s.Job, DoProbe, e.Attempt))
			}
		}
		serve = serve || n.Step == Up && !n.doomed()
	}
	if serve && s.Served == nil && s.Phase == Accepted && !s.Saves() {
		out = append(out, job(DoServe, s.Plan.Deadline))
	}
	return out
}

func nodeEffect(s State, n *Node) (Effect, bool) {
	if n.Ended() || n.doomed() {
		return Effect{}, false
	}
	e := Effect{Node: n.Name, Attempt: n.Attempt, Boot: n.Boot, Hard: n.Hard, Step: n.Step, Deadline: n.Deadline}
	number := n.Attempt
	switch {
	case n.Step == Leaving:
		e.What, e.Leave, number = DoLeave, n.Leaves, n.Leaves
	case s.Phase == Cancelling && !n.delivered() && n.Step != Pending:
		e.What, e.Deadline = DoStop, until(s.CancelAt, s.Plan.Budgets.Leave)
	case n.Step == Rebooting:
		e.What, e.Boot = DoReboot, n.PrevBoot
	case n.Step == Up && s.Saves():
		e.What = DoSave
	case n.Step == Up && s.Served != nil:
		e.What = DoLoad
	case n.Step == Loading || n.Step == Saving:
		e.What = DoProbe
	default:
		return Effect{}, false
	}
	return e.of(s.Job, e.What, number), true
}

// of makes the effect one of another kind.
func (e Effect) of(job string, w What, number int) Effect {
	e.What, e.ID = w, events.EffectID(job, e.Node, string(w), number)
	return e
}

// NextDeadline is the earliest time at which the state changes by itself; ok
// is false when no time is awaited.
func NextDeadline(s State) (t time.Time, ok bool) {
	first := func(d time.Time) {
		if !d.IsZero() && (!ok || d.Before(t)) {
			t, ok = d, true
		}
	}
	switch {
	case s.Phase == Requested:
		first(s.Expires)
	case s.Phase != Accepted && s.Phase != Cancelling || s.Plan == nil:
	default:
		for _, n := range s.nodes {
			if n.Ended() {
				continue
			}
			if n.delivered() || s.Phase == Accepted {
				first(n.Deadline)
			}
			if s.Phase == Cancelling && !n.delivered() {
				first(until(s.CancelAt, s.Plan.Budgets.Leave))
			}
			if s.Phase == Accepted && !n.delivered() {
				first(s.Plan.Deadline)
			}
		}
	}
	return t, ok
}
