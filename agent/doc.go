// Package agent is the node's end of a load: it runs in the imaging system of
// a node, reports to the bus what it is and what it did, obeys the commands
// for its own node and its own boot, and writes images to disks.
//
// A load goes through steps, and each failure names the step it happened in:
// the disk passes the safety gate, the manifest comes over HTTP and hangs on
// the digest in the command, the session is joined, chunks are received,
// verified and written, the disk is synced and, if asked, read again. Nothing
// is written before the first three are through (docs/architecture.md).
//
// A save is the way back: the disk is read once, captured as an image, and
// sent by one HTTP request as it is read, with its length and digest behind it.
// Nothing of it is an image before the image service has said so.
//
// Reports are kept until the stream has acknowledged them, in order, over
// reconnects. Progress is telemetry and may be lost.
//
// What a machine is (its disks, its sockets, how it is halted) stands behind
// [Machine]: [LinuxMachine] is a real one, package agent/sim has simulated
// ones. What does not live here: the data plane (transfer), the vocabulary
// (events), decisions about jobs (the handler, which this package never
// imports).
package agent
