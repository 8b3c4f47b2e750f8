// Package replay plays recorded sessions of the original programs on a virtual clock: their servers to our client, their
// clients to our server. What ours say is held against what theirs said.
//
// It has no code beside its tests.
package replay
