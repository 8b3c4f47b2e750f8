package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// booted is what the boot service saw of the current attempt of a node; ok is
// false when it told nothing, as where nodes are booted by other means.
func (d *decider) booted(n *Node) (b events.BootStage, ok bool) {
	if d.at.Booted == nil {
		return b, false
	}
	b, ok = d.at.Booted(n.Name)
	return b, ok && b.Job == d.s.Job && b.Attempt == n.Attempt && b.Stage != ""
}

// cameTo says how far a node came on its way into the imaging system.
func cameTo(b events.BootStage) string {
	at := b.Time.UTC().Format(time.RFC3339)
	mac := clip(b.MAC, maxName)
	switch b.Stage {
	case events.StageArmed:
		return "no DHCP request was seen from MAC " + mac
	case events.StageDHCP:
		return fmt.Sprintf("the node asked by DHCP where to boot from at %s, and fetched no loader", at)
	case events.StageTFTP:
		return fmt.Sprintf("the node fetched its loader at %s and did not ask for its script", at)
	case events.StageScript:
		return fmt.Sprintf("the node's loader asked what to start at %s and did not fetch the kernel", at)
	case events.StageKernel:
		return fmt.Sprintf("the node fetched its kernel at %s and was not heard of again", at)
	case events.StageInitrd:
		return fmt.Sprintf("the node fetched kernel and initrd, at %s, and its imaging system did not ask for its configuration", at)
	case events.StageConfig:
		if b.Detail != "" {
			return fmt.Sprintf("the imaging system asked for its configuration at %s: %s", at, clip(b.Detail, maxMessage/2))
		}
		return fmt.Sprintf("the imaging system got its configuration at %s, and its agent did not report", at)
	default:
		return fmt.Sprintf("the last that was seen of its boot is %s at %s", clip(b.Stage, maxName), at)
	}
}

// bootHint is what to look at for a node that came no further.
func bootHint(b events.BootStage, n *Node) string {
	switch b.Stage {
	case events.StageArmed:
		return fmt.Sprintf("does %s boot from the network first, is %s its MAC, is its switch port in the network of the boot service? its power driver is %s", n.Name, clip(b.MAC, maxName), n.Power)
	case events.StageDHCP:
		return "is UDP port 69 let through, and is the loader in the boot directory? see the log of the role netboot"
	case events.StageTFTP:
		return "is the HTTP port of omf serve let through to the nodes, and is --boot-base right?"
	case events.StageScript, events.StageKernel:
		return "are kernel and initrd in the boot directory, and is the HTTP port let through? see the log of the role netboot"
	case events.StageInitrd:
		return fmt.Sprintf("watch the console of %s: no driver for its network card in the imaging system, or not memory enough?", n.Name)
	default:
		return fmt.Sprintf("watch the console of %s; is the bus let through to the nodes, and is --boot-bus right?", n.Name)
	}
}
