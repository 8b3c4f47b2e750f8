// Package mcast is the road datagrams travel on: one Conn is one end of a
// multicast group (or of a pair of hosts, in unicast mode).
//
// There are two implementations and a decorator. Open gives real UDP sockets.
// Network is a group inside one process with seeded loss, duplication,
// reordering and delay; it waits only on channels and timers and so runs on the
// virtual clock of testing/synctest. WithFaults damages what any Conn receives.
// All of them pass the same conformance tests.
//
// A real Conn has two sockets, as the production builds of the original: one
// bound to GROUP:PORT, which hears the group and nothing else (the kernel
// compares the destination address, so other groups on the same port do not mix
// in), and one bound to OWN:PORT, which sends, so that source address and port
// are what peers expect (protocol §2), and hears unicast. Hence many nodes can
// live in one process as long as each has its own address in 127/8.
//
// Datagrams cross between program and kernel in one of three ways in each
// direction (Mode), the best of which is chosen when a Conn is opened: many of
// one size handed over as one (GSO, GRO), many with one system call, or one by
// one. An interface that refuses GSO is found out while sending, and what it
// refused is sent otherwise.
//
// What a datagram means is not known here: that is transfer/wire and its users.
package mcast
