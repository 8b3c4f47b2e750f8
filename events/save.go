package events

import (
	"fmt"
	"strings"
	"time"
)

// SaveRequest asks for the disk of one node as an image:
// omf.v1.req.<tb>.save. As plain JSON it needs nothing but the node.
type SaveRequest struct {
	Node      string   `json:"node"`                // one node, as in LoadRequest.Nodes: "[1,2]", "n1-2"
	Image     string   `json:"image,omitempty"`     // name in the catalogue, not taken yet; empty: from node, testbed and time (SaveName)
	Disk      string   `json:"disk,omitempty"`      // disk selector; empty: the inventory's
	Then      Then     `json:"then,omitempty"`      // empty: shutdown
	Level     int      `json:"level,omitempty"`     // of compression, 1 to 9; 0: the default of imagezip
	Timeout   Duration `json:"timeout,omitempty"`   // of the whole job from acceptance; 0: derived from the policy
	TTL       Duration `json:"ttl,omitempty"`       // refused when taken later than this; 0: two minutes
	DryRun    bool     `json:"dry_run,omitempty"`   // stop after the plan
	Wait      bool     `json:"wait,omitempty"`      // wait for a leased node instead of being refused
	Requester string   `json:"requester,omitempty"` // who asks, for people; the owner of the image
}

// SavePlan is what makes an accepted job one that saves: its only node is
// captured, not loaded. JobAccepted.Image then has the name alone.
type SavePlan struct {
	Image string `json:"image"`
	Level int    `json:"level,omitempty"`
	// DiskBytes is the size of the largest disk that Budgets.Load allows for;
	// a smaller one gets its share of it, from save.started on.
	DiskBytes int64 `json:"disk_bytes,omitempty"`
}

// SaveStarted says that the agent has opened the disk and begun to send it.
// As a report it has no deadline.
type SaveStarted struct {
	NodeRef
	Image    string    `json:"image"`
	Disk     Disk      `json:"disk"`
	Deadline time.Time `json:"deadline,omitzero"` // save.done must stand by then
}

// SaveDone says that the image is whole in the catalogue. The fact stands only
// after the image service has confirmed what the node reported.
type SaveDone struct {
	NodeRef
	Image     Image            `json:"image"`
	DiskBytes int64            `json:"disk_bytes"` // of the disk
	BytesRead int64            `json:"bytes_read"` // from the disk
	BytesSent int64            `json:"bytes_sent"` // of the image file
	Took      Duration         `json:"took"`
	Counters  map[string]int64 `json:"counters,omitempty"`
}

// SaveFailed says that an attempt failed, and that no image came of it. The
// fact says in Retry what the handler decided; the report leaves it out.
type SaveFailed struct {
	NodeRef
	Class     Class    `json:"class"`
	Message   string   `json:"message"`
	Evidence  Evidence `json:"evidence"`
	Retryable bool     `json:"retryable,omitempty"` // the agent thinks that another attempt may succeed
	Retry     bool     `json:"retry,omitempty"`     // another attempt follows
}

// SaveProgress is telemetry of a save: at most once a second, and at each
// change of phase.
type SaveProgress struct {
	NodeRef
	Phase     string           `json:"phase"` // opening, capturing, storing, done
	Percent   float64          `json:"percent"`
	BytesRead int64            `json:"bytes_read"` // from the disk
	BytesSent int64            `json:"bytes_sent"` // to the image service
	Counters  map[string]int64 `json:"counters,omitempty"`
}

// SaveCommand tells an agent to save: cmd.<tb>.node.<node>.save. What
// LoadCommand says of boots and of repeated commands holds here too.
type SaveCommand struct {
	NodeRef
	Effect   string    `json:"effect"`
	Image    string    `json:"image"`
	Place    Place     `json:"place"`
	Disk     string    `json:"disk"` // selector
	Level    int       `json:"level,omitempty"`
	Deadline time.Time `json:"deadline"` // the agent gives up by itself
}

// Provenance says where an image was captured.
type Provenance struct {
	Testbed   string    `json:"testbed,omitempty"`
	Job       string    `json:"job,omitempty"`
	Node      string    `json:"node,omitempty"`
	Disk      string    `json:"disk,omitempty"` // selector that was asked for
	Requester string    `json:"requester,omitempty"`
	Time      time.Time `json:"time,omitzero"` // of the capture's beginning
	// Undigested says that the sender gave neither length nor digest: the image
	// is whole as far as its own structure tells. The image service sets it.
	Undigested bool `json:"undigested,omitempty"`
}

// ReceiveRequest asks the image service for a place to send a new image to.
// The same Lease again gets the same place, or what has become of it.
type ReceiveRequest struct {
	Image      string     `json:"image"`
	Lease      string     `json:"lease"` // <job>:<attempt>
	Provenance Provenance `json:"provenance"`
	// Plain asks for a TCP port that takes the bare image from the first
	// connection, for agents that know nothing but netcat (OMF 5).
	Plain bool `json:"plain,omitempty"`
	// Directory asks for the name of a file in the directory that the image
	// service shares with such nodes by NFS, for agents that know nothing but
	// that (OMF 4.4). It excludes Plain. Whoever knows that the file is whole asks once more, with
	// Complete: then it is taken in.
	Directory bool     `json:"directory,omitempty"`
	Complete  bool     `json:"complete,omitempty"`
	Life      Duration `json:"life,omitempty"` // the place is given up after this; 0: the service's own
}

// Place is where one image is sent, once.
type Place struct {
	Image string `json:"image"`
	// URL takes the image by one PUT with "Authorization: Bearer <Token>". The
	// token is good for one request.
	URL     string    `json:"url,omitempty"`
	Token   string    `json:"token,omitempty"`
	Address string    `json:"address,omitempty"` // host:port of a plain place
	File    string    `json:"file,omitempty"`    // name in the shared directory, of a place there
	Expires time.Time `json:"expires,omitzero"`
	State   string    `json:"state"`             // open, receiving, stored, failed
	Bytes   int64     `json:"bytes,omitempty"`   // received so far
	Message string    `json:"message,omitempty"` // why it failed
	Stored  *Image    `json:"stored,omitempty"`  // in the catalogue
}

// States of a Place.
const (
	PlaceOpen      = "open"
	PlaceReceiving = "receiving"
	PlaceStored    = "stored"
	PlaceFailed    = "failed"
)

// PlaceList answers places: those that are open, receiving, or ended lately.
type PlaceList struct {
	Places []Place `json:"places"` // without their tokens
}

// SaveName is the name of an image that was asked for without one:
// node-1-2-sb8-2026-11-23-14-05-59.ndz, in UTC. Nodes outside of the grid (x
// and y are 0) go by their names, bytes that image names do not have as "-".
func SaveName(testbed, node string, x, y int, at time.Time) string {
	place := fmt.Sprintf("%d-%d", x, y)
	if x <= 0 || y <= 0 {
		place = node
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, fmt.Sprintf("node-%s-%s-%s.ndz", place, testbed, at.UTC().Format("2006-01-02-15-04-05")))
}

// Kind implements Data.
func (SaveRequest) Kind() Kind { return KindSaveRequest }

// Kind implements Data.
func (SaveStarted) Kind() Kind { return KindSaveStarted }

// Kind implements Data.
func (SaveDone) Kind() Kind { return KindSaveDone }

// Kind implements Data.
func (SaveFailed) Kind() Kind { return KindSaveFailed }

// Kind implements Data.
func (SaveProgress) Kind() Kind { return KindSaveProgress }
