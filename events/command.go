package events

import "time"

// LoadCommand tells an agent to load: cmd.<tb>.node.<node>.load. The agent
// refuses it when Boot is not its boot; it answers a repeated command for the
// same job and attempt with the running operation, or with its outcome.
type LoadCommand struct {
	NodeRef
	Effect  string  `json:"effect"`
	Image   Image   `json:"image"`
	Session Session `json:"session"`
	Disk    string  `json:"disk"` // selector
	Verify  string  `json:"verify,omitempty"`
	Free    string  `json:"free,omitempty"` // "", zero or discard: what becomes of the image's free space
	Resize  string  `json:"resize,omitempty"`
	// Personalise is what is written into the loaded system.
	Personalise *Personalise `json:"personalise,omitempty"`
	Join        Duration     `json:"join"`     // no answer from the server: class join
	Stall       Duration     `json:"stall"`    // joined, no data: class stalled
	Deadline    time.Time    `json:"deadline"` // the agent gives up by itself
}

// StopCommand tells an agent to end what it does for a job. Zero Attempt
// means any.
type StopCommand struct {
	NodeRef
	Effect string `json:"effect"`
}

// LeaveCommand tells an agent to halt or reboot its machine, after its last
// report is acknowledged: verbs halt and reboot. An agent that does not run
// Boot refuses: the machine has restarted since.
type LeaveCommand struct {
	NodeRef
	Effect string `json:"effect"`
}

// CommandReply is the answer of an agent to every command.
type CommandReply struct {
	NodeRef                    // what the agent is doing or did last; Boot is always set
	State     string           `json:"state"` // idle, loading, loaded, saving, saved, failed, leaving
	Imaging   bool             `json:"imaging"`
	Percent   float64          `json:"percent,omitempty"`
	Loads     int              `json:"loads"` // loads begun since the agent started
	LastError string           `json:"last_error,omitempty"`
	Counters  map[string]int64 `json:"counters,omitempty"`
	Hardware  *Hardware        `json:"hardware,omitempty"` // probe only
}

// Verbs of the power of a node.
const (
	PowerOn     = "on"
	PowerOff    = "off"   // hard
	PowerSoft   = "soft"  // asks the system to shut down
	PowerReset  = "reset" // hard
	PowerCycle  = "cycle" // off, then on
	PowerStatus = "status"
)

// PowerRequest asks for a power action: svc.<tb>.power.<node>.<verb>. The
// same Effect is acted on once.
type PowerRequest struct {
	Testbed string `json:"testbed,omitempty"`
	Node    string `json:"node"`
	Action  string `json:"action"`
	Effect  string `json:"effect,omitempty"`
	// Boot, if it is set, is the only boot of the machine that the request is
	// for: a resident agent refuses it in any other with CodeStale.
	Boot string `json:"boot,omitempty"`
	// Netboot asks that the start that follows leads into the imaging system;
	// used where no other boot flag exists (the simulator).
	Netboot bool `json:"netboot,omitempty"`
}

// PowerState is what a power controller knows of a node.
type PowerState struct {
	Power      string `json:"power"`          // on, off, unknown
	Boot       string `json:"boot,omitempty"` // boot id of the running system, if known
	LastEffect string `json:"last_effect,omitempty"`
	Cycles     int    `json:"cycles"` // starts of the machine since it was made; -1 unknown
}
