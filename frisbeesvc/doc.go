// Package frisbeesvc is the image service of a testbed: the catalogue of
// images, the sessions that send them, the endpoints svc.<tb>.frisbee.* on the
// bus, and the routes under /v1 over HTTP.
//
// # Sessions and their registry
//
// There is at most one session per image. Leases (of jobs) and clients that
// are still heard keep it alive; without either it ends after Config.Idle. The
// registry is the bus itself: each change of a session is a fact image.served
// that holds the whole record, appended with the expected last sequence of
// that image's facts. A service that starts, or takes over, folds the last
// facts of every image and resumes each session under the same id, group and
// port, so that clients that keep asking go on without noticing.
//
// One service at a time is active for a testbed, by an ownership on the bus
// that is renewed; others stand by. The period between taking and losing it is
// a term. Losing the bus does not end a term: sessions go on sending, because
// nobody else can have taken over.
//
// # Damage
//
// A session is pinned to the root digest of the manifest it began with. Every
// chunk is compared with the manifest before a byte of it leaves, and the file
// is looked at while it is served; a file that is no longer what its manifest
// says ends the session with image.damaged and image.released.
//
// What does not live here: files and manifests (frisbeesvc/catalogue), sockets
// (frisbeesvc/session), the protocol (transfer/**), jobs (handler). Legacy
// HTTP surfaces are clients of the bus in frisbeesvc/compat; what they need of
// sessions is in the endpoint status.
package frisbeesvc
