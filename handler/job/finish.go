package job

import (
	"time"

	"loadnode/events"
)

// finish sums a settled job up.
func finish(s State, now time.Time) events.JobFinished {
	f := events.JobFinished{
		Job: s.Job, Quorum: s.Plan.Quorum, Began: s.Began, Ended: now,
		Results: make([]events.NodeResult, 0, len(s.nodes)),
	}
	room := max(32, maxResults/max(1, len(s.nodes))/2)
	for _, n := range s.nodes {
		r := *n.Result
		r.Error, r.Hint, r.Alarms = clip(r.Error, room), clip(r.Hint, room), n.Alarms
		if r.OK {
			f.OK++
		} else {
			f.Failed++
		}
		f.Results = append(f.Results, r)
	}
	f.Outcome = outcome(s, f.OK)
	return f
}

// outcome: a cancelled job is cancelled whatever it had done; a quorum that is
// met is a success even if the time was up for the rest.
func outcome(s State, ok int) events.Outcome {
	switch {
	case s.Cancel != nil:
		return events.OutcomeCancelled
	case ok >= s.Plan.Quorum:
		return events.OutcomeOK
	case s.TimedOut:
		return events.OutcomeTimeout
	case ok == 0 || s.Request.Require != "":
		return events.OutcomeFailed
	default:
		return events.OutcomePartial
	}
}
