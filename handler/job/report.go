package job

import (
	"fmt"
	"slices"

	"loadnode/events"
)

// report checks what a node said and makes the fact of it.
func (d *decider) report(r Report) error {
	ref, ok := Ref(r.Data)
	if !ok {
		return refuse(ReasonKind, "%s is not a report about a job", r.Data.Kind())
	}
	if ref.Node != r.Node {
		return refuse(ReasonForged, "node %s reports as %q", r.Node, clip(ref.Node, maxName))
	}
	if ref.Job != "" && ref.Job != d.s.Job {
		return refuse(ReasonJob, "node %s reports about job %q", r.Node, clip(ref.Job, maxName))
	}
	n, ok := d.s.Node(r.Node)
	if !ok {
		return refuse(ReasonNotHeld, "job %s does not hold node %s", d.s.Job, r.Node)
	}
	if n.Ended() || n.doomed() {
		return refuse(ReasonOver, "node %s is %s", n.Name, n.Step)
	}
	if m, ok := r.Data.(events.CredentialMisused); ok {
		return d.credentialMisused(n, m)
	}
	if ref.Boot == "" || len(ref.Boot) > maxName {
		return refuse(ReasonBoot, "node %s names no usable boot id", n.Name)
	}
	switch data := r.Data.(type) {
	case events.Up:
		return d.up(n, data, r)
	case events.LoadStarted:
		return d.loadStarted(n, data)
	case events.LoadDone:
		return d.loadDone(n, data, r.Overtaken)
	case events.LoadFailed:
		return d.attemptFailed(n, data, false)
	case events.SaveStarted:
		return d.saveStarted(n, data)
	case events.SaveDone:
		return d.saveDone(n, data, r)
	case events.SaveFailed:
		return d.attemptFailed(n, events.LoadFailed(data), true)
	case events.Leaving:
		return d.leavingReport(n, data, r.Observable)
	}
	return refuse(ReasonKind, "%s is not a report about a job", r.Data.Kind())
}

// Ref is what a report is about; ok is false for data that are no report.
func Ref(data events.Data) (events.NodeRef, bool) {
	switch data.(type) {
	case events.Up, events.LoadStarted, events.LoadDone, events.LoadFailed, events.SaveStarted, events.SaveDone, events.SaveFailed,
		events.Leaving, events.CredentialMisused:
		return events.RefOf(data)
	}
	return events.NodeRef{}, false
}

func (d *decider) up(n *Node, u events.Up, r Report) error {
	switch {
	case !u.Imaging:
		return refuse(ReasonNotImaging, "node %s runs its own disk (boot %s), not the imaging system", n.Name, u.Boot)
	case n.Boot == u.Boot:
		return refuse(ReasonRepeated, "node %s is known to be up", n.Name)
	}
	switch n.Step {
	case Rebooting:
		if u.Boot == n.PrevBoot {
			return refuse(ReasonBoot, "node %s still runs boot %s", n.Name, u.Boot)
		}
		// Delivered again, a report of some boot long ago looks like the answer
		// to this reboot. The clocks of bus and handler may differ, so the
		// agent has the last word.
		if !r.Confirmed && !r.Stored.IsZero() && r.Stored.Before(n.Since) {
			return refuse(ReasonUnconfirmed, "boot %s of node %s was reported before the reboot was requested", u.Boot, n.Name)
		}
		d.pxeUp(n, n.Attempt, u)
		return nil
	case Up, Loading, Saving:
		// The machine has started once more by itself, or this is an old
		// report delivered late: only the agent can tell.
		if !r.Confirmed {
			return refuse(ReasonUnconfirmed, "node %s reports boot %s, boot %s is known", n.Name, u.Boot, n.Boot)
		}
		again := d.mayLoadAgain(n)
		d.setback(n, events.LoadFailed{
			Class:     events.ClassTimeout,
			Message:   fmt.Sprintf("the machine restarted during the attempt: boot %s became %s", n.Boot, u.Boot),
			Retryable: true, Retry: again,
		})
		if again {
			n, _ = d.s.Node(n.Name)
			d.pxeUp(n, n.Attempt, u)
		}
		return nil
	}
	return refuse(ReasonStep, "node %s is %s and was not expected up", n.Name, n.Step)
}

