package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// advance makes the facts that need no input: what follows from time and from
// the facts before. It goes on until nothing follows any more, so that its
// facts may be cut into several batches anywhere: what is missing is made
// again from the state.
func (d *decider) advance() {
	for before := -1; before != len(d.facts); {
		before = len(d.facts)
		switch {
		case d.s.Over() || d.s.Phase == Unknown:
			return
		case d.s.Plan == nil:
			d.advanceRequest()
		default:
			for i := range d.s.nodes {
				d.advanceNode(d.s.nodes[i])
			}
			if d.s.Phase == Accepted {
				d.openWindow()
			}
		}
	}
}

func (d *decider) advanceRequest() {
	switch {
	case d.s.Phase == Cancelling:
		d.emit("", 0, events.JobRejected{Job: d.s.Job, Error: events.Error{
			Code: events.CodeRefused, Message: d.cancelText() + ", before it was accepted"}})
	case d.at.missed(d.s.Expires):
		d.emit("", 0, events.JobRejected{Job: d.s.Job, Error: Expired(d.s.waits(), d.s.Requested, d.s.Expires)})
	}
}

// Expired is the error of a request that was not accepted in time; waits says
// whether it might wait for its nodes.
func Expired(waits bool, requested, expires time.Time) events.Error {
	e := events.Error{
		Code:    events.CodeExpired,
		Message: fmt.Sprintf("the request of %s was not accepted by %s", requested.UTC().Format(time.RFC3339), expires.UTC().Format(time.RFC3339)),
		Hint:    "ask again; --ttl says how old a request may be",
	}
	if waits {
		e.Hint = "ask again; with --wait, --timeout says how long to wait for the nodes"
	}
	return e
}

func (d *decider) advanceNode(n *Node) {
	switch {
	case n.Ended():
	case n.doomed():
		d.fail(n, n.Fault.Class, n.Fault.Message, n.Fault.Evidence)
	case n.delivered():
		d.advanceDelivered(n)
	case d.s.Phase == Cancelling:
		d.advanceCancelled(n)
	case d.at.missed(d.s.Plan.Deadline):
		d.fail(n, events.ClassTimeout, fmt.Sprintf("the deadline of the job passed while the node was %s", n.Step), d.faultEvidence(n))
	case !d.at.missed(n.Deadline):
	default:
		d.missed(n)
	}
}

// faultEvidence is what the last failed attempt left behind.
func (d *decider) faultEvidence(n *Node) events.Evidence {
	if n.Fault == nil {
		return events.Evidence{}
	}
	ev := n.Fault.Evidence
	ev.Text = clip(fmt.Sprintf("%s: %s", n.Fault.Class, n.Fault.Message), maxMessage)
	ev.LastEvent = string(n.Last)
	return ev
}

// advanceDelivered takes a node with a good disk, or a stored image, through
// its end. That goes on when the job is cancelled: the result stands.
func (d *decider) advanceDelivered(n *Node) {
	switch {
	case n.Step == Loaded || n.Step == Saved:
		d.leave(n, false)
	case d.at.missed(d.s.Plan.Deadline) && d.at.missed(n.Deadline):
		d.fail(n, events.ClassTimeout, "the deadline of the job passed before the node had left", result(n))
	case d.at.missed(n.Deadline):
		d.leaveFailed(n, events.ClassTimeout, fmt.Sprintf("asked to %s, and still there at the deadline", leaveWord(d.s.Plan.Then)))
	}
}

func leaveWord(t events.Then) string {
	if t == events.ThenReboot {
		return "reboot into its disk"
	}
	return "shut down"
}

// result is the evidence of what was reached before a node failed.
func result(n *Node) events.Evidence {
	ev := events.Evidence{LastEvent: string(n.Last)}
	if n.Load != nil {
		ev.Text = fmt.Sprintf("the disk is good: %d chunks of digest %s, assurance %s", n.Load.Chunks, n.Load.Digest, n.Load.Assurance)
		ev.Counters = map[string]int64{"chunks": int64(n.Load.Chunks), "bytes_written": n.Load.BytesWritten}
	}
	if n.Save != nil {
		ev.Text = fmt.Sprintf("the image is stored: %s, %d chunks of digest %s", n.Save.Image.Name, n.Save.Image.Chunks, n.Save.Image.Digest)
		ev.Counters = map[string]int64{"chunks": int64(n.Save.Image.Chunks), "bytes_read": n.Save.BytesRead}
	}
	return ev
}

func (d *decider) leave(n *Node, hard bool) {
	number := n.Leaves + 1
	d.emit(n.Name, number, events.ShutdownRequested{
		NodeRef: n.ref(d.s.Job), Effect: events.EffectID(d.s.Job, n.Name, stepLeave, number),
		Then: d.s.Plan.Then, Hard: hard, Deadline: until(d.at.Now, d.s.Plan.Budgets.Leave),
	})
}

