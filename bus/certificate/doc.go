// Package certificate gives the embedded bus its certificate: one that it makes
// itself, with an authority of its own, or one from files.
//
// An authority of its own needs no work by hand: what clients have to trust
// travels in their credentials (events.Credential.CA), which they need anyway.
// It signs nothing but this server's certificate.
//
// What clients check is in package bus.
package certificate
