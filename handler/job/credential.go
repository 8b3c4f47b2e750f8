package job

import (
	"fmt"

	"loadnode/events"
)

// credentialMisused writes the alarm into the log of the job, and fails the
// attempt of a boot whose credential was asked for once more. Which of two was
// the node is not to be known, so the boot is not trusted any more: the next
// attempt begins with a reboot, which revokes the credential.
//
// A request from another address than the node's is refused and changes
// nothing: otherwise whoever is on the network could fail the attempts of
// others. It is written down once for each boot, so that nobody can fill the
// log.
func (d *decider) credentialMisused(n *Node, m events.CredentialMisused) error {
	harmless := m.Reason == events.MisuseAddress
	switch {
	case m.Job != d.s.Job || m.Attempt != n.Armed:
		return refuse(ReasonAttempt, "node %s: the credential of another boot was misused", n.Name)
	case n.Step != Rebooting && n.Step != Up && !n.Step.Works():
		return refuse(ReasonStep, "node %s is %s and needs its credential no more", n.Name, n.Step)
	case harmless && n.Alarmed == m.Attempt:
		return refuse(ReasonRepeated, "node %s: that its credential was asked for from elsewhere is known", n.Name)
	}
	m.NodeRef = events.NodeRef{Job: d.s.Job, Node: n.Name, Attempt: m.Attempt, Boot: n.Boot}
	m.Reason, m.Message = clip(m.Reason, maxName), clip(m.Message, maxMessage)
	m.Address, m.MAC, m.Expected = clip(m.Address, maxName), clip(m.MAC, maxName), clip(m.Expected, maxName)
	d.emit(n.Name, n.Alarms+1, m)
	if harmless {
		return nil
	}
	text := fmt.Sprintf("asked from %s naming %s, the node is at %s", m.Address, m.MAC, m.Expected)
	if !m.Delivered.IsZero() {
		text += ", delivered " + m.Delivered.UTC().Format("2006-01-02T15:04:05Z")
	}
	d.setback(n, events.LoadFailed{
		Class: events.ClassCredential, Message: m.Message, Evidence: events.Evidence{Text: text},
		Retry: d.mayLoadAgain(n) && d.mayBootAgain(n),
	})
	return nil
}
