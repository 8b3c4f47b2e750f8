package job

import (
	"fmt"

	"loadnode/events"
)

// hint names what to do next for a failed node, with the commands that there
// are (docs/failures.md).
func hint(class events.Class, n *Node, s State) string {
	if s.Saves() {
		return saveHint(class, n, s)
	}
	image := s.Plan.Image.Name
	again := fmt.Sprintf("omf load '%s' %s", n.Name, image)
	if n.Load != nil && class != events.ClassCancelled {
		return fmt.Sprintf("the disk is loaded and need not be loaded again; %s by hand", byHand(s))
	}
	if text := upHint(class, n, again); text != "" {
		return text
	}
	switch class {
	case events.ClassRefused:
		return fmt.Sprintf("nothing was written; see its disks in pxe.up of: omf watch %s -o jsonl, and choose one with: %s --disk SELECTOR", s.Job, again)
	case events.ClassImage:
		return "run: omf images verify " + image
	case events.ClassJoin:
		return "is the image service up, and is UDP let through? run: omf images"
	case events.ClassStalled:
		return fmt.Sprintf("an IGMP snooping switch without a querier is the classic; then run: %s", again)
	case events.ClassReceive:
		return fmt.Sprintf("run: omf images verify %s; if it is good, suspect the node's memory or cable", image)
	case events.ClassVerify:
		return fmt.Sprintf("do not trust this disk; run: %s --verify readback", again)
	case events.ClassWrite:
		return fmt.Sprintf("look at dmesg and SMART of the node before you run: %s", again)
	case events.ClassCancelled:
		if n.Step == Loading {
			return fmt.Sprintf("its disk is partly written; run: %s", again)
		}
		return "run: " + again
	default:
		return fmt.Sprintf("see how far it came with: omf job show %s; then run: %s", s.Job, again)
	}
}

// saveHint is the hint for a node whose disk was to be saved, which changes
// nothing on it.
func saveHint(class events.Class, n *Node, s State) string {
	again := fmt.Sprintf("omf save '%s' %s", n.Name, s.Plan.Save.Image)
	if n.Save != nil && class != events.ClassCancelled {
		return fmt.Sprintf("the image %s is stored and need not be saved again; %s by hand", n.Save.Image.Name, byHand(s))
	}
	if text := upHint(class, n, again); text != "" {
		return text
	}
	switch class {
	case events.ClassRefused:
		if n.Fault != nil && n.Fault.Evidence.Text == string(events.CodeUnsupported) {
			return fmt.Sprintf("the agent of this node (%s) cannot save; boot the node into an imaging system with omf-agent", n.Agent)
		}
		return fmt.Sprintf("see its disks in pxe.up of: omf watch %s -o jsonl, and choose one with: %s --disk SELECTOR", s.Job, again)
	case events.ClassImage:
		return fmt.Sprintf("see the names that are taken with: omf images ls; then run: omf save '%s' and another name", n.Name)
	case events.ClassRead:
		return "look at dmesg and SMART of the node: what its disk does not give cannot be saved"
	case events.ClassStore:
		return fmt.Sprintf("look at the free space and the log of the image service, then run: %s", again)
	case events.ClassCancelled:
		if n.Attempt > 0 { // the image service may have stored it, and nobody has asked
			return fmt.Sprintf("its disk is as it was; the image may have been whole already: see omf images ls, and remove it with omf images rm %s, or run: %s", s.Plan.Save.Image, again)
		}
		return "no image came of it, and its disk is as it was; run: " + again
	default:
		return fmt.Sprintf("see how far it came with: omf job show %s; then run: %s", s.Job, again)
	}
}

// upHint is the hint for a node that did not come up in the imaging system,
// whatever it was to do there.
func upHint(class events.Class, n *Node, again string) string {
	switch class {
	case events.ClassPower:
		return fmt.Sprintf("try its power driver (%s) by hand, then run: %s", n.Power, again)
	case events.ClassCheckin:
		return fmt.Sprintf("watch its console (boot order, DHCP, boot flag) while you run: %s", again)
	case events.ClassCredential:
		return fmt.Sprintf("somebody else asked for its credential, or had it; see who in the evidence before you run: %s", again)
	}
	return ""
}

// byHand is what is left to do with a machine that would not leave.
func byHand(s State) string {
	if s.Plan.Then == events.ThenReboot {
		return "restart the machine"
	}
	return "switch the machine off"
}
