package inventory

import (
	"net/netip"
	"time"

	"loadnode/events"
)

// Agent is the kind of agent that a node runs in its imaging system.
type Agent string

// Kinds of agents.
const (
	AgentNative Agent = "native" // ours, on the bus
	AgentLegacy Agent = "legacy" // OMF's nodeagent on TCP 9006, through the bridge
)

// Drivers of power and of the boot flag.
const (
	PowerBus     = "bus"     // a service on the bus: resident agent or simulator
	PowerExec    = "exec"    // a script
	PowerCMC     = "cmc"     // ORBIT's chassis manager, or a card at each node, over HTTP
	PowerRedfish = "redfish" // a management controller that speaks Redfish
	PowerIPMI    = "ipmi"    // one that speaks IPMI, through ipmitool
	PowerWOL     = "wol"     // magic packets: on only
	PowerAgent   = "agent"   // the node's own agent: soft and reset only

	BootNone      = "none"     // nodes start into the imaging system by other means
	BootPxelinux  = "pxelinux" // links in an existing TFTP tree
	BootBuiltin   = "builtin"  // our own DHCP, TFTP and HTTP
	defaultPower  = PowerBus
	defaultBoot   = BootNone
	defaultThen   = events.ThenShutdown
	defaultAgent  = AgentNative
	defaultAction = 30 * time.Second
)

// Forms of the power driver cmc.
const (
	FormOrbit  = "orbit"  // a service for all nodes, named by x and y (OMF 4)
	FormOrbit5 = "orbit5" // a service for all nodes, named by hrn and domain (OMF 5)
	FormCard   = "card"   // a card at each node (rhubarbe)
)

// Ways to say who asks a Redfish service.
const (
	AuthBasic   = "basic"
	AuthSession = "session"
)

// What a management controller is told to boot from when the next start is to
// lead into the imaging system.
const (
	BootdevPXE  = "pxe"  // once, from the network
	BootdevNone = "none" // nothing: the firmware tries the network first anyhow
)

// PowerDrivers lists the power drivers that a file may name.
func PowerDrivers() []string {
	return []string{PowerBus, PowerExec, PowerCMC, PowerRedfish, PowerIPMI, PowerWOL, PowerAgent}
}

// BootDrivers lists the boot drivers that a file may name.
func BootDrivers() []string { return []string{BootNone, BootPxelinux, BootBuiltin} }

// Power says how a node is switched.
type Power struct {
	Driver  string
	Command []string      // exec: program (absolute path) and arguments with placeholders
	Timeout time.Duration // of one action; 30 s unless the file says otherwise, at most 1 h
	// Escalate is how long the node's own system has to obey a soft action
	// before the hard one follows; 0: as the handler is configured. A job
	// waits for the slowest of its nodes.
	Escalate time.Duration

	Form   string // cmc: FormOrbit, FormOrbit5 or FormCard
	URL    string // cmc, redfish: where it is, with Targets; no slash at the end
	Domain string // cmc: what the service calls the testbed; empty: by its name
	Host   string // ipmi: name or address, with a port behind a colon or without; with Targets
	User   string // redfish, ipmi
	// At most one of the three says the password (redfish, ipmi): itself, a
	// file whose first line it is, an environment variable.
	Password, PasswordFile, PasswordEnv string

	Auth        string // redfish: AuthBasic or AuthSession
	System      string // redfish: path of the ComputerSystem, with Targets; empty: the only one
	Fingerprint string // redfish: SHA-256 of the certificate, 64 lower-case hexadecimal digits
	CAFile      string // redfish: certificates that sign the service's
	Insecure    bool   // redfish: whoever answers is believed
	Bootdev     string // redfish, ipmi: BootdevPXE or BootdevNone
	Program     string // ipmi: absolute path of ipmitool
	Interface   string // wol: that the packets leave by; empty: as the broadcast address is routed
	Broadcast   string // wol: address and port that they go to; empty: the interface's, or 255.255.255.255:9
}

// Boot says how a node is led into the imaging system.
type Boot struct {
	Driver string
	Image  string // name of the boot configuration or of the imaging system; empty: the driver's default
	Args   string // added to the kernel's arguments
	// Chain has iPXE in the network card fetch the loader of the boot
	// directory, in place of going on itself.
	Chain bool
	// Checkin is how long after a reset the node takes to report where that is
	// longer than the handler's configuration allows; 0: it is not. A job gives
	// all its nodes the time of the slowest.
	Checkin time.Duration
}

// Legacy says how a legacy agent is reached.
type Legacy struct {
	Port      uint16 // TCP, of the agent; 9006 unless the file says otherwise
	Listen    bool   // the agent connects to the bridge
	AnySystem bool   // load whatever system the node says it runs
	NFS       string // directory that the node mounts to save to, host:/path (OMF 4.4); empty: it saves by netcat
	// Groups of the multicast transport: where agents hear, and where they
	// answer. Invalid: the agent is reached by TCP.
	Group, Answers netip.AddrPort
}

// DefaultLegacyPort is where legacy agents listen (omf-legacy a.4).
const DefaultLegacyPort = 9006

// Node is one machine, with everything that defaults and groups say about it.
type Node struct {
	Name      string
	X, Y      int        // place in the grid from 1, 0 and 0 outside of it
	MAC       string     // of the control interface, lower case with colons; may be empty
	IP        netip.Addr // on the control network; may be invalid (unknown)
	Hostname  string     // another name; may be empty
	Disk      string     // selector; empty: the request must name one
	Agent     Agent
	Legacy    Legacy
	Then      events.Then // unless the request says otherwise
	Protected bool        // no job may touch it
	Power     Power
	Boot      Boot
}
