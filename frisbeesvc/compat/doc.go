// Package compat answers the HTTP services of OMF's grid services: /frisbee, /saveimage, /cmc, /inventory and /pxe,
// with their descriptions (specs/omf-legacy.md, section b). It answers as OMF 4.4 does, and as OMF 5.4 does where a
// request is in its form (user= or hrn=) or the configuration says so.
//
// It is a client of the bus and holds nothing of its own but how long somebody who asked for an address wants it: what a
// legacy client takes for "the daemon that serves an image" is a lease on a session of the image service, which jobs
// share. Stopping a daemon gives the lease back; the session lives on while a job needs it or clients receive.
//
// Faults of the original that are not kept: images are looked up by the catalogue and never by a path; node sets are
// parsed and never evaluated; a status before the first daemon, or of an image that is not served, is an empty one; a
// daemon does not die under its clients, nor by somebody else's stop.
//
// A netcat that waits for an image (/saveimage) is a plain place of the image service: one connection, of which nothing is
// kept but a whole image.
package compat
