// Package callout lets an external cluster ask who its connections are (NATS
// ADR-26): it answers the server's question with the same authority and the
// same permissions as the embedded bus, and closes connections whose credential
// is revoked. The configuration of the servers is in deploy/nats.
package callout
