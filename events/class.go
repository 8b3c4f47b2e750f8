package events

// Class says at which step a node or a request failed. Each class has one
// remedy to begin with; see docs/failures.md.
type Class string

// Failure classes.
const (
	ClassRefused Class = "refused" // the agent's safety gate or policy refused, nothing was written
	ClassPower   Class = "power"   // the power driver could not act
	ClassCheckin Class = "checkin" // the node did not come up in the imaging system
	// ClassCredential: somebody else asked for the node's credential, or had it.
	ClassCredential Class = "credential"

	ClassImage     Class = "image"     // the image could not be served
	ClassJoin      Class = "join"      // the agent got no answer from the image's session
	ClassStalled   Class = "stalled"   // joined, but data stopped coming
	ClassReceive   Class = "receive"   // data came and was not what the manifest says
	ClassVerify    Class = "verify"    // the disk read back differs from what was written
	ClassWrite     Class = "write"     // the disk refused a write
	ClassRead      Class = "read"      // the disk refused a read
	ClassStore     Class = "store"     // the image did not arrive whole at the image service
	ClassTimeout   Class = "timeout"   // a deadline passed with no word from the node
	ClassCancelled Class = "cancelled" // the job was cancelled
)

// Classes lists every failure class.
func Classes() []Class {
	return []Class{
		ClassRefused, ClassPower, ClassCheckin, ClassCredential, ClassImage, ClassJoin, ClassStalled,
		ClassReceive, ClassVerify, ClassWrite, ClassRead, ClassStore, ClassTimeout, ClassCancelled,
	}
}

// Assurance says how well a loaded disk is known to be right.
type Assurance string

// Assurances, from strong to weak.
const (
	AssuranceReadback   Assurance = "readback"   // the disk was read again and compared
	AssuranceWritten    Assurance = "written"    // every chunk verified, written, synced
	AssuranceUnverified Assurance = "unverified" // a legacy agent said so
)

// Then says what becomes of a node after its load.
type Then string

// What becomes of a node after its load.
const (
	ThenShutdown Then = "shutdown" // powered off by its own system; the default
	ThenReboot   Then = "reboot"   // rebooted into the loaded disk
	ThenStay     Then = "stay"     // left in the imaging system
)

// Outcome is how a job ended.
type Outcome string

// Outcomes of a job.
const (
	OutcomeOK        Outcome = "ok"        // every node, or the quorum that was asked for
	OutcomePartial   Outcome = "partial"   // some nodes failed
	OutcomeFailed    Outcome = "failed"    // no node succeeded, or the quorum was missed
	OutcomeTimeout   Outcome = "timeout"   // the job's deadline passed
	OutcomeCancelled Outcome = "cancelled" // cancelled by a request
	OutcomePlanned   Outcome = "planned"   // dry run: the plan was made and nothing else
)
