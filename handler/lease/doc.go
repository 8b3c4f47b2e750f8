// Package lease is the aggregate of who holds which nodes of a testbed, pure
// (docs/architecture.md): facts fold into a State, and the functions of it make facts.
//
// A job holds all the nodes that it asks for or none. A lease ends with its
// job, never by time. Protected nodes refuse every job; what the inventory
// protects is told by the caller, what operators protect is in the facts.
//
// When a job is running is not known here: the handler decides whether nodes
// may be released by hand.
package lease
