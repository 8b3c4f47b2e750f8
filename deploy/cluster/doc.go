// Package cluster holds the proof that a job survives the loss of a server of
// the bus and of the handler that owns it: three nats-servers, three handlers,
// an image service and fifty simulated nodes, in processes of their own.
//
// It has no code beside its tests.
package cluster
