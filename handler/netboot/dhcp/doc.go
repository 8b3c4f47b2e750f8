// Package dhcp answers the DHCP requests of machines that boot from the
// network (RFC 2131, RFC 4578; UEFI 2.10 section 24.7 for HTTP boot). Which
// machines there are is told by a look-up; there is no pool, no lease file and
// no state: a machine that the look-up does not know gets no answer.
//
// Modes: a server of reservations gives every machine that it knows its own
// address, and those that it leads their boot file. A proxy leaves addresses to
// another server and says only what to boot.
//
// Answer is pure; Serve reads and writes sockets.
package dhcp
