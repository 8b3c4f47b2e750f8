// Package bridge drives OMF 4.x node agents over TCP port 9006, or over OMF's multicast transport, as if they were agents
// on the bus: for each legacy node it keeps one link, enrols the agent, finds out what system runs there, and is its
// [agent.Agent], with a Loader that has the node's own frisbee do the work (specs/omf-legacy.md, a.4–a.10).
//
// What it adds to the original controller: messages that come glued are taken apart; a dead connection is noticed and
// made again; a node that runs from its own disk, or lacks the disk, is refused before anything is written; a load that
// prints no progress is watched through the image service; every way it can fail has its class.
//
// On the multicast transport all nodes of a pair of groups share one counter of commands. What an agent misses is said
// again, when its heartbeat shows it or when it asks; an agent's numbers may have gaps, which lose nothing but what was
// lost. It is never asked to repeat anything, because the original agent hangs then (a.7): a question that may be asked
// again is, and a frisbee whose end was lost is looked for among the processes of its node.
//
// What a legacy node says is never verified by anybody: results are "unverified".
package bridge
