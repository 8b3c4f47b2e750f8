package events

import "time"

// JobRequested is the first fact of every job: the request as it was taken.
type JobRequested struct {
	Job       string       `json:"job"`
	Request   LoadRequest  `json:"request,omitzero"`    // of a load
	Save      *SaveRequest `json:"save,omitempty"`      // of a save
	Requester string       `json:"requester,omitempty"` // named in the request, or its source
	Expires   time.Time    `json:"expires"`             // not taken into work after this
	// Raw is the beginning of a request that could not be decoded; such a job
	// is rejected at once.
	Raw string `json:"raw,omitempty"`
}

// PlannedNode is a node in the plan of a job.
type PlannedNode struct {
	Name       string `json:"name"`
	Disk       string `json:"disk"`                 // selector
	Agent      string `json:"agent"`                // native or legacy
	Power      string `json:"power"`                // driver
	Repeatable bool   `json:"repeatable,omitempty"` // the power driver remembers effects
}

// Budgets are the times and retries that each node of a job has for each
// step. They are part of the plan, so that recovery uses the same ones.
type Budgets struct {
	CheckIn       Duration `json:"checkin"`        // from reboot.requested to pxe.up
	Join          Duration `json:"join"`           // from pxe.up to load.started, serving included
	Load          Duration `json:"load"`           // from load.started to load.done; of a save, see SavePlan.DiskBytes
	Stall         Duration `json:"stall"`          // joined and no data
	Leave         Duration `json:"leave"`          // from shutdown.requested to shutdown.done
	BootAttempts  int      `json:"boot_attempts"`  // reboots at most
	LoadAttempts  int      `json:"load_attempts"`  // load commands at most
	LeaveAttempts int      `json:"leave_attempts"` // soft, then hard
}

// JobAccepted is the plan: from here on the job holds its nodes.
type JobAccepted struct {
	Job             string        `json:"job"`
	Image           Image         `json:"image"`
	Save            *SavePlan     `json:"save,omitempty"` // the job saves
	Nodes           []PlannedNode `json:"nodes"`
	Missing         []string      `json:"missing,omitempty"` // asked for and not in the inventory
	Quorum          int           `json:"quorum"`            // nodes that must succeed, 1..len(Nodes)
	Window          int           `json:"window"`            // nodes that boot at once
	Then            Then          `json:"then"`
	Verify          string        `json:"verify,omitempty"`
	Free            string        `json:"free,omitempty"`
	Resize          string        `json:"resize,omitempty"`
	Personalise     *Personalise  `json:"personalise,omitempty"`
	RequireVerified bool          `json:"require_verified,omitempty"`
	Weight          int           `json:"weight,omitempty"` // as in the request
	DryRun          bool          `json:"dry_run,omitempty"`
	Budgets         Budgets       `json:"budgets"`
	Deadline        time.Time     `json:"deadline"` // of the whole job
	Requester       string        `json:"requester,omitempty"`
}

// JobRejected ends a job that was never accepted.
type JobRejected struct {
	Job   string `json:"job"`
	Error Error  `json:"error"`
}

// JobCancelled says that the job was told to end: nothing new is begun.
type JobCancelled struct {
	Job       string `json:"job"`
	Reason    string `json:"reason,omitempty"`
	Requester string `json:"requester,omitempty"`
}

// NodeResult is how a node of a job ended.
type NodeResult struct {
	Node      string    `json:"node"`
	OK        bool      `json:"ok"`
	Assurance Assurance `json:"assurance,omitempty"`
	Class     Class     `json:"class,omitempty"`
	Error     string    `json:"error,omitempty"`
	Hint      string    `json:"hint,omitempty"`
	Attempts  int       `json:"attempts"`
	Bytes     int64     `json:"bytes,omitempty"` // written to the disk, or read from it
	// Grown and Personalised are those of load.done; the notes are left out.
	Grown        *Grown `json:"grown,omitempty"`
	Personalised bool   `json:"personalised,omitempty"`
	Alarms       int    `json:"alarms,omitempty"` // facts credential.misused of the node
}

// JobFinished ends an accepted job. Its nodes are free when it stands.
type JobFinished struct {
	Job     string       `json:"job"`
	Outcome Outcome      `json:"outcome"`
	OK      int          `json:"ok"`
	Failed  int          `json:"failed"`
	Quorum  int          `json:"quorum"`
	Results []NodeResult `json:"results"`
	Began   time.Time    `json:"began"` // of job.accepted
	Ended   time.Time    `json:"ended"`
}

// Kind implements Data.
func (JobRequested) Kind() Kind { return KindJobRequested }

// Kind implements Data.
func (JobAccepted) Kind() Kind { return KindJobAccepted }

// Kind implements Data.
func (JobRejected) Kind() Kind { return KindJobRejected }

// Kind implements Data.
func (JobCancelled) Kind() Kind { return KindJobCancelled }

// Kind implements Data.
func (JobFinished) Kind() Kind { return KindJobFinished }
