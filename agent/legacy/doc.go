// Package legacy is the language of OMF 4.x node agents on TCP port 9006 (specs/omf-legacy.md, section a): quoting
// ([Encode], [Decode]), what a controller says to an agent ([Command]), what an agent says to its controller
// ([Message]), and the taking apart of the agent's byte stream, which has no message terminator ([Splitter]).
//
// It is pure: no connections, no clocks. Who drives a legacy agent is agent/legacy/bridge; who plays one for a legacy
// controller is agent/legacy/listener.
package legacy
