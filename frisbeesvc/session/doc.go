// Package session runs one image on one multicast address: it gives out
// addresses ([Pool]) and ties a server of package transfer/server to its
// socket and its image ([Session]).
//
// What does not live here: which sessions there are, who holds leases on them
// and how that survives a restart (frisbeesvc); what a datagram means
// (transfer/server, transfer/wire).
package session
