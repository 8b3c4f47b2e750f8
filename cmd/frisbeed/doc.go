// Command frisbeed serves one .ndz image to a multicast group. Its options are those of the original server as far as
// they apply (specs/frisbee-protocol.md sections 4 and 9); options that belong to things it does not do are refused,
// never ignored. It runs in the foreground.
package main
