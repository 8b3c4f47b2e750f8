package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// Decide returns the facts that follow from an input, and from the time that
// has passed, in their order. They apply to s without fault. The error, a
// *Refusal, says why the input itself made no fact; facts that time alone
// made come with it.
func Decide(s State, at Moment, in Input) ([]Fact, error) {
	at.Now = at.Now.UTC().Round(0)
	d := decider{s: s, at: at}
	err := d.take(in)
	d.advance()
	return d.facts, err
}

type decider struct {
	s     State
	at    Moment
	cause string
	facts []Fact
}

func (d *decider) emit(node string, number int, data events.Data) {
	f := Fact{
		ID:   events.FactID(d.s.Job, node, data.Kind(), number),
		Node: node, Time: d.at.Now, Causation: d.cause, Data: data,
	}
	if r, ok := data.(events.JobRequested); ok {
		f.ID = events.FactID(r.Job, "", r.Kind(), 0)
	}
	d.s = Apply(d.s, f)
	d.facts = append(d.facts, f)
}

func refuse(r Reason, format string, args ...any) error {
	return &Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// take handles the input itself.
func (d *decider) take(in Input) error {
	if r, ok := in.(Request); ok {
		return d.request(r)
	}
	if d.s.Phase == Unknown {
		return refuse(ReasonJob, "no such job")
	}
	if _, tick := in.(Tick); d.s.Over() && !tick {
		return refuse(ReasonOver, "job %s has ended", d.s.Job)
	}
	switch in := in.(type) {
	case Tick:
		return nil
	case Cancel:
		if d.s.Phase == Cancelling {
			return refuse(ReasonRepeated, "job %s is being cancelled", d.s.Job)
		}
		d.emit("", 0, events.JobCancelled{Job: d.s.Job, Reason: clip(in.Reason, maxMessage), Requester: clip(in.Requester, maxName)})
		return nil
	case Planned, Refuse:
		return d.planned(in)
	}
	if d.s.Plan == nil {
		return refuse(ReasonStep, "job %s has no plan yet", d.s.Job)
	}
	switch in := in.(type) {
	case Report:
		d.cause = in.ID
		return d.report(in)
	case Served:
		return d.served(in)
	case NotServed:
		return d.notServed(in)
	case Freed:
		if !d.s.settled() {
			return refuse(ReasonStep, "job %s still has nodes at work", d.s.Job)
		}
		d.emit("", 0, finish(d.s, d.at.Now))
		return nil
	}
	return d.result(in)
}

func (d *decider) request(r Request) error {
	if d.s.Phase != Unknown {
		return refuse(ReasonRepeated, "job %s exists already", d.s.Job)
	}
	d.emit("", 0, events.JobRequested{Job: r.Job, Request: r.Load, Save: r.Save, Requester: clip(r.Requester, maxName), Expires: r.Expires, Raw: clip(r.Raw, maxRaw)})
	if r.Reject != nil {
		d.emit("", 0, events.JobRejected{Job: r.Job, Error: *r.Reject})
	}
	return nil
}

func (d *decider) planned(in Input) error {
	if d.s.Phase != Requested {
		return refuse(ReasonRepeated, "job %s is planned already", d.s.Job)
	}
	switch in := in.(type) {
	case Refuse:
		d.emit("", 0, events.JobRejected{Job: d.s.Job, Error: in.Error})
	case Planned:
		plan := in.Plan
		plan.Job = d.s.Job
		d.emit("", 0, plan)
		if plan.DryRun {
			d.emit("", 0, events.JobFinished{
				Job: d.s.Job, Outcome: events.OutcomePlanned, Quorum: plan.Quorum,
				Results: []events.NodeResult{}, Began: d.at.Now, Ended: d.at.Now,
			})
		}
	}
	return nil
}

func (d *decider) served(in Served) error {
	if d.s.Saves() {
		return refuse(ReasonStep, "job %s saves, it needs no session", d.s.Job)
	}
	if d.s.Served != nil && d.s.Served.Session == in.Session.Session {
		return refuse(ReasonRepeated, "the session of job %s is known", d.s.Job)
	}
	if d.s.Served != nil {
		return refuse(ReasonStep, "job %s has its session already", d.s.Job)
	}
	if in.Session.Image.Digest != d.s.Plan.Image.Digest {
		return d.notServed(NotServed{Error: events.Error{Code: events.CodeConflict,
			Message: fmt.Sprintf("the image service serves digest %s of %s, the plan says %s", in.Session.Image.Digest, d.s.Plan.Image.Name, d.s.Plan.Image.Digest)}})
	}
	f := in.Session
	f.Job, f.Leases = d.s.Job, nil
	d.emit("", 0, f)
	return nil
}

// notServed fails every node that still needs the image.
func (d *decider) notServed(in NotServed) error {
	if d.s.Served != nil || d.s.Saves() {
		return refuse(ReasonStep, "job %s has its session already", d.s.Job)
	}
	for _, n := range d.s.nodes {
		if !n.Ended() && !n.delivered() {
			d.fail(n, events.ClassImage, in.Error.Message, events.Evidence{Text: string(in.Error.Code)})
		}
	}
	return nil
}

// result takes the outcome of an effect on one node.
func (d *decider) result(in Input) error {
	switch in := in.(type) {
	case NotBooted:
		n, err := d.node(in.Node, Rebooting, in.Attempt)
		if err != nil {
			return err
		}
		d.fail(n, events.ClassPower, in.Message, events.Evidence{})
	case NotLoaded:
		n, err := d.node(in.Node, Up, in.Attempt)
		if err != nil {
			return err
		}
		d.setback(n, events.LoadFailed{Class: events.ClassRefused, Message: in.Error.Message, Evidence: events.Evidence{Text: string(in.Error.Code)}})
	case NoPlace:
		n, err := d.node(in.Node, Up, in.Attempt)
		if err != nil {
			return err
		}
		d.noPlace(n, in.Error)
	case Placed:
		return d.placed(in)
	case Lost:
		return d.lost(in)
	case Left:
		n, err := d.leaving(in.Node, in.Leave)
		if err != nil {
			return err
		}
		d.left(n, in.Seen)
	case NotLeft:
		n, err := d.leaving(in.Node, in.Leave)
		if err != nil {
			return err
		}
		d.leaveFailed(n, events.ClassPower, in.Message)
	case Stopped:
		n, ok := d.s.Node(in.Node)
		if !ok || d.s.Phase != Cancelling || n.Ended() || n.delivered() {
			return refuse(ReasonStep, "node %s is not being stopped", in.Node)
		}
		d.fail(n, events.ClassCancelled, d.cancelText(), events.Evidence{Text: clip(in.Message, maxMessage)})
	default:
		return refuse(ReasonKind, "no input of a job: %T", in)
	}
	return nil
}

func (d *decider) node(name string, step Step, attempt int) (*Node, error) {
	n, ok := d.s.Node(name)
	switch {
	case !ok:
		return nil, refuse(ReasonNotHeld, "job %s does not hold node %s", d.s.Job, name)
	case n.Attempt != attempt:
		return nil, refuse(ReasonAttempt, "node %s: attempt %d is over, %d is current", name, attempt, n.Attempt)
	case n.Step != step || n.doomed():
		return nil, refuse(ReasonStep, "node %s is %s, not %s", name, n.Step, step)
	}
	return n, nil
}

func (d *decider) leaving(name string, leave int) (*Node, error) {
	n, ok := d.s.Node(name)
	if !ok {
		return nil, refuse(ReasonNotHeld, "job %s does not hold node %s", d.s.Job, name)
	}
	if n.Step != Leaving || n.Leaves != leave {
		return nil, refuse(ReasonStep, "node %s is %s, leave %d is over", name, n.Step, leave)
	}
	return n, nil
}

func (d *decider) left(n *Node, seen string) {
	if d.s.Plan.Then == events.ThenReboot {
		d.emit(n.Name, n.Attempt, events.RebootDone{NodeRef: n.ref(d.s.Job), Seen: seen})
		return
	}
	d.emit(n.Name, n.Attempt, events.ShutdownDone{NodeRef: n.ref(d.s.Job), Seen: seen})
}

// setback is the fact that an attempt of a load, or of a save, has failed.
func (d *decider) setback(n *Node, f events.LoadFailed) {
	f.NodeRef = n.ref(d.s.Job)
	f.Message = clip(f.Message, maxMessage)
	f.Evidence.Text = clip(f.Evidence.Text, maxText)
	f.Evidence.Counters = clipCounters(f.Evidence.Counters)
	f.Evidence.LastEvent = string(n.Last)
	if d.s.Saves() {
		d.emit(n.Name, n.Attempt, events.SaveFailed(f))
		return
	}
	d.emit(n.Name, n.Attempt, f)
}

// work is the step of a node that loads or saves, and words for it.
func (d *decider) work() (step Step, verb string) {
	if d.s.Saves() {
		return Saving, "save"
	}
	return Loading, "load"
}

// lost gives up the attempt of a node whose agent has forgotten it or is gone.
// One that has forgotten it answers, so that it may try again on the same
// boot; another may be gone before it has begun.
func (d *decider) lost(in Lost) error {
	step, _ := d.work()
	if n, ok := d.s.Node(in.Node); ok && in.Gone && n.Step == Up {
		step = Up
	}
	n, err := d.node(in.Node, step, in.Attempt)
	if err != nil {
		return err
	}
	failed := events.LoadFailed{
		Class: events.ClassTimeout, Message: in.Message, Evidence: events.Evidence{Text: in.Evidence},
		Retryable: !in.Gone, Retry: d.mayLoadAgain(n),
	}
	if in.Gone {
		failed.Retry = failed.Retry && d.mayBootAgain(n)
	}
	d.setback(n, failed)
	return nil
}

// mayBootAgain reports whether another reboot is within the budget.
func (d *decider) mayBootAgain(n *Node) bool { return n.Boots < d.s.Plan.Budgets.BootAttempts }

// mayLoadAgain reports whether another attempt is within the budget, seen
// before the failure in hand is counted.
func (d *decider) mayLoadAgain(n *Node) bool {
	return d.s.Phase == Accepted && n.Failures+1 < d.s.Plan.Budgets.LoadAttempts && !d.at.missed(d.s.Plan.Deadline)
}

// fail ends a node.
func (d *decider) fail(n *Node, class events.Class, message string, ev events.Evidence) {
	d.failWith(n, class, message, ev, hint(class, n, d.s))
}

func (d *decider) failWith(n *Node, class events.Class, message string, ev events.Evidence, hint string) {
	if ev.LastEvent == "" {
		ev.LastEvent = string(n.Last)
	}
	ref := n.ref(d.s.Job)
	d.emit(n.Name, n.Attempt, events.NodeFailed{
		NodeRef: ref, Class: class, Message: clip(message, maxMessage),
		Evidence: ev, Hint: hint,
	})
}

func (d *decider) cancelText() string {
	if d.s.Cancel != nil && d.s.Cancel.Reason != "" {
		return "the job was cancelled: " + d.s.Cancel.Reason
	}
	return "the job was cancelled"
}

func until(at time.Time, d events.Duration) time.Time { return at.Add(time.Duration(d)) }