func (d *decider) pxeUp(n *Node, attempt int, u events.Up) {
	d.emit(n.Name, attempt, events.PxeUp{
		NodeRef: events.NodeRef{Job: d.s.Job, Node: n.Name, Attempt: attempt, Boot: u.Boot},
		Address: clip(u.Address, maxName), Agent: clip(u.Agent, maxName), Hardware: clipHardware(u.Hardware),
		Deadline: until(d.at.Now, d.s.Plan.Budgets.Join),
	})
}

// current checks attempt and boot of a report about a load, or about a save.
func (d *decider) current(n *Node, ref events.NodeRef, save bool) error {
	switch _, verb := d.work(); {
	case ref.Job == "":
		return refuse(ReasonJob, "node %s reports a %s of no job", n.Name, verb)
	case save != d.s.Saves():
		return refuse(ReasonStep, "node %s was told to %s, and reports something else", n.Name, verb)
	case ref.Attempt != n.Attempt:
		return refuse(ReasonAttempt, "node %s reports on attempt %d, %d is current", n.Name, ref.Attempt, n.Attempt)
	case ref.Boot != n.Boot:
		return refuse(ReasonBoot, "node %s reports from boot %s, %q is current", n.Name, ref.Boot, n.Boot)
	}
	return nil
}

func (d *decider) loadStarted(n *Node, l events.LoadStarted) error {
	if err := d.current(n, l.NodeRef, false); err != nil {
		return err
	}
	switch n.Step {
	case Up:
		l.Deadline = until(d.at.Now, d.s.Plan.Budgets.Load)
		l.Session, l.Disk = clip(l.Session, maxName), clipDisk(l.Disk)
		d.emit(n.Name, n.Attempt, l)
		return nil
	case Loading, Loaded, Leaving:
		return refuse(ReasonRepeated, "load.started of node %s stands", n.Name)
	}
	return refuse(ReasonStep, "node %s is %s and loads nothing", n.Name, n.Step)
}

func (d *decider) loadDone(n *Node, l events.LoadDone, overtaken bool) error {
	if err := d.current(n, l.NodeRef, false); err != nil {
		return err
	}
	switch n.Step {
	case Loading:
	case Up:
		if !overtaken {
			return refuse(ReasonEarly, "node %s reports load.done before load.started", n.Name)
		}
	case Loaded, Leaving:
		return refuse(ReasonRepeated, "load.done of node %s stands", n.Name)
	default:
		return refuse(ReasonStep, "node %s is %s and loads nothing", n.Name, n.Step)
	}
	l.Counters = clipCounters(l.Counters)
	l.Digest = clip(l.Digest, maxName)
	l.Grown = clipGrown(l.Grown)
	switch l.Assurance {
	case events.AssuranceReadback, events.AssuranceWritten:
	default:
		l.Assurance = events.AssuranceUnverified
	}
	if why := d.unbelievable(n, l); why != "" {
		// Never a success, and never tried again: an agent whose word differs
		// from the plan is not asked twice.
		d.setback(n, events.LoadFailed{
			Class: events.ClassVerify, Message: why,
			Evidence: events.Evidence{Counters: l.Counters,
				Text: fmt.Sprintf("reported: digest %q, %d chunks, %d bytes of disk, assurance %s", l.Digest, l.Chunks, l.DiskBytes, l.Assurance)},
		})
		return nil
	}
	d.emit(n.Name, n.Attempt, l)
	return nil
}

// unbelievable compares a report of success with the plan, and says what is
// wrong with it.
func (d *decider) unbelievable(n *Node, l events.LoadDone) string {
	plan, img := d.s.Plan, d.s.Plan.Image
	if n.Agent == agentLegacy && l.Assurance == events.AssuranceUnverified && l.Digest == "" {
		// A legacy agent knows no digests; its word is worth what it is.
		if plan.RequireVerified {
			return "a legacy agent says that the load is done, and nobody verified it: the request requires verified results"
		}
		return ""
	}
	switch {
	case l.Digest != img.Digest:
		return fmt.Sprintf("the agent loaded another image: digest %q, the plan says %q", l.Digest, img.Digest)
	case l.Chunks < img.Chunks:
		return fmt.Sprintf("the agent wrote %d of %d chunks", l.Chunks, img.Chunks)
	case l.DiskBytes < img.DiskBytes:
		return fmt.Sprintf("the agent covered %d of %d bytes of the disk", l.DiskBytes, img.DiskBytes)
	case plan.Verify == events.VerifyReadback && l.Assurance != events.AssuranceReadback:
		return fmt.Sprintf("the request asks for the disk to be read back, the agent answers %q", l.Assurance)
	case plan.Resize != "" && l.Grown == nil:
		return "the request asks for the last partition to be resized, the agent says nothing of it"
	case plan.Personalise != nil && !l.Personalised:
		return "the request asks for the system to be personalised, the agent does not say that it was"
	case plan.RequireVerified && l.Assurance == events.AssuranceUnverified:
		return "the request requires verified results, the agent's is unverified"
	}
	return ""
}

