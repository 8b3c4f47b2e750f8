package display

import (
	"time"

	"loadnode/events"
)

// Node is what a screen shows of a node in a job.
type Node struct {
	Name    string
	State   string // pending rebooting up loading loaded saving saved leaving done failed
	Attempt int
	Phase   string  // of the load or save, from telemetry
	Percent float64 // of the load or save, from telemetry
	Written int64   // bytes to the disk
	Read    int64   // bytes from the disk that is saved
	Sent    int64   // bytes of its image
	Class   events.Class
	Message string
	Hint    string
	Alarms  int // credentials of it that were misused
}

// Ended reports whether nothing more is expected of the node.
func (n *Node) Ended() bool { return n.State == "done" || n.State == "failed" }

// Job is what a screen shows of a job: the fold of its facts and telemetry.
type Job struct {
	ID       string
	State    string // requested accepted rejected cancelling finished
	Image    events.Image
	Nodes    []*Node             // in the order of the plan
	Request  *events.LoadRequest // of a load
	Save     *events.SaveRequest // of a save
	Saved    *events.SaveDone
	Accepted *events.JobAccepted
	Served   *events.ImageServed
	Rejected *events.Error
	Result   *events.JobFinished
	Facts    int // facts applied

	byName map[string]*Node
}

// NewJob returns a job of which nothing is known yet.
func NewJob(id string) *Job {
	return &Job{ID: id, State: "sent", byName: map[string]*Node{}}
}

// Ended reports whether the job is finished or rejected.
func (j *Job) Ended() bool { return j.Result != nil || j.Rejected != nil }

// Saves reports whether the job saves a node.
func (j *Job) Saves() bool { return j.Save != nil || j.Accepted != nil && j.Accepted.Save != nil }

// Node returns the node of that name, made if need be.
func (j *Job) Node(name string) *Node {
	n, ok := j.byName[name]
	if !ok {
		n = &Node{Name: name, State: "pending"}
		j.byName[name] = n
		j.Nodes = append(j.Nodes, n)
	}
	return n
}

// Apply folds a fact or a progress report. Kinds that say nothing about the
// job are passed over.
func (j *Job) Apply(d events.Data) {
	if k := d.Kind(); k != events.KindProgress && k != events.KindSaveProgress {
		j.Facts++
	}
	switch f := d.(type) {
	case events.JobRequested:
		j.State, j.Request, j.Save = "requested", &f.Request, f.Save
	case events.JobAccepted:
		j.State, j.Image, j.Accepted = "accepted", f.Image, &f
		for _, p := range f.Nodes {
			j.Node(p.Name)
		}
	case events.JobRejected:
		j.State, j.Rejected = "rejected", &f.Error
	case events.JobCancelled:
		j.State = "cancelling"
	case events.ImageServed:
		j.Served = &f
	case events.JobFinished:
		j.finish(f)
	case events.Progress:
		j.progress(f)
	case events.SaveProgress:
		j.saveProgress(f)
	default:
		j.step(d)
	}
}

func (j *Job) finish(f events.JobFinished) {
	j.State, j.Result = "finished", &f
	for _, r := range f.Results {
		n := j.Node(r.Node)
		n.State, n.Class, n.Message, n.Hint = "failed", r.Class, r.Error, r.Hint
		if r.OK {
			n.State, n.Percent = "done", 100
		}
		switch {
		case r.Bytes <= 0:
		case j.Saves():
			n.Read = r.Bytes
		default:
			n.Written = r.Bytes
		}
	}
}

func (j *Job) progress(p events.Progress) {
	n := j.Node(p.Node)
	// Telemetry is not ordered with facts: what comes late changes nothing.
	if n.State != "loading" && n.State != "up" || p.Attempt < n.Attempt {
		return
	}
	n.Phase, n.Percent, n.Written = p.Phase, p.Percent, p.BytesWritten
}

func (j *Job) saveProgress(p events.SaveProgress) {
	n := j.Node(p.Node)
	if n.State != "saving" && n.State != "up" || p.Attempt < n.Attempt {
		return
	}
	n.Phase, n.Percent, n.Read, n.Sent = p.Phase, p.Percent, p.BytesRead, p.BytesSent
}

func (j *Job) step(d events.Data) {
	to := func(ref events.NodeRef, state string) *Node {
		n := j.Node(ref.Node)
		n.State = state
		if ref.Attempt > n.Attempt {
			n.Attempt = ref.Attempt
		}
		return n
	}
	switch f := d.(type) {
	case events.RebootRequested:
		n := to(f.NodeRef, "rebooting")
		n.Phase, n.Percent = "", 0
	case events.PxeUp:
		to(f.NodeRef, "up")
	case events.LoadStarted:
		to(f.NodeRef, "loading")
	case events.LoadDone:
		n := to(f.NodeRef, "loaded")
		n.Percent, n.Written, n.Phase = 100, f.BytesWritten, ""
	case events.LoadFailed:
		n := to(f.NodeRef, "up")
		n.setback(f.Class, f.Message)
	case events.SaveStarted:
		to(f.NodeRef, "saving")
	case events.SaveDone:
		n := to(f.NodeRef, "saved")
		n.Percent, n.Read, n.Sent, n.Phase = 100, f.BytesRead, f.BytesSent, ""
		j.Saved, j.Image = &f, f.Image
	case events.SaveFailed:
		to(f.NodeRef, "up").setback(f.Class, f.Message)
	case events.ShutdownRequested:
		to(f.NodeRef, "leaving")
	case events.ShutdownDone:
		to(f.NodeRef, "done")
	case events.RebootDone:
		to(f.NodeRef, "done")
	case events.CredentialMisused:
		j.Node(f.Node).Alarms++
	case events.NodeFailed:
		n := to(f.NodeRef, "failed")
		n.Class, n.Message, n.Hint = f.Class, f.Message, f.Hint
	}
}

// setback notes an attempt that has failed.
func (n *Node) setback(class events.Class, message string) {
	n.Phase, n.Percent, n.Read, n.Sent, n.Class, n.Message = "", 0, 0, 0, class, message
}

// Counts tells how many nodes are in each state.
func (j *Job) Counts() map[string]int {
	c := map[string]int{}
	for _, n := range j.Nodes {
		c[n.State]++
	}
	return c
}

// Took is how long the job ran from its acceptance; zero while it runs.
func (j *Job) Took() time.Duration {
	if j.Result == nil || j.Result.Began.IsZero() {
		return 0
	}
	return j.Result.Ended.Sub(j.Result.Began)
}
