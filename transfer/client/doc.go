// Package client is the receiving end of a Frisbee session: it joins, asks for
// what it lacks and nobody else has asked for, collects chunks from blocks in
// any order, and hands whole chunks to an Installer (protocol §5).
//
// What becomes of a chunk (checking, inflating, writing, syncing) is the
// Installer's business; a chunk counts as done only when it says so. Sockets
// are transfer/mcast. The client keeps the bound on memory by asking for no
// more than it has room for, and never drops what it could have kept. A server
// that asks is told how it fares, by which the pace is set.
//
// One goroutine receives and decides; Workers call the Installer. Time comes
// from package time, so that tests use testing/synctest.
package client
