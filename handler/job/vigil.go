package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// How many looks in a row nobody must have answered before an attempt is
// lost: one alone may be a reconnection that takes a moment.
const (
	looksOff    = 2 // when the power controller says that the machine is off
	looksSilent = 3 // otherwise, and the silence must have lasted
)

// Vigil is what the looks at the agent of one attempt have found so far. It
// is a value; the zero one has found nothing.
type Vigil struct {
	since  time.Time // when the first of them was found unanswered
	missed int       // looks in a row that nobody answered
}

// Look is one look at an agent that is to load or save, or is at it.
type Look struct {
	At time.Time
	// Reply is what the agent answered, nil if it did not.
	Reply *events.CommandReply
	// Word says that there was another sign of it since the look before: a
	// report, telemetry, or a refusal to answer.
	Word bool
	// Blind says that a missing answer proves nothing: the handler was cut off
	// from the bus, or has just come back to it.
	Blind bool
	// Power is what the power controller says: on, off, or anything else.
	Power string
	// Disk is the boot of the node's own disk, if an agent there answers. It
	// is told, and decides nothing: see power.Resident.
	Disk string
}

// See adds a look at the agent of a DoProbe effect, whose Step is the node's
// step from before the look, and returns what follows for the job, nil for
// nothing. An agent that is cut off from the bus goes on by itself:
// unless its machine is known to be off, it has the whole silence to come
// back.
func (v Vigil) See(job string, e Effect, l Look, silence time.Duration) (Vigil, Input) {
	if r := l.Reply; r != nil {
		return Vigil{}, answered(job, e, *r)
	}
	if l.Word || l.Blind {
		return Vigil{}, nil
	}
	if v.missed == 0 {
		v.since = l.At
	}
	v.missed++
	quiet := l.At.Sub(v.since)
	off := l.Power == powerOff && v.missed >= looksOff
	if !off && (v.missed < looksSilent || quiet < silence) {
		return v, nil
	}
	power := l.Power
	if power == "" {
		power = "unknown"
	}
	why := fmt.Sprintf("no word from the agent for %ds; power %s", int(quiet.Seconds()), power)
	if l.Disk != "" {
		why += fmt.Sprintf("; the node runs its own disk (boot %s)", clip(l.Disk, maxName))
	}
	return v, Lost{Node: e.Node, Attempt: e.Attempt, Gone: true, Message: "the agent vanished: " + why, Evidence: why}
}

// powerOff is how power controllers say that a machine does not run.
const powerOff = events.PowerOff

func answered(job string, e Effect, r events.CommandReply) Input {
	switch {
	case r.Boot == "" || r.Boot == e.Boot && (!e.Step.Works() || r.Job == job && r.Attempt == e.Attempt):
		return nil
	case r.Boot == e.Boot:
		return Lost{Node: e.Node, Attempt: e.Attempt,
			Message: fmt.Sprintf("the agent was started anew and knows nothing of the attempt; it says that it is %s", clip(r.State, maxName))}
	case r.Imaging:
		// The machine has restarted by itself into the imaging system: it can
		// begin again as it is. What it says here is its report.
		up := events.Up{NodeRef: events.NodeRef{Node: e.Node, Boot: r.Boot}, Imaging: true}
		if r.Hardware != nil {
			up.Hardware = *r.Hardware
		}
		return Report{Node: e.Node, Data: up, Confirmed: true}
	}
	why := fmt.Sprintf("boot %s became %s, which is not the imaging system", e.Boot, clip(r.Boot, maxName))
	return Lost{Node: e.Node, Attempt: e.Attempt, Gone: true, Message: "the machine restarted during the attempt: " + why, Evidence: why}
}
