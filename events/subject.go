package events

import (
	"errors"
	"fmt"
	"strings"
)

const prefix = "omf.v1."

// Filters and stream subjects: the wildcards over whole trees.
const (
	AllRequests  = prefix + "req.>"
	AllReports   = prefix + "rpt.>"
	AllFacts     = prefix + "evt.>"
	AllTelemetry = prefix + "tlm.>"
	AllTimers    = prefix + "timer.>"
	AllDue       = prefix + "due.>"
	// AllServices matches every endpoint of every service.
	AllServices = prefix + "svc.>"
	// AllSetAside matches the messages that nobody could handle.
	AllSetAside = prefix + "dlq.>"
	// AllJobFacts matches every fact of every job of every testbed.
	AllJobFacts = prefix + "evt.*.job.>"
	// AllLeases matches the leases aggregates of every testbed.
	AllLeases = prefix + "evt.*.leases"
)

// ErrSubject is returned for a subject outside this vocabulary.
var ErrSubject = errors.New("not a subject of this vocabulary")

// Verb is the last token of a request, command or service subject.
type Verb string

// Verbs of requests and commands.
const (
	VerbLoad   Verb = "load"
	VerbSave   Verb = "save"
	VerbPower  Verb = "power"
	VerbCancel Verb = "cancel"
	VerbStop   Verb = "stop"
	VerbReboot Verb = "reboot"
	VerbHalt   Verb = "halt"
	VerbProbe  Verb = "probe"
)

func join(tokens ...string) string { return prefix + strings.Join(tokens, ".") }

// RequestSubject is where a request of a testbed is published.
func RequestSubject(testbed string, v Verb) string {
	return join("req", Escape(testbed), string(v))
}

// ReportSubject is where a node reports. A node's credential allows nothing
// but its own subjects here.
func ReportSubject(testbed, node string, k Kind) string {
	return join("rpt", Escape(testbed), "node", Escape(node), string(k))
}

// NodeReports matches all reports of one node.
func NodeReports(testbed, node string) string {
	return join("rpt", Escape(testbed), "node", Escape(node), ">")
}

// JobFactSubject is where a fact of a job stands.
func JobFactSubject(testbed, job string, k Kind) string {
	return join("evt", Escape(testbed), "job", Escape(job), string(k))
}

// NodeFactSubject is where a fact of a node in a job stands.
func NodeFactSubject(testbed, job, node string, k Kind) string {
	return join("evt", Escape(testbed), "job", Escape(job), "node", Escape(node), string(k))
}

// JobFacts matches all facts of one job: the one filter on which a handler
// expects the last sequence.
func JobFacts(testbed, job string) string {
	return join("evt", Escape(testbed), "job", Escape(job), ">")
}

// NodeFacts matches the facts of all nodes of one job, and none of the job
// itself: what archiving removes.
func NodeFacts(testbed, job string) string {
	return join("evt", Escape(testbed), "job", Escape(job), "node", ">")
}

// LeasesSubject is the leases aggregate of a testbed.
func LeasesSubject(testbed string) string { return join("evt", Escape(testbed), "leases") }

// ImageFactSubject is where a fact of an image stands.
func ImageFactSubject(testbed, image string, k Kind) string {
	return join("evt", Escape(testbed), "image", Escape(image), string(k))
}

// ImageFacts matches all facts of one image.
func ImageFacts(testbed, image string) string {
	return join("evt", Escape(testbed), "image", Escape(image), ">")
}

// AllImageFacts matches all image facts of a testbed.
func AllImageFacts(testbed string) string { return join("evt", Escape(testbed), "image", ">") }

// TestbedFacts matches every fact of a testbed.
func TestbedFacts(testbed string) string { return join("evt", Escape(testbed), ">") }

// ProgressSubject is where an agent publishes the progress of a load.
func ProgressSubject(testbed, job, node string) string {
	return join("tlm", Escape(testbed), "job", Escape(job), "node", Escape(node), string(KindProgress))
}

// SaveProgressSubject is where an agent publishes the progress of a save.
func SaveProgressSubject(testbed, job, node string) string {
	return join("tlm", Escape(testbed), "job", Escape(job), "node", Escape(node), string(KindSaveProgress))
}

// JobProgress matches the progress of all nodes of a job, of loads and saves.
func JobProgress(testbed, job string) string {
	return join("tlm", Escape(testbed), "job", Escape(job), ">")
}

// NodeProgress matches the progress of one node's loads in any job: what its
// credential may publish.
func NodeProgress(testbed, node string) string {
	return join("tlm", Escape(testbed), "job", "*", "node", Escape(node), string(KindProgress))
}

// NodeSaveProgress matches the progress of one node's saves in any job: what
// its credential may publish.
func NodeSaveProgress(testbed, node string) string {
	return join("tlm", Escape(testbed), "job", "*", "node", Escape(node), string(KindSaveProgress))
}

// BootSubject is where the boot service says how far a node has come. A node's
// credential does not allow it.
func BootSubject(testbed, node string) string {
	return join("tlm", Escape(testbed), "node", Escape(node), string(KindBootStage))
}

