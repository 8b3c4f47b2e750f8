package job

import (
	"time"

	"loadnode/events"
)

// Apply folds one fact into the state. Facts that it does not know, and facts
// that do not fit, change nothing but the count in Ignored.
func Apply(s State, f Fact) State {
	if next, ok := applyJob(s, f); ok {
		return next
	}
	s.Ignored++
	return s
}

// Fold applies facts in order.
func Fold(s State, facts ...Fact) State {
	for _, f := range facts {
		s = Apply(s, f)
	}
	return s
}

func applyJob(s State, f Fact) (State, bool) {
	switch d := f.Data.(type) {
	case events.JobRequested:
		if s.Phase != Unknown {
			return s, false
		}
		s.Job, s.Phase, s.Request, s.Save, s.Requester, s.Raw = d.Job, Requested, d.Request, d.Save, d.Requester, d.Raw
		s.Requested, s.Expires = f.Time, d.Expires
		return s, true
	case events.JobAccepted:
		if s.Phase != Requested {
			return s, false
		}
		return accept(s, f.Time, d), true
	case events.JobRejected:
		// A request that was cancelled before it was accepted is rejected.
		if s.Phase != Requested && (s.Phase != Cancelling || s.Plan != nil) {
			return s, false
		}
		s.Phase, s.Reject, s.Ended = Rejected, &d.Error, f.Time
		return s, true
	case events.JobCancelled:
		if s.Phase != Requested && s.Phase != Accepted {
			return s, false
		}
		s.Phase, s.Cancel, s.CancelAt = Cancelling, &d, f.Time
		return s, true
	case events.ImageServed:
		if s.Plan == nil || s.Over() {
			return s, false
		}
		s.Served = &d
		return s, true
	case events.JobFinished:
		if s.Phase != Accepted && (s.Phase != Cancelling || s.Plan == nil) {
			return s, false
		}
		s.Phase, s.Result, s.Ended = Finished, &d, f.Time
		return s, true
	}
	if s.Plan == nil || s.Over() {
		return s, false
	}
	i, ok := s.index[f.Node]
	if !ok {
		return s, false
	}
	return applyNode(s, i, f)
}

func accept(s State, at time.Time, d events.JobAccepted) State {
	s.Phase, s.Plan, s.Began = Accepted, &d, at
	s.nodes = make([]*Node, 0, len(d.Nodes))
	s.index = make(map[string]int, len(d.Nodes))
	for _, p := range d.Nodes {
		if _, twice := s.index[p.Name]; twice {
			continue
		}
		s.index[p.Name] = len(s.nodes)
		s.nodes = append(s.nodes, &Node{PlannedNode: p, Step: Pending, Since: at})
	}
	return s
}

