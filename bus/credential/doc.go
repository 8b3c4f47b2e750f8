// Package credential says who may do what on the bus: what credentials there
// are, how they are checked, and how the one of a single boot is handed out,
// used and revoked (docs/trust.md).
//
// The embedded server (bus/embedded) and the callout of a cluster
// (bus/credential/callout) ask the same Authority. What each kind of credential
// may do is written down in package bus (permission.go).
//
// # Two sorts
//
// Those of operators, services, residents and nodes for good derive from a
// secret. Nodes for good are simulated ones and legacy nodes behind their
// bridge, whose credentials never leave the machine of an operator.
//
// That of a boot derives from nothing: it is random, and a record in the
// bucket OMF_CREDENTIALS says for which node and which reboot it was made, to
// which address it was delivered, until when its first use must be, and whether
// it is revoked. To create the record is to deliver: it can be done once,
// whichever process does it. The record has a digest of the password only.
package credential
