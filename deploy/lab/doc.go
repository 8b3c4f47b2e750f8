// Package lab makes a small network on this machine: hosts that are network
// namespaces, on a bridge with IGMP snooping and a querier, as a switch of a
// real laboratory has. It needs root and the ip command; everything it makes
// has the number of its process in the name and is gone after Close, or after
// the next New when its process died before.
//
// Its tests are those of the real programs between several hosts: loads with
// losses and reordering, snooping, hostile hosts. deploy/bench measures on it.
package lab
