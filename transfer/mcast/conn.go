package mcast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Defaults of Options.
const (
	// DefaultTTL of multicast datagrams (protocol §2).
	DefaultTTL = 5
	// DefaultBuffer is the size asked for socket buffers, bytes. It bridges the
	// time in which a receiver is not scheduled: some 14 000 blocks, 120 ms at
	// 1 Gbit/s, for which the kernel takes up to twice as much memory.
	DefaultBuffer = 16 << 20
	// BatchSize is how many datagrams one Receive gives at most: as many blocks
	// as the kernel sends and receives as one.
	BatchSize = 62

	// maxDatagram holds the datagrams of all generations, jumbo builds included (§7 rule 2).
	maxDatagram = 9216
)

var (
	// ErrPortInUse says that another program has the UDP port, in a way that cannot be shared.
	ErrPortInUse = errors.New("port is in use")
	// ErrOptions says that Options make no sense; the text names the field.
	ErrOptions = errors.New("bad multicast options")
	// ErrTooLarge says that a datagram is larger than the sockets carry.
	ErrTooLarge = errors.New("datagram too large")
)

// Datagram is one received datagram.
type Datagram struct {
	// Data is valid until the next Receive and must not be changed: on an
	// in-memory network all receivers share it.
	Data []byte
	From netip.AddrPort
}

// Conn is one end of a group. Receive is for one goroutine at a time; all other
// methods may be called from anywhere at any time.
type Conn interface {
	// Receive waits for datagrams and fills ds from the front, up to
	// min(len(ds), BatchSize). It gives what is there rather than wait for a
	// full batch; a short batch therefore means that the receive queue was
	// empty. After the deadline it still gives what has arrived; when that is
	// nothing, the error is os.ErrDeadlineExceeded. After Close it is net.ErrClosed.
	Receive(ds []Datagram) (int, error)
	// SetReadDeadline sets the time at which Receive gives up, zero for never.
	// A time in the past wakes a Receive which is waiting.
	SetReadDeadline(t time.Time) error
	// Send sends the datagrams to the group in this order. It waits while the
	// kernel has no room. Datagrams of equal size cost least.
	Send(ds [][]byte) error
	// SendTo sends one datagram to one peer.
	SendTo(peer netip.AddrPort, d []byte) error
	// Addr is the own address and port: the source peers see.
	Addr() netip.AddrPort
	// Group is where Send sends: the group, or the peer in unicast mode.
	Group() netip.AddrPort
	// Overruns counts datagrams that arrived and were dropped because nobody
	// took them from the receive queue in time. With receive offload it is a
	// lower limit: the kernel may count those it had joined as one. With
	// Options.Ignore it tells nothing: the kernel counts the ignored as well.
	Overruns() uint64
	// Backlog is the part of the receive queue that is in use: 0 empty, 1 full.
	Backlog() float64
	// Close ends a waiting Receive and frees the port.
	Close() error
}

// Match is a 32-bit little-endian word at a byte offset of a datagram.
type Match struct {
	Offset int
	Word   uint32
	// Size is the size in bytes which the datagram must have, 0 for any. A
	// kernel that receives several datagrams of one sender as one can ignore
	// them together only if their size is known. It looks at the first and the
	// last of them then: a sender must not hide others of that size between.
	Size int
}

// matches says whether d has the size and the word.
func (m Match) matches(d []byte) bool {
	return m.Offset >= 0 && m.Offset+4 <= len(d) && (m.Size == 0 || m.Size == len(d)) &&
		binary.LittleEndian.Uint32(d[m.Offset:]) == m.Word
}

// ignored says whether any of ms matches d.
func ignored(ms []Match, d []byte) bool {
	for _, m := range ms {
		if m.matches(d) {
			return true
		}
	}
	return false
}

// Options say which group to join and how.
type Options struct {
	// Group is an IPv4 multicast address, or the peer's address for unicast mode.
	Group netip.Addr
	// Port is used on both sides, as source and destination.
	Port uint16
	// Local is the own IPv4 address; it chooses the interface. The zero Addr
	// means the address from which the group is routed.
	Local netip.Addr
	// TTL of datagrams to the group; 0 means DefaultTTL.
	TTL int
	// Loopback lets other sockets on this machine hear what is sent. It is
	// always on when Local is in 127/8, where nobody else could hear anything.
	Loopback bool
	// ReadBuffer and WriteBuffer are the socket buffers to ask for, bytes;
	// 0 means DefaultBuffer. Without privileges the kernel may give less.
	ReadBuffer, WriteBuffer int
	// Exclusive refuses, with ErrPortInUse, a second exclusive Conn with the
	// same address and port on this machine. Servers want it; clients must be
	// able to share an address with the server.
	Exclusive bool
	// Ignore drops datagrams from the group, where possible in the kernel,
	// that match. A server on a loopback interface hears its own BLOCKs; they
	// would push the requests out of its receive queue.
	Ignore []Match
	// Mode says how datagrams are sent and received; the zero Mode takes the
	// best the kernel has. In-memory networks know only one way. What is named
	// and not there is refused, with ErrOptions.
	Mode Mode
}

// check fills in defaults and refuses what makes no sense.
func (o Options) check() (Options, error) {
	switch {
	case !o.Group.Is4():
		return o, fmt.Errorf("%w: group %v is not an IPv4 address", ErrOptions, o.Group)
	case o.Group.IsUnspecified() || o.Group == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return o, fmt.Errorf("%w: group %v: broadcast is not supported, use a multicast group", ErrOptions, o.Group)
	case o.Port == 0:
		return o, fmt.Errorf("%w: port 0", ErrOptions)
	case o.Local.IsValid() && (!o.Local.Is4() || o.Local.IsMulticast() || o.Local.IsUnspecified()):
		return o, fmt.Errorf("%w: local address %v is not the IPv4 address of an interface", ErrOptions, o.Local)
	case o.TTL < 0 || o.TTL > 255:
		return o, fmt.Errorf("%w: TTL %d", ErrOptions, o.TTL)
	case o.ReadBuffer < 0 || o.WriteBuffer < 0:
		return o, fmt.Errorf("%w: negative buffer size", ErrOptions)
	}
	for _, m := range o.Ignore {
		if m.Offset < 0 || m.Offset > maxDatagram {
			return o, fmt.Errorf("%w: ignore offset %d", ErrOptions, m.Offset)
		}
		if m.Size != 0 && (m.Size < m.Offset+4 || m.Size > maxDatagram) {
			return o, fmt.Errorf("%w: ignore size %d", ErrOptions, m.Size)
		}
	}
	if _, err := o.Mode.MarshalText(); err != nil {
		return o, err
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.ReadBuffer == 0 {
		o.ReadBuffer = DefaultBuffer
	}
	if o.WriteBuffer == 0 {
		o.WriteBuffer = DefaultBuffer
	}
	o.Loopback = o.Loopback || o.Local.IsLoopback()
	return o, nil
}
