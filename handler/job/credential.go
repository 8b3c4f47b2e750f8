package job

import (
	"fmt"

	"loadnode/events"
)

// credentialMisused fails the attempt of a boot whose credential somebody asked
// for that should not have it, or once more. Which of two was the node is not
// to be known, so the boot is not trusted any more: the next attempt begins
// with a reboot, which revokes the credential.
func (d *decider) credentialMisused(n *Node, m events.CredentialMisused) error {
	switch {
	case m.Job != d.s.Job || m.Attempt != n.Armed:
		return refuse(ReasonAttempt, "node %s: the credential of another boot was misused", n.Name)
	case n.Step != Rebooting && n.Step != Up && !n.Step.Works():
		return refuse(ReasonStep, "node %s is %s and needs its credential no more", n.Name, n.Step)
	}
	text := fmt.Sprintf("asked from %s naming %s, the node is at %s", clip(m.Address, maxName), clip(m.MAC, maxName), clip(m.Expected, maxName))
	if !m.Delivered.IsZero() {
		text += ", delivered " + m.Delivered.UTC().Format("2006-01-02T15:04:05Z")
	}
	d.setback(n, events.LoadFailed{
		Class: events.ClassCredential, Message: m.Message, Evidence: events.Evidence{Text: text},
		Retry: d.mayLoadAgain(n) && d.mayBootAgain(n),
	})
	return nil
}
