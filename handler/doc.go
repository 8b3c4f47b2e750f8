// Package handler turns requests into jobs, reports into facts, and facts
// into effects (docs/architecture.md). What a job is and decides is package
// handler/job, who holds which nodes is handler/lease; both are pure. Here is
// the rest: the consumers of requests, reports and wake-ups, the projection of
// the log, the append with an expected sequence, the executor of effects,
// ownership among several handlers, timers, recovery, and the services that
// answer questions.
//
// # How it holds together
//
// Every open job has one keeper, a goroutine with a queue of inputs. It takes
// all that have come, decides on them one after the other, appends the facts
// as one batch behind the sequence that it knows, and only then answers the
// senders, so that a report is acknowledged when its fact is stored. If
// another handler was faster it waits for those facts and decides again.
//
// The owner of a job (a lease in time, renewed) runs what job.Outstanding asks
// for. Effects that are no longer asked for are cancelled; those that failed
// are tried again with growing delay while they are asked for. After a restart
// the same effects follow from the folded log; each is harmless to repeat.
//
// # Agents that vanish
//
// While a node loads or saves, its agent is looked at (job.Vigil decides what that
// means). One that does not answer, and of which no report and no telemetry
// comes either, is given up after Policy.Silence, or at once if the power
// controller says that its machine is off; the node is rebooted. An agent that
// is only cut off from the bus goes on and has that time to come back.
// What was silent before this handler started, or before its own connection
// stood, does not count.
//
// # Saves
//
// A job that saves asks the image service for a place for the image of each
// attempt, and tells the agent where that is; the token of the place is in the
// command and nowhere else. The agent's word that the image is stored is not
// acknowledged before the image service was asked, and is only believed
// together with its answer. Places that came to nothing are given up before
// the next attempt, at the end of the job, and by the sweep.
//
// # Leases
//
// The nodes are leased before job.accepted is written and released before
// job.finished is: who sees the end of a job may load its nodes at once.
// Leases of jobs that ended otherwise (rejected, unknown) are released by
// whichever handler sees them first, at the start and regularly.
//
// Releasing by hand (svc handler.release) is refused while the job that holds
// a node is running: its agent may be writing to the disk. Cancel the job
// first; as soon as it is being cancelled, or has ended, release works.
//
// # Boot flags
//
// A node with the boot driver pxelinux has links in a TFTP tree from before it
// is switched until it is up. Which links there should be is derived from the
// facts as effects are, and made so after each fact, each sweep and at the
// start (flags, handler/netboot/pxelinux): there is no path on which one is
// left, and none on which one must be taken away.
//
// # What it does not do
//
// It moves no image byte, keeps no state outside of the bus but its own name
// and the list of its boot links, and does not know how machines are switched (handler/power) or named
// (handler/nodeset, handler/inventory).
package handler
