package events

import "time"

// Reasons of CredentialMisused.
const (
	MisuseSecond  = "second"  // it was asked for once more after it was delivered
	MisuseAddress = "address" // another address than the node's own asked for it
)

// CredentialMisused is the report of whoever hands out the credentials of
// boots: one was asked for that is not to be had. People are told. What it means
// for the attempt depends on the reason: after MisuseSecond it fails, because a
// MAC and an address can be taken by others, and who of two was the node is not
// to be known; after MisuseAddress it goes on, because nothing was delivered,
// and otherwise anybody could end the work of others with one request. Nodes
// cannot report it. As a fact of a node in a job it is the alarm in the job's
// log, once for each reason and boot.
type CredentialMisused struct {
	NodeRef             // job, node and attempt of the reboot
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Address   string    `json:"address"`            // that asked
	MAC       string    `json:"mac,omitempty"`      // that it named
	Expected  string    `json:"expected,omitempty"` // the node's own address
	Delivered time.Time `json:"delivered,omitzero"` // when the credential was handed out
	Time      time.Time `json:"time"`
}

// Kind implements Data.
func (CredentialMisused) Kind() Kind { return KindCredentialMisused }

// NodeReboots matches the facts, in any job, that asked for a node in its
// imaging system.
func NodeReboots(testbed, node string) string {
	return join("evt", Escape(testbed), "job", "*", "node", Escape(node), string(KindRebootRequested))
}

// NodeLife matches all facts of one node in one job.
func NodeLife(testbed, job, node string) string {
	return join("evt", Escape(testbed), "job", Escape(job), "node", Escape(node), ">")
}

// Filters for what ends the credential of a boot, of every testbed.
const (
	AllReboots  = prefix + "evt.*.job.*.node.*.reboot.requested"
	AllFinished = prefix + "evt.*.job.*.job.finished"
)
