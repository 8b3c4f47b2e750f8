// Package wire encodes and decodes the datagrams of the Frisbee multicast
// protocol: subtypes 1 to 8, byte for byte as the two generations of the
// original programs send them, and subtype 9, an extension which they ignore
// (see Report).
//
// What lives here is the layout of a datagram and the checks that need nothing
// but the datagram itself. What a chunk number or a request means for a session
// (is the chunk inside the image, who may say this) is for transfer/server and
// transfer/client; sockets are transfer/mcast.
//
// Decoding allocates nothing: the payload of a BLOCK is a view into the
// datagram. All integers are little-endian, which is what every deployed peer
// sends ("host byte order"); IPv4 addresses are in network order.
package wire
