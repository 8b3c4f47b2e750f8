package events

// ImageAdded says that an image with its manifest is in the catalogue.
type ImageAdded struct {
	Image  Image  `json:"image"`
	Owner  string `json:"owner,omitempty"`
	Origin string `json:"origin,omitempty"` // upload, directory, save
	// Provenance is of images that were saved.
	Provenance *Provenance `json:"provenance,omitempty"`
}

// ImageServed says where an image is served. As a fact of the image it is the
// whole durable record of the session, written again at each change of its
// leases; as a fact of a job it names the session that the job's nodes join.
type ImageServed struct {
	Job     string   `json:"job,omitempty"`
	Image   Image    `json:"image"`
	Session Session  `json:"session"`
	Leases  []string `json:"leases,omitempty"` // lease ids that keep the session; facts of images only
}

// ImageReleased says that the session of an image has ended.
type ImageReleased struct {
	Image      string `json:"image"`
	Session    string `json:"session"`
	Reason     string `json:"reason"`                // idle, damaged, removed
	BlocksSent int64  `json:"blocks_sent,omitempty"` // data blocks of 1024 bytes, by this process
}

// ImageDamaged says that an image is not what its manifest says.
type ImageDamaged struct {
	Image   string `json:"image"`
	Digest  string `json:"digest,omitempty"` // of the manifest
	Message string `json:"message"`
	Chunk   *int   `json:"chunk,omitempty"`
	First   *int64 `json:"first,omitempty"` // bad byte range of the file
	Last    *int64 `json:"last,omitempty"`
}

// Kind implements Data.
func (ImageAdded) Kind() Kind { return KindImageAdded }

// Kind implements Data.
func (ImageServed) Kind() Kind { return KindImageServed }

// Kind implements Data.
func (ImageReleased) Kind() Kind { return KindImageReleased }

// Kind implements Data.
func (ImageDamaged) Kind() Kind { return KindImageDamaged }
