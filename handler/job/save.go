package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// Lease names the place of one attempt of a save at the image service: a new
// attempt gets a new place.
func Lease(job string, attempt int) string { return fmt.Sprintf("%s:%d", job, attempt) }

// CheckSave refuses a request to save whose fields are wrong, whatever the
// node is. Which names images may have is for the catalogue to say.
func CheckSave(r events.SaveRequest) *events.Error {
	if e := Check(events.LoadRequest{Nodes: r.Node, Image: "-", Disk: r.Disk, Then: r.Then, Timeout: r.Timeout, TTL: r.TTL}); e != nil {
		return e
	}
	bad := func(format string, args ...any) *events.Error {
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(r.Image) > maxName:
		return bad("image: the name has %d bytes, at most %d are possible", len(r.Image), maxName)
	case r.Level < 0 || r.Level > 9:
		return bad("level %d: want 1 (fast) to 9 (small), or nothing", r.Level)
	}
	return nil
}

// SaveWish is all that the plan of a save is made of.
type SaveWish struct {
	Request   events.SaveRequest
	Requester string
	Node      events.PlannedNode
	Image     string // the name; not in the catalogue yet
	Now       time.Time
}

// PlanSave makes the plan of a job that saves. The error has code bad_request.
//
// How large the disk is nobody knows before the node is up. Budgets.Load is
// the time for one of Policy.SaveBytes, read as a whole and sent without being
// any smaller; when the agent says in save.started which disk it has opened,
// the deadline becomes that disk's share of it. Without a timeout the job has
// this time once, however many attempts share it.
func (p Policy) PlanSave(job string, w SaveWish) (events.JobAccepted, *events.Error) {
	p = p.Filled()
	r := w.Request
	if e := CheckSave(r); e != nil {
		return events.JobAccepted{}, e
	}
	then := r.Then
	if then == "" {
		then = events.ThenShutdown
	}
	b := p.Budgets(events.Image{Size: p.SaveBytes, DataBytes: p.SaveBytes}, "")
	timeout := time.Duration(r.Timeout)
	if timeout <= 0 {
		timeout = whole(b, 1, p.Window) - time.Duration(b.LoadAttempts-1)*time.Duration(b.Load)
	}
	return events.JobAccepted{
		Job: job, Image: events.Image{Name: w.Image}, Save: &events.SavePlan{Image: w.Image, Level: r.Level, DiskBytes: p.SaveBytes},
		Nodes: []events.PlannedNode{w.Node}, Quorum: 1, Window: p.Window, Then: then, DryRun: r.DryRun,
		Budgets: b, Deadline: w.Now.UTC().Round(0).Add(timeout), Requester: clip(w.Requester, maxName),
	}, nil
}

// saveTime is how long the save of a disk may take: its share of Budgets.Load
// and the time to join on top, not more than Budgets.Load.
func saveTime(plan *events.JobAccepted, disk int64) events.Duration {
	b, most := plan.Budgets, plan.Save.DiskBytes
	if disk <= 0 || disk >= most {
		return b.Load
	}
	return min(b.Load, b.Join+events.Duration(float64(b.Load)*(float64(disk)/float64(most))))
}

func (d *decider) saveStarted(n *Node, l events.SaveStarted) error {
	if err := d.current(n, l.NodeRef, true); err != nil {
		return err
	}
	switch n.Step {
	case Up:
		l.Image, l.Disk = d.s.Plan.Save.Image, clipDisk(l.Disk)
		l.Deadline = until(d.at.Now, saveTime(d.s.Plan, l.Disk.Size))
		d.emit(n.Name, n.Attempt, l)
		return nil
	case Saving, Saved, Leaving:
		return refuse(ReasonRepeated, "save.started of node %s stands", n.Name)
	}
	return refuse(ReasonStep, "node %s is %s and saves nothing", n.Name, n.Step)
}

// saveDone takes the word of an agent that its image is stored, if the image
// service says so too. What image it is, the image service says alone.
func (d *decider) saveDone(n *Node, l events.SaveDone, r Report) error {
	if err := d.current(n, l.NodeRef, true); err != nil {
		return err
	}
	switch n.Step {
	case Saving:
	case Up:
		if !r.Overtaken {
			return refuse(ReasonEarly, "node %s reports save.done before save.started", n.Name)
		}
	case Saved, Leaving:
		return refuse(ReasonRepeated, "save.done of node %s stands", n.Name)
	default:
		return refuse(ReasonStep, "node %s is %s and saves nothing", n.Name, n.Step)
	}
	if r.Place == nil || r.Place.State == events.PlaceReceiving {
		return refuse(ReasonUnconfirmed, "node %s reports that its image is stored, the image service has not said so", n.Name)
	}
	said := clip(l.Image.Digest, maxName)
	l.Counters = clipCounters(l.Counters)
	failed := events.LoadFailed{Class: events.ClassStore, Evidence: events.Evidence{Counters: l.Counters,
		Text: fmt.Sprintf("reported: digest %q, %d bytes sent; the place is %s", said, l.BytesSent, clip(r.Place.State, maxName))}}
	switch p := r.Place; {
	case p.State == events.PlaceFailed:
		// The stream broke, and its sender has not noticed: netcat does that.
		failed.Message = "the agent says that the image is stored, the image service that it failed: " + p.Message
		failed.Retryable, failed.Retry = true, d.mayLoadAgain(n)
	case p.State != events.PlaceStored || p.Stored == nil:
		// Never tried again: an agent whose word is not true is not asked twice.
		failed.Message = "the agent says that the image is stored, and the image service has got nothing"
	case p.Stored.Digest != said && (n.Agent != agentLegacy || said != ""):
		failed.Message = fmt.Sprintf("the agent says that it stored digest %q, the image service has %s under the name %s", said, p.Stored.Digest, p.Stored.Name)
	default:
		l.Image = clipImage(*p.Stored)
		d.emit(n.Name, n.Attempt, l)
		return nil
	}
	d.setback(n, failed)
	return nil
}

// placed takes the word of the image service alone, about an attempt of which
// the agent knows nothing any more. What is whole in the catalogue was saved.
func (d *decider) placed(in Placed) error {
	n, err := d.node(in.Node, Up, in.Attempt)
	if err != nil {
		return err
	}
	switch p := in.Place; {
	case p.State == events.PlaceStored && p.Stored != nil:
		d.emit(n.Name, n.Attempt, events.SaveDone{NodeRef: n.ref(d.s.Job), Image: clipImage(*p.Stored), DiskBytes: p.Stored.DiskBytes, BytesSent: p.Stored.Size})
	case p.State == events.PlaceFailed:
		d.setback(n, events.LoadFailed{Class: events.ClassStore, Message: "the image did not arrive: " + p.Message, Retryable: true, Retry: d.mayLoadAgain(n)})
	default:
		return refuse(ReasonStep, "the place of node %s is %s", n.Name, clip(p.State, maxName))
	}
	return nil
}

// noPlace fails a save for which there is no place, for good.
func (d *decider) noPlace(n *Node, e events.Error) {
	class := events.ClassStore
	if e.Code == events.CodeConflict || e.Code == events.CodeImage || e.Code == events.CodeBadRequest {
		class = events.ClassImage
	}
	d.setback(n, events.LoadFailed{Class: class, Message: "the image service gives no place: " + e.Message, Evidence: events.Evidence{Text: string(e.Code)}})
}
