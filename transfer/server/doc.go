// Package server is the sending end of a Frisbee session: it answers joins,
// collects what clients ask for, and sends each block as few times as it can at
// a rate the network and the receivers bear (protocol §4).
//
// One Server serves one image on one mcast.Conn. It knows the image only as
// chunks of 1 MiB; whether they are the right ones is decided by Config.Check.
// Which image is served where, and for how long, is the business of the image
// service; how datagrams travel is transfer/mcast.
//
// Where it differs from the original servers:
//
//   - A request that arrives while its chunk is being sent, or just after, is
//     compared with what was really sent since its sender joined. What it must
//     have heard is not sent again; what it cannot have heard is never dropped,
//     so late joiners get the head of a running chunk without asking twice.
//   - What late joiners want repeated has a small share of the rate while there
//     are new blocks to send, and all of it afterwards: a second job for the
//     image does not slow down the first.
//   - The image is read ahead by other goroutines than the sending one, which
//     meanwhile takes the next chunk that is ready.
//   - The pace is kept by a schedule instead of a 1 ms clock, and follows what
//     the receivers bear: our clients report it, of others their repeated
//     requests tell. Most of them must suffer before it falls, so that a few bad
//     nodes slow nobody down by more than a bounded part.
//   - A chunk is not sent before most have room for it.
//   - Late joiners are served in one round: what was sent longest ago is first,
//     and a part that is asked for is made whole where somebody lacks all of it.
package server
