// Package embedded runs a NATS server with JetStream inside the process: the
// broker of "omf serve" on one machine, of the demonstration and of tests. It
// decides what each credential may do; what it decides is written down in
// package bus (permission.go).
//
// It links nats-server, so that only cmd/omf and tests import it.
package embedded