func applyNode(s State, i int, f Fact) (State, bool) {
	old := s.nodes[i]
	if old.Ended() {
		return s, false
	}
	if !s.means(f.Data) {
		return s, false
	}
	var change func(n *Node)
	switch d := f.Data.(type) {
	case events.RebootRequested:
		change = func(n *Node) {
			n.Step, n.Attempt, n.Deadline, n.Hard = Rebooting, d.Attempt, d.Deadline, d.Hard
			n.Armed = d.Attempt
			n.PrevBoot, n.Boot = d.Boot, ""
			n.Boots++
		}
	case events.PxeUp:
		change = func(n *Node) { n.Step, n.Attempt, n.Boot, n.Deadline = Up, d.Attempt, d.Boot, d.Deadline }
	case events.LoadStarted:
		change = func(n *Node) { n.Step, n.Deadline = Loading, d.Deadline }
	case events.LoadDone:
		change = func(n *Node) {
			n.Step, n.Load = Loaded, &d
			s.reached(n)
		}
	case events.LoadFailed:
		change = func(n *Node) { s.fault(n, d, f.Time) }
	case events.SaveStarted:
		change = func(n *Node) { n.Step, n.Deadline = Saving, d.Deadline }
	case events.SaveDone:
		change = func(n *Node) {
			n.Step, n.Save = Saved, &d
			s.reached(n)
		}
	case events.SaveFailed:
		change = func(n *Node) { s.fault(n, events.LoadFailed(d), f.Time) }
	case events.ShutdownRequested:
		change = func(n *Node) {
			n.Step, n.Deadline, n.Hard = Leaving, d.Deadline, d.Hard
			n.Leaves++
		}
	case events.ShutdownDone, events.RebootDone:
		change = func(n *Node) {
			n.Step, n.Deadline = Done, time.Time{}
			n.Result = good(n)
		}
	case events.CredentialMisused:
		return s.with(i, func(n *Node) {
			n.Alarms++
			n.Alarm = &d
			if d.Reason == events.MisuseAddress {
				n.Alarmed = d.Attempt
			}
		}), true
	case events.NodeFailed:
		if d.Class == events.ClassTimeout && !f.Time.Before(s.Plan.Deadline) {
			s.TimedOut = true
		}
		change = func(n *Node) {
			n.Step, n.Deadline = Failed, time.Time{}
			n.Result = bad(n, d)
		}
	default:
		return s, false
	}
	return s.with(i, func(n *Node) {
		change(n)
		n.Last = f.Data.Kind()
		if n.Step != old.Step || n.Attempt != old.Attempt {
			n.Since = f.Time
		}
	}), true
}

// means says whether a fact can be about a job of this kind: one that loads knows
// nothing of saves, nor the other way round.
func (s State) means(d events.Data) bool {
	switch d.(type) {
	case events.LoadStarted, events.LoadDone, events.LoadFailed:
		return !s.Saves()
	case events.SaveStarted, events.SaveDone, events.SaveFailed:
		return s.Saves()
	}
	return true
}

// reached changes a node whose disk is loaded, or saved.
func (s State) reached(n *Node) {
	n.Deadline, n.Fault = time.Time{}, nil
	if s.Plan.Then == events.ThenStay {
		n.Step = Done
		n.Result = good(n)
	}
}

// fault changes a node whose attempt has failed.
func (s State) fault(n *Node, d events.LoadFailed, at time.Time) {
	n.Failures++
	n.Fault = &Fault{Class: d.Class, Message: d.Message, Evidence: d.Evidence, Final: !d.Retry}
	n.Deadline = time.Time{}
	switch {
	case !d.Retry:
	case d.Retryable: // once more on the same boot
		n.Step, n.Attempt, n.Deadline = Up, n.Attempt+1, at.Add(time.Duration(s.Plan.Budgets.Join))
	default:
		n.Step = Pending
	}
}

func good(n *Node) *events.NodeResult {
	r := &events.NodeResult{Node: n.Name, OK: true, Attempts: n.Attempt}
	measure(r, n)
	return r
}

// measure says how much was moved, and how sure that is. What a legacy agent
// saves comes without a digest: it is whole by its own structure only.
func measure(r *events.NodeResult, n *Node) {
	switch {
	case n.Load != nil:
		r.Assurance, r.Bytes = n.Load.Assurance, n.Load.BytesWritten
		r.Personalised = n.Load.Personalised
		if g := n.Load.Grown; g != nil {
			brief := *g
			brief.Notes = nil // in load.done; a job of many nodes has to fit into one fact
			r.Grown = &brief
		}
	case n.Save != nil:
		r.Bytes = n.Save.BytesRead
		if n.Agent == agentLegacy {
			r.Assurance = events.AssuranceUnverified
		}
	}
}

// bad keeps what was reached before the node failed: one that would not shut
// down still has a good disk, or its image is stored.
func bad(n *Node, d events.NodeFailed) *events.NodeResult {
	r := &events.NodeResult{Node: n.Name, Class: d.Class, Error: d.Message, Hint: d.Hint, Attempts: n.Attempt}
	measure(r, n)
	return r
}
