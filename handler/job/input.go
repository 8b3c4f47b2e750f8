package job

import (
	"errors"
	"time"

	"loadnode/events"
)

// Moment is what Decide may know beside the state and the input.
type Moment struct {
	// Now is the time of the decision; new facts carry it.
	Now time.Time
	// Awake is the earliest time at which a deadline counts as missed: a
	// handler that was down, or cut off from the bus, first hears the reports
	// that were kept for it. Zero: deadlines count at once.
	Awake time.Time
	// Seen tells what was last heard of a node outside of this job; nil for
	// nothing. It must be a pure look-up.
	Seen func(node string) Sighting
	// Booted tells how far a node has come on its way into the imaging system,
	// for nodes that a boot service leads there; nil for nothing. It must be a
	// pure look-up.
	Booted func(node string) (events.BootStage, bool)
}

// Sighting is what was last heard of a node, from its up reports or from the
// agent on its own disk.
type Sighting struct {
	Boot    string    // boot id; empty if it was never heard
	Imaging bool      // ran the imaging system
	Time    time.Time // when
}

func (m Moment) seen(node string) Sighting {
	if m.Seen == nil {
		return Sighting{}
	}
	return m.Seen(node)
}

// missed reports whether a deadline has passed.
func (m Moment) missed(deadline time.Time) bool {
	return !deadline.IsZero() && !m.Now.Before(deadline) && !m.Now.Before(m.Awake)
}

// Input is something that happened.
type Input interface{ input() }

// Tick is the passing of time.
type Tick struct{}

// Request is a new request. It is valid for a job without facts only.
type Request struct {
	Job       string
	Load      events.LoadRequest
	Save      *events.SaveRequest // of a job that saves; Load is empty then
	Requester string
	Expires   time.Time
	Raw       string // beginning of a request that is not to be carried out
	// Correlation is the id of the request's event, for the envelopes of all
	// facts of the job; Decide does not look at it.
	Correlation string
	Reject      *events.Error // rejects the request at once
}

// Planned is a plan whose nodes are leased (or whose request is a dry run).
type Planned struct{ Plan events.JobAccepted }

// Refuse ends a request that was not accepted.
type Refuse struct{ Error events.Error }

// Cancel ends the job.
type Cancel struct {
	Reason    string
	Requester string
}

// Report is what a node said about itself. The caller has checked that the
// credential it came with is the node's own.
type Report struct {
	ID   string // becomes the causation of the facts
	Node string // from the subject, not from the data
	Data events.Data
	// Stored is when the stream took the report; zero if that is not known.
	Stored time.Time
	// Confirmed says that the agent itself, asked for it, named the boot of
	// this up report: needed before a load in progress is given up for it.
	Confirmed bool
	// Overtaken says of a load.done or save.done that the report of its
	// beginning was waited for long enough: with several handlers the later
	// report may be taken first.
	Overtaken bool
	// Place is what the image service says of the place of the attempt whose
	// save.done this is; without it no such report is believed.
	Place *events.Place
	// Observable says of a leaving report that the power controller can tell
	// whether the node is on: the end of the shutdown is awaited there.
	Observable bool
}

// Served is the session of the image.
type Served struct{ Session events.ImageServed }

// NotServed says that the image will not be served.
type NotServed struct{ Error events.Error }

// NotBooted says that the power controller could not act on a reboot.
type NotBooted struct {
	Node    string
	Attempt int
	Message string
}

// NotLoaded says that the agent refused the command to load or to save.
type NotLoaded struct {
	Node    string
	Attempt int
	Error   events.Error
}

// NoPlace says that the image service gives no place for the image of a save,
// and will not.
type NoPlace struct {
	Node    string
	Attempt int
	Error   events.Error
}

// Placed says what has become of the place of an attempt, or of one before it,
// whose agent knows nothing of it any more: the image is stored, or it failed.
type Placed struct {
	Node    string
	Attempt int
	Place   events.Place
}

// Lost says that an attempt will never end by itself (Vigil). Unless Gone is
// set, the agent, on the right boot, knows nothing of the load or save that it
// had begun: it was started again, and may try again. With Gone the agent does
// not answer any more, or the machine runs something else: only a reboot
// helps.
type Lost struct {
	Node     string
	Attempt  int
	Message  string
	Gone     bool
	Evidence string
}

// Left says that a node was seen to have gone: "leaving" or "power".
type Left struct {
	Node  string
	Leave int // Node.Leaves
	Seen  string
}

// NotLeft says that a shutdown or reboot could not be asked for.
type NotLeft struct {
	Node    string
	Leave   int
	Message string
}

// Stopped says that a node of a cancelled job does nothing for it any more,
// or cannot be told so.
type Stopped struct {
	Node    string
	Message string
}

// Freed says that session and nodes are released: the job may finish.
type Freed struct{}

func (Tick) input()      {}
func (Request) input()   {}
func (Planned) input()   {}
func (Refuse) input()    {}
func (Cancel) input()    {}
func (Report) input()    {}
func (Served) input()    {}
func (NotServed) input() {}
func (NotBooted) input() {}
func (NotLoaded) input() {}
func (NoPlace) input()   {}
func (Placed) input()    {}
func (Lost) input()      {}
func (Left) input()      {}
func (NotLeft) input()   {}
func (Stopped) input()   {}
func (Freed) input()     {}

// ErrRefused is wrapped by every refusal of a report or of a stale result.
var ErrRefused = errors.New("refused")

// Reason says why a report makes no fact.
type Reason string

// Reasons for which a report makes no fact.
const (
	ReasonOver        Reason = "over"        // the job has ended
	ReasonJob         Reason = "job"         // it names another job
	ReasonForged      Reason = "forged"      // it names another node than the one that sent it
	ReasonNotHeld     Reason = "not_held"    // the job does not hold the node
	ReasonAttempt     Reason = "attempt"     // of another attempt
	ReasonBoot        Reason = "boot"        // of another boot
	ReasonStep        Reason = "step"        // the node is not at a step where this can happen
	ReasonNotImaging  Reason = "not_imaging" // the node runs its own disk, not the imaging system
	ReasonUnconfirmed Reason = "unconfirmed" // the agent has to be asked whether it is so
	ReasonEarly       Reason = "early"       // a report before it is still on its way
	ReasonRepeated    Reason = "repeated"    // its fact stands already: no fault of anybody
	ReasonKind        Reason = "kind"        // not a report that a job can use
)

// Refusal is the error of Decide for an input that makes no fact.
type Refusal struct {
	Reason Reason
	Text   string
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Text }

// Unwrap makes errors.Is(err, ErrRefused) true.
func (r *Refusal) Unwrap() error { return ErrRefused }
