package events

import "time"

// Endpoints of the image service: svc.<tb>.frisbee.<verb>.
const (
	FrisbeeServe   = "serve"   // ServeRequest → ImageServed
	FrisbeeRelease = "release" // LeaseRelease → Empty
	FrisbeeStatus  = "status"  // StatusQuery → FrisbeeState
	FrisbeeCheck   = "check"   // ImageQuery → Image
	FrisbeeImages  = "images"  // Empty → ImageList
	FrisbeeAdd     = "add"     // ImageQuery → Image: take a file of the image directory into the catalogue
	FrisbeeVerify  = "verify"  // ImageQuery → Image: read the whole file again
	FrisbeeInspect = "inspect" // ImageQuery → ImageDetail
	FrisbeeRemove  = "remove"  // ImageQuery → Empty
	FrisbeeUpload  = "upload"  // UploadQuery → UploadPermit
	FrisbeeReceive = "receive" // ReceiveRequest → Place
	FrisbeeAbandon = "abandon" // LeaseRelease → Empty: give up a place and what has come to it
	FrisbeePlaces  = "places"  // Empty → PlaceList
)

// UploadQuery asks for the permission to upload an image over HTTP from
// whatever machine.
type UploadQuery struct {
	Image  string `json:"image"`  // name that it gets
	Digest string `json:"digest"` // SHA-256 of the file, hexadecimal
}