// maxNotes bounds the remarks of an agent on a partition.
const maxNotes = 8

func clipGrown(g *events.Grown) *events.Grown {
	if g == nil {
		return nil
	}
	c := *g
	c.Filesystem, c.Notes = clip(c.Filesystem, maxName), nil
	for _, note := range g.Notes[:min(len(g.Notes), maxNotes)] {
		c.Notes = append(c.Notes, clip(note, maxName))
	}
	return &c
}

// agentLegacy is the kind of agent that is driven through the bridge.
const agentLegacy = "legacy"

// reportable are the failure classes that an agent can know of by itself, and
// the one that stands for any other word.
func reportable(save bool) (known []events.Class, other events.Class) {
	if save {
		return []events.Class{events.ClassRefused, events.ClassImage, events.ClassRead, events.ClassStore, events.ClassTimeout}, events.ClassStore
	}
	return []events.Class{
		events.ClassRefused, events.ClassImage, events.ClassJoin, events.ClassStalled,
		events.ClassReceive, events.ClassVerify, events.ClassWrite, events.ClassTimeout,
	}, events.ClassReceive
}

// attemptFailed takes the report that a load, or a save, has failed.
func (d *decider) attemptFailed(n *Node, l events.LoadFailed, save bool) error {
	if err := d.current(n, l.NodeRef, save); err != nil {
		return err
	}
	_, verb := d.work()
	switch n.Step {
	case Up, Loading, Saving:
	case Loaded, Saved, Leaving:
		return refuse(ReasonStep, "the %s of node %s is done; its failure comes too late", verb, n.Name)
	default:
		return refuse(ReasonStep, "node %s is %s, there is no %s that could fail", n.Name, n.Step, verb)
	}
	known, other := reportable(save)
	switch {
	case slices.Contains(known, l.Class):
	case l.Class == events.ClassCancelled && d.s.Phase == Cancelling:
		l.Retryable = false // the agent obeyed
	case l.Class == events.ClassCancelled:
		l.Class = events.ClassTimeout // nobody told it to: the agent was ended
	default:
		l.Message = fmt.Sprintf("class %q: %s", clip(string(l.Class), maxName), l.Message)
		l.Class = other
	}
	// What the safety gate or the disk itself said does not change by asking
	// again, nor that the name of a new image is taken.
	if l.Class == events.ClassRefused || l.Class == events.ClassVerify || save && l.Class == events.ClassImage {
		l.Retryable = false
	}
	l.Retry = l.Retryable && d.mayLoadAgain(n)
	d.setback(n, l)
	return nil
}

func (d *decider) leavingReport(n *Node, l events.Leaving, observable bool) error {
	if n.Step != Leaving {
		return refuse(ReasonStep, "node %s is %s and was not told to leave", n.Name, n.Step)
	}
	if l.Boot != n.Boot {
		return refuse(ReasonBoot, "node %s leaves boot %s, %q is current", n.Name, l.Boot, n.Boot)
	}
	if want := leaveVerb(d.s.Plan.Then); l.How != want {
		return refuse(ReasonStep, "node %s leaves by %q, it was told to %s", n.Name, clip(string(l.How), maxName), want)
	}
	// A node that reboots is on before and after: its word is all there is.
	if observable && d.s.Plan.Then != events.ThenReboot {
		return refuse(ReasonRepeated, "node %s is on its way; its power will tell", n.Name)
	}
	d.left(n, seenLeaving)
	return nil
}

// How the end of a leave is known.
const (
	seenLeaving = "leaving"
	// SeenPower says that the power controller told it.
	SeenPower = "power"
)

func leaveVerb(t events.Then) events.Verb {
	if t == events.ThenReboot {
		return events.VerbReboot
	}
	return events.VerbHalt
}
