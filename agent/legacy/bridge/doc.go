// Package bridge drives OMF 4.x node agents over TCP port 9006 as if they were agents on the bus: for each legacy node
// it keeps one connection, enrols the agent, finds out what system runs there, and is its [agent.Agent], with a Loader
// that has the node's own frisbee do the work (specs/omf-legacy.md, a.4–a.10).
//
// What it adds to the original controller: messages that come glued are taken apart; a dead connection is noticed and
// made again; a node that runs from its own disk, or lacks the disk, is refused before anything is written; a load that
// prints no progress is watched through the image service; every way it can fail has its class.
//
// What a legacy node says is never verified by anybody: results are "unverified".
package bridge
