// Package group is the sockets of OMF's multicast transport (specs/omf-legacy.md, a.4): agents hear controllers on one
// group, 224.4.0.1:9006, and answer on another, 224.4.0.2:9002; one datagram is one line or one message. [Ether] is the
// same in memory, with datagrams that are lost, doubled and late.
//
// What is said on them is package legacy's; who says it, bridge and listener.
package group
