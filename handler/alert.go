package handler

import "loadnode/events"

// alarmed tells people that somebody asked for a credential of a boot who
// should not have it. What it means for the job is decided in handler/job; the
// alarm is raised whether there is still a job or not.
func (h *Handler) alarmed(testbed string, m events.CredentialMisused) {
	h.count.add(countAlarms)
	h.log.Error("alarm: credential misused", "testbed", testbed, "node", m.Node, "job", m.Job, "attempt", m.Attempt,
		"reason", m.Reason, "addr", m.Address, "mac", m.MAC, "expected", m.Expected, "delivered", m.Delivered, "text", m.Message)
}
