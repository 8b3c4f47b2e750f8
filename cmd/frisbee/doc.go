// Command frisbee loads a disk, or a file, from a multicast group. Its options and what it prints are those of the
// original client as far as they apply (specs/frisbee-protocol.md sections 5 and 9); options that belong to things it
// does not do are refused, never ignored. Disks pass the safety gate of transfer/disk first.
package main
