package main

import (
	"time"

	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// outcome is what -o json prints at the end of a job: load, save, watch JOB.
type outcome struct {
	Job     string              `json:"job"`
	Outcome string              `json:"outcome"` // of the job; rejected, detached, accepted
	Exit    int                 `json:"exit"`
	Image   *events.Image       `json:"image,omitempty"`
	Save    bool                `json:"save,omitempty"` // the image is made, not loaded
	Nodes   int                 `json:"nodes"`
	OK      int                 `json:"ok"`
	Failed  int                 `json:"failed"`
	Quorum  int                 `json:"quorum,omitempty"`
	Missing []string            `json:"missing,omitempty"` // asked for, not in the inventory
	Results []events.NodeResult `json:"results,omitempty"`
	Plan    *events.JobAccepted `json:"plan,omitempty"` // of a dry run
	Error   *events.Error       `json:"error,omitempty"`
	Began   time.Time           `json:"began,omitzero"`
	Ended   time.Time           `json:"ended,omitzero"`
	Seconds float64             `json:"seconds"`
}

func outcomeOf(j *display.Job, exit int) outcome {
	o := outcome{Job: j.ID, Outcome: j.State, Exit: exit, Nodes: len(j.Nodes), Error: j.Rejected}
	if acc := j.Accepted; acc != nil {
		o.Image, o.Quorum, o.Missing = &acc.Image, acc.Quorum, acc.Missing
		o.Save = acc.Save != nil
		if j.Saved != nil {
			o.Image = &j.Saved.Image
		}
		if acc.DryRun {
			o.Plan = acc
		}
	}
	if r := j.Result; r != nil {
		o.Outcome, o.OK, o.Failed, o.Results = string(r.Outcome), r.OK, r.Failed, r.Results
		o.Began, o.Ended, o.Seconds = r.Began, r.Ended, j.Took().Seconds()
	}
	return o
}

// exitOf is the exit code of an ended job. That the quorum was missed is told
// from some nodes having failed only where one was asked for.
func exitOf(j *display.Job) int {
	if j.Rejected != nil {
		return codeOf(j.Rejected)
	}
	r := j.Result
	if r == nil {
		return exitFailed
	}
	switch r.Outcome {
	case events.OutcomeOK, events.OutcomePlanned:
		return exitOK
	case events.OutcomeTimeout:
		return exitTimeout
	case events.OutcomePartial, events.OutcomeFailed:
		if j.Request != nil && j.Request.Require != "" && r.OK < r.Quorum {
			return exitTimeout
		}
	}
	return exitFailed
}

// finish prints how a job ended, in the form asked for, and returns its exit
// code as an error.
func (a *app) finish(j *display.Job, code int) error {
	var err error
	switch a.output {
	case "json":
		err = a.printJSON(outcomeOf(j, code))
	case "text":
		err = display.Summary(a.stdout, j, a.columns())
	}
	if err != nil {
		return err
	}
	return quietly(code)
}
