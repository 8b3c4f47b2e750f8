package job

import (
	"time"

	"loadnode/events"
)

// Phase is where a job as a whole stands. The words are those of
// events.JobSummary.
type Phase string

// Phases of a job.
const (
	Unknown    Phase = "" // no fact yet
	Requested  Phase = "requested"
	Accepted   Phase = "accepted"
	Rejected   Phase = "rejected"
	Cancelling Phase = "cancelling"
	Finished   Phase = "finished"
)

// Step is where a node of a job stands. The words are those of
// events.JobNode.
type Step string

// Steps of a node, see the package comment.
const (
	Pending   Step = "pending"
	Rebooting Step = "rebooting"
	Up        Step = "up"
	Loading   Step = "loading"
	Loaded    Step = "loaded"
	Saving    Step = "saving"
	Saved     Step = "saved"
	Leaving   Step = "leaving"
	Done      Step = "done"
	Failed    Step = "failed"
)

// Works reports whether an agent is at work at the step: it loads or saves.
func (s Step) Works() bool { return s == Loading || s == Saving }

// Fault is why the last attempt of a node failed.
type Fault struct {
	Class    events.Class
	Message  string
	Evidence events.Evidence
	Final    bool // no attempt follows; node.failed does
}

// Node is a node of a job. Values reachable from a State are never changed.
type Node struct {
	events.PlannedNode
	Step     Step
	Attempt  int                       // the current one; 0 before the first
	Boots    int                       // reboot.requested facts
	Failures int                       // load.failed and save.failed facts
	Boot     string                    // boot id of the imaging system, once up
	PrevBoot string                    // boot id before the last reboot, if it was known
	Armed    int                       // attempt that the last reboot was requested for
	Hard     bool                      // the last reboot or shutdown goes to the power controller
	Leaves   int                       // shutdown.requested facts
	Alarms   int                       // credential.misused facts
	Alarm    *events.CredentialMisused // the last one
	Alarmed  int                       // attempt for whose boot an alarm stands that did not fail it
	Deadline time.Time
	Since    time.Time   // of the current step
	Last     events.Kind // last fact of the node
	Fault    *Fault
	Load     *events.LoadDone
	Save     *events.SaveDone
	Result   *events.NodeResult
}

// delivered reports whether what the job wants of the node stands: its disk
// is loaded, or its image is stored. What follows changes nothing about that.
func (n *Node) delivered() bool { return n.Load != nil || n.Save != nil }

// Ended reports whether the node has its terminal fact.
func (n *Node) Ended() bool { return n.Step == Done || n.Step == Failed }

// doomed reports whether the node has failed for good and only its terminal
// fact is missing.
func (n *Node) doomed() bool { return !n.Ended() && n.Fault != nil && n.Fault.Final }

// Late reports whether a node was to be up in the imaging system by now and is
// not.
func (n *Node) Late(at Moment) bool {
	return n.Step == Rebooting && !n.Deadline.IsZero() && !at.Now.Before(n.Deadline)
}

func (n *Node) ref(job string) events.NodeRef {
	return events.NodeRef{Job: job, Node: n.Name, Attempt: n.Attempt, Boot: n.Boot}
}

// State is a job as its facts tell it. It is a value: Apply returns a new one
// and leaves the old one as it was.
type State struct {
	Job       string
	Phase     Phase
	Request   events.LoadRequest  // of a job that loads
	Save      *events.SaveRequest // of a job that saves
	Requester string
	Raw       string
	Requested time.Time
	Expires   time.Time
	Plan      *events.JobAccepted
	Began     time.Time // of job.accepted
	Served    *events.ImageServed
	Cancel    *events.JobCancelled
	CancelAt  time.Time
	Reject    *events.Error
	Result    *events.JobFinished
	Ended     time.Time // of the terminal fact
	TimedOut  bool      // the deadline of the job ended at least one node
	// Ignored counts facts that are not of this vocabulary or do not fit the
	// state. They change nothing.
	Ignored int

	nodes []*Node
	index map[string]int
}

// Nodes returns the nodes in the order of the plan. The caller must not
// change them.
func (s State) Nodes() []*Node { return s.nodes }

// Node returns one node of the plan.
func (s State) Node(name string) (*Node, bool) {
	i, ok := s.index[name]
	if !ok {
		return nil, false
	}
	return s.nodes[i], true
}

// Saves reports whether the job saves its node, and loads none.
func (s State) Saves() bool {
	if s.Plan != nil {
		return s.Plan.Save != nil
	}
	return s.Save != nil
}

// Image is the name of the image that is loaded or made, as far as it is
// known: a save that was asked for without one gets it with the plan.
func (s State) Image() string {
	switch {
	case s.Plan != nil:
		return s.Plan.Image.Name
	case s.Save != nil:
		return s.Save.Image
	}
	return s.Request.Image
}

// waits reports whether the request may wait for its nodes.
func (s State) waits() bool { return s.Request.Wait || s.Save != nil && s.Save.Wait }

// Over reports whether the job has its terminal fact.
func (s State) Over() bool { return s.Phase == Rejected || s.Phase == Finished }

// settled reports whether every node has its terminal fact and the job does
// not have its own yet.
func (s State) settled() bool {
	if s.Phase != Accepted && s.Phase != Cancelling {
		return false
	}
	for _, n := range s.nodes {
		if !n.Ended() {
			return false
		}
	}
	return true
}

// Count returns how many nodes are at a step.
func (s State) Count(step Step) int {
	c := 0
	for _, n := range s.nodes {
		if n.Step == step {
			c++
		}
	}
	return c
}

// with returns the state with a changed copy of one node.
func (s State) with(i int, change func(*Node)) State {
	n := *s.nodes[i]
	change(&n)
	nodes := make([]*Node, len(s.nodes))
	copy(nodes, s.nodes)
	nodes[i] = &n
	s.nodes = nodes
	return s
}