// UploadPermit is the permission to PUT one image to URL, in one go or in
// pieces: with "Authorization: Bearer <Token>" and, in each request,
// Repr-Digest with the digest that was asked for. It ends when the image
// service does, and with Expires for requests that have not begun.
type UploadPermit struct {
	URL     string    `json:"url"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Endpoints of the handler: svc.<tb>.handler.<verb>.
const (
	HandlerStatus    = "status"    // Empty → HandlerState
	HandlerNodes     = "nodes"     // NodesQuery → NodeList
	HandlerJobs      = "jobs"      // Empty → JobList
	HandlerJob       = "job"       // JobQuery → JobDetail
	HandlerRelease   = "release"   // NodesAction → NodeList
	HandlerProtect   = "protect"   // NodesAction → NodeList
	HandlerUnprotect = "unprotect" // NodesAction → NodeList
	HandlerPower     = "power"     // PowerQuery → PowerReport
	HandlerAgents    = "agents"    // NodesQuery → AgentReport
	HandlerNetboot   = "netboot"   // NetbootQuery → NetbootReport
)

// BusCredential is the endpoint of the broker's own service that hands out a
// credential: CredentialRequest → Credential.
const BusCredential = "credential"

// Empty is the payload of requests and answers that say nothing.
type Empty struct{}

// ServeRequest asks for a session of an image. The same Lease again gets the
// same session.
type ServeRequest struct {
	Image  string `json:"image"`
	Digest string `json:"digest,omitempty"` // refuse if the catalogue has another content by now
	Lease  string `json:"lease"`
	Weight int    `json:"weight,omitempty"` // as LoadRequest.Weight
	Local  bool   `json:"local,omitempty"`  // on loopback, for simulated nodes
}

// LeaseRelease gives a lease of a session back. Unknown leases are fine.
type LeaseRelease struct {
	Image string `json:"image,omitempty"`
	Lease string `json:"lease"`
}

// SessionState is a running session.
type SessionState struct {
	Session
	Image        string   `json:"image"`
	Digest       string   `json:"digest"`
	Leases       []string `json:"leases"`
	Clients      int      `json:"clients"` // heard lately
	BlocksSent   int64    `json:"blocks_sent"`
	BlocksResent int64    `json:"blocks_resent"`
	ImageBlocks  int64    `json:"image_blocks"`
	IdleLeft     Duration `json:"idle_left"` // until it ends, once without leases
	// Peers are the clients that were heard, at most 1024, of the session that
	// was asked for: what is known of those that say nothing on the bus.
	Peers []SessionPeer `json:"peers,omitempty"`
}

// StatusQuery asks for the sessions, and for the clients of one of them.
type StatusQuery struct {
	Session string `json:"session,omitempty"` // id
}

// SessionPeer is a client of a session, by its address.
type SessionPeer struct {
	Address string    `json:"address"`
	Seen    time.Time `json:"seen"` // its last datagram
	Left    bool      `json:"left,omitempty"`
}

// FrisbeeState answers status.
type FrisbeeState struct {
	Sessions []SessionState `json:"sessions"`
	// BlocksSent counts the data blocks of ended sessions of this process too.
	BlocksSent int64 `json:"blocks_sent"`
	// HTTP is the URL by which nodes and clients reach the service's HTTP
	// routes, without a slash at the end.
	HTTP string `json:"http,omitempty"`
	// Directory says that the service takes images from a directory that it
	// shares with nodes (ReceiveRequest).
	Directory bool `json:"directory,omitempty"`
}

// ImageQuery names an image.
type ImageQuery struct {
	Image string `json:"image"`
}

// ImageEntry is a line of the catalogue.
type ImageEntry struct {
	Image
	State    string    `json:"state"` // ok, damaged, unregistered
	Message  string    `json:"message,omitempty"`
	Modified time.Time `json:"modified"`
	Owner    string    `json:"owner,omitempty"`
	Serving  bool      `json:"serving"`
}

// ImageList answers images.
type ImageList struct {
	Images []ImageEntry `json:"images"`
}

// ImageDetail answers inspect.
type ImageDetail struct {
	ImageEntry
	Version    int      `json:"version"`           // of the chunk headers
	Regions    int      `json:"regions"`           // in all chunks
	Relocs     int      `json:"relocs"`            // in all chunks
	UUID       string   `json:"uuid,omitempty"`    // V4
	Ratio      float64  `json:"ratio"`             // data bytes ÷ file bytes
	Filesystem []string `json:"filesys,omitempty"` // recognised in the described unit, best effort
	// Provenance is of images that were saved.
	Provenance *Provenance `json:"provenance,omitempty"`
}

// NodesQuery asks for nodes; empty Nodes means all.
type NodesQuery struct {
	Nodes string `json:"nodes,omitempty"`
}

// NodesAction names nodes to act on.
type NodesAction struct {
	Nodes  string `json:"nodes"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// NodeState is a node as the handler knows it.
type NodeState struct {
	Name      string    `json:"name"`
	X         int       `json:"x,omitempty"`
	Y         int       `json:"y,omitempty"`
	Disk      string    `json:"disk,omitempty"`
	Power     string    `json:"power,omitempty"` // driver
	Agent     string    `json:"agent,omitempty"`
	Hostname  string    `json:"hostname,omitempty"`
	IP        string    `json:"ip,omitempty"`         // on the control network
	MAC       string    `json:"mac,omitempty"`        // of the control interface
	Image     string    `json:"boot_image,omitempty"` // of its network boot; empty: the default
	Protected bool      `json:"protected,omitempty"`
	Job       string    `json:"job,omitempty"`   // that holds it
	State     string    `json:"state,omitempty"` // in that job
	Boot      string    `json:"boot,omitempty"`  // of the last up report
	Seen      time.Time `json:"seen,omitzero"`   // of the last report
}

// NodeList answers nodes, release, protect and unprotect.
type NodeList struct {
	Nodes   []NodeState `json:"nodes"`
	Missing []string    `json:"missing,omitempty"`
	Columns int         `json:"columns,omitempty"` // of the testbed's grid
	Rows    int         `json:"rows,omitempty"`
}

// PowerQuery asks for one power action on nodes that no job holds. Status is
// asked of any node.
type PowerQuery struct {
	Nodes  string `json:"nodes"`
	Action string `json:"action"` // on off soft reset cycle status
	By     string `json:"by,omitempty"`
}

// PowerResult is what became of a node.
type PowerResult struct {
	Node  string `json:"node"`
	X     int    `json:"x,omitempty"`
	Y     int    `json:"y,omitempty"`
	Power string `json:"power"`           // on, off, unknown
	Error *Error `json:"error,omitempty"` // the controller refused, or does not answer
}

// PowerReport answers power, in the order of the node set.
type PowerReport struct {
	Nodes   []PowerResult `json:"nodes"`
	Missing []string      `json:"missing,omitempty"`
}

// Actions of NetbootQuery.
const (
	NetbootSet    = "set"
	NetbootClear  = "clear"
	NetbootStatus = "status"
)

// NetbootQuery asks for the boot flag of nodes: the links by which pxelinux
// finds what a node boots. Set and clear are for nodes that no job holds;
// a flag that was set so ends by itself after a time (NetbootResult.Until).
type NetbootQuery struct {
	Nodes  string `json:"nodes"`
	Action string `json:"action"`          // set clear status
	Image  string `json:"image,omitempty"` // boot configuration; empty: the inventory's, else the handler's
	By     string `json:"by,omitempty"`
}

// NetbootResult is the boot flag of a node.
type NetbootResult struct {
	Node  string    `json:"node"`
	X     int       `json:"x,omitempty"`
	Y     int       `json:"y,omitempty"`
	IP    string    `json:"ip,omitempty"`
	MAC   string    `json:"mac,omitempty"`
	Image string    `json:"image,omitempty"` // what the flag leads to; empty: no flag
	Links []string  `json:"links,omitempty"` // names of the links
	Job   string    `json:"job,omitempty"`   // that set it; empty: by hand
	Until time.Time `json:"until,omitzero"`  // when it ends at the latest
	Note  string    `json:"note,omitempty"`  // what else to know, such as a link of somebody else that was replaced
	Error *Error    `json:"error,omitempty"`
}

// NetbootReport answers netboot, in the order of the node set.
type NetbootReport struct {
	Nodes   []NetbootResult `json:"nodes"`
	Missing []string        `json:"missing,omitempty"`
}

// AgentState is what the agent of a node said when it was asked.
type AgentState struct {
	Node    string `json:"node"`
	Answers bool   `json:"answers"`
	Boot    string `json:"boot,omitempty"`  // of the agent that answered
	State   string `json:"state,omitempty"` // as in CommandReply, or resident: the agent on the node's own disk
	Imaging bool   `json:"imaging,omitempty"`
	Error   *Error `json:"error,omitempty"` // why there was no answer, unless nobody is there
}

// MaxAgents is how many nodes one question about agents may mean.
const MaxAgents = 256

// AgentReport answers agents, in the order of the node set.
type AgentReport struct {
	Nodes   []AgentState `json:"nodes"`
	Missing []string     `json:"missing,omitempty"`
}

// JobSummary is a line of the job list.
type JobSummary struct {
	Job       string    `json:"job"`
	State     string    `json:"state"` // requested, accepted, rejected, cancelling, finished
	Outcome   Outcome   `json:"outcome,omitempty"`
	Image     string    `json:"image"`
	Save      bool      `json:"saves,omitempty"` // the image is made, not loaded
	Nodes     int       `json:"nodes"`
	OK        int       `json:"ok"`
	Failed    int       `json:"failed"`
	Alarms    int       `json:"alarms,omitempty"` // misused credentials of its nodes, see JobNode
	Requester string    `json:"requester,omitempty"`
	Requested time.Time `json:"requested"`
	Ended     time.Time `json:"ended,omitzero"`
	Archived  bool      `json:"archived,omitempty"`
}

// JobList answers jobs, newest first.
type JobList struct {
	Jobs []JobSummary `json:"jobs"`
}

// JobQuery names a job.
type JobQuery struct {
	Job string `json:"job"`
}

// JobNode is a node of a job.
type JobNode struct {
	Node    string      `json:"node"`
	State   string      `json:"state"` // pending rebooting up loading loaded saving saved leaving done failed
	Attempt int         `json:"attempt"`
	Boot    string      `json:"boot,omitempty"`
	Since   time.Time   `json:"since,omitzero"`
	Alarms  int         `json:"alarms,omitempty"` // facts credential.misused
	Alarm   string      `json:"alarm,omitempty"`  // what the last one says
	Result  *NodeResult `json:"result,omitempty"`
}

// JobDetail answers job.
type JobDetail struct {
	JobSummary
	Request LoadRequest  `json:"request,omitzero"`
	Save    *SaveRequest `json:"save,omitempty"` // of a save; takes the place of JobSummary.Save
	Plan    *JobAccepted `json:"plan,omitempty"`
	Served  *ImageServed `json:"served,omitempty"`
	Reject  *Error       `json:"reject,omitempty"`
	Members []JobNode    `json:"members,omitempty"`
	Result  *JobFinished `json:"result,omitempty"`
}

// HandlerState answers status.
type HandlerState struct {
	Version  string           `json:"version"`
	Handler  string           `json:"handler"`  // id of the answering one
	Open     int              `json:"open"`     // jobs not ended
	Counters map[string]int64 `json:"counters"` // reports stale, forged, undecodable; facts unknown; …
}

// CredentialKind says what a credential is for.
type CredentialKind string

// Kinds of credentials.
const (
	CredentialNode     CredentialKind = "node"     // an agent in the imaging system
	CredentialResident CredentialKind = "resident" // whoever serves the power of a node on the bus
	CredentialOperator CredentialKind = "operator" // requests, services, watching
	CredentialService  CredentialKind = "service"  // handlers and image services
)

// CredentialRequest asks for the credential of a node.
type CredentialRequest struct {
	Node string         `json:"node"`
	Kind CredentialKind `json:"kind"` // node or resident
}

// Credential lets one party connect.
type Credential struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Inbox    string `json:"inbox"` // prefix for replies that this credential may read
	// CA is the certificate, PEM, that the bus proves itself with; empty where
	// the bus speaks without TLS or has a certificate that everybody trusts.
	CA string `json:"ca,omitempty"`
}