// leaveFailed goes from the soft way to the hard one, and ends the node when
// the budget is spent.
func (d *decider) leaveFailed(n *Node, class events.Class, message string) {
	if n.Leaves < d.s.Plan.Budgets.LeaveAttempts {
		d.leave(n, true)
		return
	}
	done := "; its disk is loaded"
	if n.Save != nil {
		done = "; its image is stored"
	}
	d.fail(n, class, message+done, result(n))
}

func (d *decider) advanceCancelled(n *Node) {
	if n.Step == Pending {
		d.fail(n, events.ClassCancelled, d.cancelText(), events.Evidence{})
		return
	}
	if d.at.missed(until(d.s.CancelAt, d.s.Plan.Budgets.Leave)) {
		d.fail(n, events.ClassCancelled, d.cancelText()+"; the node did not confirm that it stopped", events.Evidence{})
	}
}

// missed handles the deadline of a node's step.
func (d *decider) missed(n *Node) {
	_, verb := d.work()
	switch n.Step {
	case Rebooting:
		if d.mayBootAgain(n) {
			d.reboot(n)
			return
		}
		d.neverCame(n)
	case Up:
		if d.s.Served == nil && !d.s.Saves() {
			d.timedOut(n, events.ClassImage, fmt.Sprintf("the image service gave no session for %s within %s", d.s.Plan.Image.Name, d.s.Plan.Budgets.Join), false)
			return
		}
		d.timedOut(n, events.ClassTimeout, fmt.Sprintf("the agent was told to %s and did not begin within %s", verb, d.s.Plan.Budgets.Join), true)
	case Loading, Saving:
		d.timedOut(n, events.ClassTimeout, fmt.Sprintf("the %s was begun and nothing came of it within %s", verb, n.Deadline.Sub(n.Since).Round(time.Second)), true)
	}
}

// neverCame fails a node that did not boot the imaging system.
func (d *decider) neverCame(n *Node) {
	message := fmt.Sprintf("no report from the imaging system within %s, after %s", d.s.Plan.Budgets.CheckIn, times(n.Boots, "reboot"))
	evidence := events.Evidence{Text: d.sighting(n)}
	b, ok := d.booted(n)
	if !ok {
		d.fail(n, events.ClassCheckin, message, evidence)
		return
	}
	evidence.Text = clip(cameTo(b)+"; "+evidence.Text, maxMessage)
	d.failWith(n, events.ClassCheckin, message+": "+cameTo(b), evidence, bootHint(b, n)+"; "+hint(events.ClassCheckin, n, d.s))
}

func times(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// timedOut fails an attempt of a node that is silent; another attempt begins
// with a reboot.
func (d *decider) timedOut(n *Node, class events.Class, message string, again bool) {
	d.setback(n, events.LoadFailed{
		Class: class, Message: message, Evidence: events.Evidence{Text: d.sighting(n)},
		Retry: again && d.mayLoadAgain(n) && d.mayBootAgain(n),
	})
}

// sighting says what was last heard of the node beside the facts.
func (d *decider) sighting(n *Node) string {
	seen := d.at.seen(n.Name)
	switch {
	case seen.Boot == "":
		return "the node has never reported"
	case !seen.Imaging:
		return fmt.Sprintf("the node last reported at %s, from its own disk (boot %s): it did not boot the imaging system",
			seen.Time.UTC().Format(time.RFC3339), clip(seen.Boot, maxName))
	default:
		return fmt.Sprintf("the node last reported at %s from the imaging system, boot %s", seen.Time.UTC().Format(time.RFC3339), clip(seen.Boot, maxName))
	}
}

// openWindow reboots pending nodes while fewer than the window boot.
func (d *decider) openWindow() {
	if d.at.missed(d.s.Plan.Deadline) {
		return
	}
	booting := d.s.Count(Rebooting)
	for i := 0; i < len(d.s.nodes) && booting < d.s.Plan.Window; i++ {
		if n := d.s.nodes[i]; n.Step == Pending && !n.doomed() {
			d.reboot(n)
			booting++
		}
	}
}

func (d *decider) reboot(n *Node) {
	attempt := n.Attempt + 1
	before := n.Boot
	if before == "" {
		before = n.PrevBoot
	}
	// What was up last is what runs now: nothing else is known of a node that
	// was not up yet, and one that is found in its own disk has restarted.
	if seen := d.at.seen(n.Name); seen.Boot != "" && (n.Boot == "" || !seen.Imaging) {
		before = clip(seen.Boot, maxName)
	}
	d.emit(n.Name, attempt, events.RebootRequested{
		NodeRef: events.NodeRef{Job: d.s.Job, Node: n.Name, Attempt: attempt, Boot: before},
		Effect:  events.EffectID(d.s.Job, n.Name, stepReboot, attempt),
		// The first time the node is asked itself; a node that did not obey,
		// or does not answer, is forced.
		Hard:     n.Boots > 0 || n.Power == powerBus,
		Deadline: until(d.at.Now, d.s.Plan.Budgets.CheckIn),
	})
}

// powerBus is the driver whose far side may be the simulator: it is always
// asked directly, because it does not take a boot flag any other way.
const powerBus = "bus"
