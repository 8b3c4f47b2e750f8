package events

import "time"

// Stages of a network boot, in order. Not every boot has all of them: firmware
// that boots over HTTP asks for nothing by TFTP.
const (
	StageArmed  = "armed"  // the node was told to reboot, and would get the imaging system
	StageDHCP   = "dhcp"   // its firmware asked where to boot from
	StageTFTP   = "tftp"   // it fetched a loader
	StageScript = "script" // the loader asked what to start
	StageKernel = "kernel" // it fetched the kernel
	StageInitrd = "initrd" // it fetched the initial file system
	StageConfig = "config" // the imaging system asked for its configuration
	StageAgent  = "agent"  // the agent is up
)

// BootStages lists the stages in order.
func BootStages() []string {
	return []string{StageArmed, StageDHCP, StageTFTP, StageScript, StageKernel, StageInitrd, StageConfig, StageAgent}
}

// BootSeen is when a stage was last seen.
type BootSeen struct {
	Stage string    `json:"stage"`
	Time  time.Time `json:"time"`
}

// BootStage is telemetry of the network boot service: how far a node has come
// since it was told to reboot for an attempt of a job. Each message has the
// whole way, so that the newest one is enough.
type BootStage struct {
	NodeRef            // job, node and attempt; the boot is not known yet
	Stage   string     `json:"stage"` // the furthest so far
	Time    time.Time  `json:"time"`  // when it was first seen
	MAC     string     `json:"mac,omitempty"`
	Address string     `json:"address,omitempty"` // that the node asked from
	Arch    string     `json:"arch,omitempty"`    // of its firmware: bios, efi-x64, efi-arm64, …
	Detail  string     `json:"detail,omitempty"`  // file, or what went wrong
	Seen    []BootSeen `json:"seen,omitempty"`    // each stage once, in order
}

// Kind implements Data.
func (BootStage) Kind() Kind { return KindBootStage }

// BootConfig is what the boot service tells the imaging system of a node, as
// JSON: GET <base>/boot/config?mac=<MAC>, where base is the kernel argument
// omf.boot. A MAC that is not the one of the asking address is refused (403); a
// node of which no job wants anything gets 404; a credential that was delivered
// already 409. Unknown keys are to be ignored.
type BootConfig struct {
	Testbed string   `json:"testbed"`
	Node    string   `json:"node"`
	MAC     string   `json:"mac"`
	Job     string   `json:"job,omitempty"` // that the node boots for
	Attempt int      `json:"attempt,omitempty"`
	Bus     []string `json:"bus"` // URLs of the bus, in the order to be tried
	// Credential lets the agent connect; without it the bus asks for none.
	Credential *Credential `json:"credential,omitempty"`
	// Time is the clock of the service: what a machine without one of its own
	// goes by until it knows better.
	Time    time.Time         `json:"time"`
	Options map[string]string `json:"options,omitempty"` // for the agent, by the words after "omf." of kernel arguments
}