// CommandSubject is where an agent listens for a command.
func CommandSubject(testbed, node string, v Verb) string {
	return join("cmd", Escape(testbed), "node", Escape(node), string(v))
}

// NodeCommands matches all commands of one node.
func NodeCommands(testbed, node string) string {
	return join("cmd", Escape(testbed), "node", Escape(node), "*")
}

// FrisbeeSubject is an endpoint of the image service.
func FrisbeeSubject(testbed, verb string) string {
	return join("svc", Escape(testbed), "frisbee", verb)
}

// HandlerSubject is an endpoint of the handler.
func HandlerSubject(testbed, verb string) string {
	return join("svc", Escape(testbed), "handler", verb)
}

// PowerSubject is where the power of a node is served on the bus.
func PowerSubject(testbed, node, verb string) string {
	return join("svc", Escape(testbed), "power", Escape(node), verb)
}

// NodePower matches all power endpoints of one node.
func NodePower(testbed, node string) string {
	return join("svc", Escape(testbed), "power", Escape(node), "*")
}

// BusSubject is an endpoint of the broker's own service.
func BusSubject(testbed, verb string) string { return join("svc", Escape(testbed), "bus", verb) }

// TimerSubject holds the schedule that wakes a job; publishing again on it
// replaces the schedule, purging it cancels.
func TimerSubject(testbed, job string) string {
	return join("timer", Escape(testbed), "job", Escape(job))
}

// DueSubject receives the wake-up of a job.
func DueSubject(testbed, job string) string { return join("due", Escape(testbed), "job", Escape(job)) }

// SetAsideSubject receives a copy of the messages of a stream that nobody
// could handle, with the reason in the headers.
func SetAsideSubject(stream string) string { return join("dlq", Escape(stream)) }

// Address is a parsed subject: the plain names that its tokens stand for.
// Fields that the subject does not have are empty.
type Address struct {
	Tree    string // req rpt evt tlm cmd svc timer due
	Testbed string
	Job     string
	Node    string
	Image   string
	Kind    Kind // of a report, fact or telemetry
	Verb    Verb // of a request or command
	Leases  bool // the leases aggregate
}

// ParseSubject is the inverse of the constructors for requests, reports,
// facts, telemetry, commands, timers and wake-ups. Subjects of services are
// not parsed: their endpoints are registered one by one.
func ParseSubject(subject string) (Address, error) {
	var a Address
	bad := func() (Address, error) { return Address{}, fmt.Errorf("subject %q: %w", subject, ErrSubject) }
	if len(subject) > 2048 || !strings.HasPrefix(subject, prefix) {
		return bad()
	}
	t := strings.Split(strings.TrimPrefix(subject, prefix), ".")
	if len(t) < 3 {
		return bad()
	}
	var err error
	name := func(token string) string {
		var n string
		if err == nil {
			n, err = Unescape(token)
		}
		return n
	}
	word := func(token string) string {
		if err == nil && (token == "" || strings.ContainsAny(token, " \t\r\n*>")) {
			err = ErrSubject
		}
		return token
	}
	rest := func(from int) string {
		for _, token := range t[from:] {
			word(token)
		}
		return strings.Join(t[from:], ".")
	}
	a.Tree, a.Testbed = t[0], name(t[1])
	switch {
	case a.Tree == "req" && len(t) == 3:
		a.Verb = Verb(word(t[2]))
	case a.Tree == "evt" && len(t) == 3 && t[2] == "leases":
		a.Leases = true
	case a.Tree == "evt" && t[2] == "image" && len(t) >= 5:
		a.Image, a.Kind = name(t[3]), Kind(rest(4))
	case a.Tree == "evt" && t[2] == "job" && len(t) >= 7 && t[4] == "node":
		a.Job, a.Node, a.Kind = name(t[3]), name(t[5]), Kind(rest(6))
	case a.Tree == "evt" && t[2] == "job" && len(t) >= 5:
		a.Job, a.Kind = name(t[3]), Kind(rest(4))
	case a.Tree == "rpt" && t[2] == "node" && len(t) >= 5:
		a.Node, a.Kind = name(t[3]), Kind(rest(4))
	case a.Tree == "tlm" && len(t) >= 7 && t[2] == "job" && t[4] == "node":
		a.Job, a.Node, a.Kind = name(t[3]), name(t[5]), Kind(rest(6))
	case a.Tree == "tlm" && len(t) >= 5 && t[2] == "node":
		a.Node, a.Kind = name(t[3]), Kind(rest(4))
	case a.Tree == "cmd" && len(t) == 5 && t[2] == "node":
		a.Node, a.Verb = name(t[3]), Verb(word(t[4]))
	case (a.Tree == "timer" || a.Tree == "due") && len(t) == 4 && t[2] == "job":
		a.Job = name(t[3])
	default:
		return bad()
	}
	if err != nil {
		return Address{}, fmt.Errorf("subject %q: %w", subject, err)
	}
	return a, nil
}
