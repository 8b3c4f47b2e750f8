// Package legacy is the language of OMF 4.x node agents on TCP port 9006 and on the multicast transport
// (specs/omf-legacy.md, section a): quoting ([Encode], [Decode]), what a controller says to an agent ([Command]), what
// an agent says to its controller ([Message]), the taking apart of the agent's byte stream, which has no message
// terminator ([Splitter]), and the numbers of the multicast transport ([Sent], [Received]).
//
// It is pure: no connections, no clocks. Who drives a legacy agent is agent/legacy/bridge; who plays one for a legacy
// controller is agent/legacy/listener; the sockets of the multicast transport are agent/legacy/group. Which test
// replays which recording of OMF's own programs stands in transcripts_test.go, which fails when one has none.
package legacy
