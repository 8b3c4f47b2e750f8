package events

import "time"

// NodeRef says which attempt of which job on which boot of a node an event is
// about. Reports carry it so that stale ones can be told apart.
type NodeRef struct {
	Job     string `json:"job,omitempty"`
	Node    string `json:"node"`
	Attempt int    `json:"attempt,omitempty"` // from 1, counts reboots and repeated loads of the job
	Boot    string `json:"boot,omitempty"`    // boot id, made by the node at each start
}

// RefOf is what data about a node says of the attempt; ok is false for data that
// are about no node.
func RefOf(d Data) (ref NodeRef, ok bool) {
	about, ok := d.(interface{ ref() NodeRef })
	if !ok {
		return NodeRef{}, false
	}
	return about.ref(), true
}

func (r NodeRef) ref() NodeRef { return r }

// Evidence is what is known about a failure.
type Evidence struct {
	LastEvent string           `json:"last_event,omitempty"` // the last fact before it
	Text      string           `json:"text,omitempty"`       // error text, output of a script
	Counters  map[string]int64 `json:"counters,omitempty"`   // blocks, retries, corrupt chunks, …
	Chunk     *int             `json:"chunk,omitempty"`      // the bad chunk
	First     *int64           `json:"first,omitempty"`      // first bad byte of the disk or image
	Last      *int64           `json:"last,omitempty"`       // first byte behind the bad range
}

// RebootRequested asks for the node in its imaging system. Boot in the NodeRef
// is the boot before, if it was known.
type RebootRequested struct {
	NodeRef
	Effect   string    `json:"effect"`   // id of the power effect
	Hard     bool      `json:"hard"`     // power controller, not the node's own system
	Deadline time.Time `json:"deadline"` // pxe.up must stand by then
}

// PxeUp says that the node runs its imaging system.
type PxeUp struct {
	NodeRef
	Address  string    `json:"address,omitempty"`
	Agent    string    `json:"agent,omitempty"` // version
	Hardware Hardware  `json:"hardware"`
	Deadline time.Time `json:"deadline"` // load.started must stand by then
}

// LoadStarted says that the agent has joined the session and opened the disk.
// As a report it has no deadline.
type LoadStarted struct {
	NodeRef
	Session  string    `json:"session,omitempty"`
	Disk     Disk      `json:"disk"`
	Deadline time.Time `json:"deadline,omitzero"` // load.done must stand by then
}

// LoadDone says that every chunk is verified, written and synced.
type LoadDone struct {
	NodeRef
	Assurance    Assurance        `json:"assurance"`
	Digest       string           `json:"digest"`        // of the manifest that the chunks were checked against
	Chunks       int              `json:"chunks"`        // verified and written
	BytesWritten int64            `json:"bytes_written"` // to the disk
	DiskBytes    int64            `json:"disk_bytes"`    // described, gaps included
	Took         Duration         `json:"took"`
	Grown        *Grown           `json:"grown,omitempty"`        // the request asked for it
	Personalised bool             `json:"personalised,omitempty"` // the assurance is about the image, before that
	Counters     map[string]int64 `json:"counters,omitempty"`
}

// LoadFailed says that an attempt failed. The fact says in Retry what the
// handler decided; the report leaves it out.
type LoadFailed struct {
	NodeRef
	Class     Class    `json:"class"`
	Message   string   `json:"message"`
	Evidence  Evidence `json:"evidence"`
	Retryable bool     `json:"retryable,omitempty"` // the agent thinks that another attempt may succeed
	Retry     bool     `json:"retry,omitempty"`     // another attempt follows
}

// ShutdownRequested asks for what the job's Then says.
type ShutdownRequested struct {
	NodeRef
	Effect   string    `json:"effect"`
	Then     Then      `json:"then"` // shutdown or reboot
	Hard     bool      `json:"hard"` // through the power controller, the node did not obey
	Deadline time.Time `json:"deadline"`
}

// ShutdownDone says that the node is off, and how that is known: "leaving"
// (its own last report) or "power" (the controller says off).
type ShutdownDone struct {
	NodeRef
	Seen string `json:"seen"`
}

// RebootDone says that the node left for its disk.
type RebootDone struct {
	NodeRef
	Seen string `json:"seen"`
}

// NodeFailed ends a node's part of a job. It may come at any point.
type NodeFailed struct {
	NodeRef
	Class    Class    `json:"class"`
	Message  string   `json:"message"`
	Evidence Evidence `json:"evidence"`
	Hint     string   `json:"hint"` // the next command to run
}

// Up is an agent's report that it runs: after each start and whenever it
// found itself forgotten.
type Up struct {
	NodeRef
	Imaging  bool     `json:"imaging"` // runs in the imaging system, not on the node's own disk
	Address  string   `json:"address,omitempty"`
	Agent    string   `json:"agent,omitempty"`
	Hardware Hardware `json:"hardware"`
}

// Leaving is an agent's last report before it halts or reboots its machine.
type Leaving struct {
	NodeRef
	Effect string `json:"effect,omitempty"` // the command it obeys
	How    Verb   `json:"how"`              // halt or reboot
}

// Progress is telemetry of a load: at most once a second for each node, and
// at each change of phase.
type Progress struct {
	NodeRef
	Phase         string           `json:"phase"` // joining, receiving, syncing, verifying, done
	Percent       float64          `json:"percent"`
	Chunks        int              `json:"chunks"`
	ChunksWritten int              `json:"chunks_written"`
	BytesReceived int64            `json:"bytes_received"`
	BytesWritten  int64            `json:"bytes_written"`
	Counters      map[string]int64 `json:"counters,omitempty"`
}

// Kind implements Data.
func (RebootRequested) Kind() Kind { return KindRebootRequested }

// Kind implements Data.
func (PxeUp) Kind() Kind { return KindPxeUp }

// Kind implements Data.
func (LoadStarted) Kind() Kind { return KindLoadStarted }

// Kind implements Data.
func (LoadDone) Kind() Kind { return KindLoadDone }

// Kind implements Data.
func (LoadFailed) Kind() Kind { return KindLoadFailed }

// Kind implements Data.
func (ShutdownRequested) Kind() Kind { return KindShutdownRequested }

// Kind implements Data.
func (ShutdownDone) Kind() Kind { return KindShutdownDone }

// Kind implements Data.
func (RebootDone) Kind() Kind { return KindRebootDone }

// Kind implements Data.
func (NodeFailed) Kind() Kind { return KindNodeFailed }

// Kind implements Data.
func (Up) Kind() Kind { return KindUp }

// Kind implements Data.
func (Leaving) Kind() Kind { return KindLeaving }

// Kind implements Data.
func (Progress) Kind() Kind { return KindProgress }
