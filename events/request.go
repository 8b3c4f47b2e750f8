package events

// LoadRequest asks for an image on nodes: omf.v1.req.<tb>.load. As plain JSON
// it needs nothing but nodes and image.
type LoadRequest struct {
	Nodes   string   `json:"nodes"`             // node-set expression: "[1..4,2]", "n1-1 n1-2", "all"
	Image   string   `json:"image"`             // name in the catalogue: "ubuntu.ndz"
	Disk    string   `json:"disk,omitempty"`    // disk selector; empty: the inventory's
	Then    Then     `json:"then,omitempty"`    // empty: shutdown
	Timeout Duration `json:"timeout,omitempty"` // of the whole job from acceptance; 0: derived from image and rate
	Require string   `json:"require,omitempty"` // quorum: "95%" or a count; empty: every node
	Verify  string   `json:"verify,omitempty"`  // "" or "readback"
	Free    string   `json:"free,omitempty"`    // free space of the image on the disk: "" (keeps what was there), "zero" or "discard"
	Resize  string   `json:"resize,omitempty"`  // of the last partition, once the image is written: "max", "20G", "80%"; empty: as in the image
	// Personalise is written into the loaded system, once the image is verified.
	Personalise *Personalise `json:"personalise,omitempty"`
	// RequireVerified fails nodes whose result is only "unverified".
	RequireVerified bool `json:"require_verified,omitempty"`
	// Weight is the part of a shared link (omf serve --link-rate) that the
	// image's session gets beside others, 1 to MaxWeight; 0: 1. Of several jobs
	// in a session the largest counts, until the session ends.
	Weight    int      `json:"weight,omitempty"`
	DryRun    bool     `json:"dry_run,omitempty"`   // stop after the plan
	Wait      bool     `json:"wait,omitempty"`      // wait for leased nodes instead of being refused
	TTL       Duration `json:"ttl,omitempty"`       // refused when taken later than this; 0: two minutes
	Requester string   `json:"requester,omitempty"` // who asks, for people
}

// MaxWeight is the largest weight of a session.
const MaxWeight = 100

// CancelRequest asks to end a job: omf.v1.req.<tb>.cancel.
type CancelRequest struct {
	Job       string `json:"job"`
	Reason    string `json:"reason,omitempty"`
	Requester string `json:"requester,omitempty"`
}

// Kind implements Data.
func (LoadRequest) Kind() Kind { return KindLoadRequest }

// Kind implements Data.
func (CancelRequest) Kind() Kind { return KindCancelRequest }

// VerifyReadback is the value of LoadRequest.Verify that has each disk read
// again and compared.
const VerifyReadback = "readback"

// Values of LoadRequest.Free. Discarded space is what the device makes of it;
// only zero promises that nothing old is left.
const (
	FreeZero    = "zero"
	FreeDiscard = "discard"
)

// DefaultTTL is how old a request may be when no ttl is given, in the form of
// LoadRequest.TTL: two minutes.
const DefaultTTL = Duration(120e9)
