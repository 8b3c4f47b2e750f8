package mcast

import (
	"fmt"
	"strings"
)

// Way is how datagrams cross between program and kernel in one direction.
type Way uint8

const (
	// Auto takes the best way the kernel has.
	Auto Way = iota
	// Offload hands many datagrams of one size over as one: UDP GSO when
	// sending (Linux 4.18), UDP GRO when receiving (Linux 5.0), several of
	// those per system call.
	Offload
	// Mmsg moves many datagrams with one system call: sendmmsg, recvmmsg.
	Mmsg
	// Single takes one system call for each datagram. It is there for
	// comparison and for kernels and sandboxes that have nothing better.
	Single
)

// Mode is how a Conn sends and receives. The zero Mode takes the best of both.
// Its text is "SEND/RECEIVE", as in "gso/gro" and "mmsg/single"; one word is
// meant for both directions ("auto", "mmsg", "single"; "gso" and "gro" are the
// same as "gso/gro").
type Mode struct {
	Send, Receive Way
}

var (
	sendNames    = [...]string{"auto", "gso", "mmsg", "single"}
	receiveNames = [...]string{"auto", "gro", "mmsg", "single"}
)

// String gives the text of m.
func (m Mode) String() string {
	name := func(w Way, names *[4]string) string {
		if int(w) < len(names) {
			return names[w]
		}
		return fmt.Sprintf("way %d", w)
	}
	if m.Send == m.Receive && m.Send != Offload {
		return name(m.Send, &sendNames)
	}
	return name(m.Send, &sendNames) + "/" + name(m.Receive, &receiveNames)
}

// MarshalText gives the text of m.
func (m Mode) MarshalText() ([]byte, error) {
	if m.Send > Single || m.Receive > Single {
		return nil, fmt.Errorf("%w: mode %v", ErrOptions, m)
	}
	return []byte(m.String()), nil
}

// UnmarshalText understands what MarshalText gives, and single words.
func (m *Mode) UnmarshalText(text []byte) error {
	send, receive, both := strings.Cut(string(text), "/")
	if !both {
		receive = send
		switch send {
		case "":
			send, receive = "auto", "auto"
		case "gso", "gro":
			send, receive = "gso", "gro"
		}
	}
	find := func(s string, names *[4]string) (Way, bool) {
		for w, name := range names {
			if s == name {
				return Way(w), true
			}
		}
		return 0, false
	}
	s, ok1 := find(send, &sendNames)
	r, ok2 := find(receive, &receiveNames)
	if !ok1 || !ok2 {
		return fmt.Errorf("%w: mode %q, want SEND/RECEIVE of auto, gso, mmsg, single / auto, gro, mmsg, single", ErrOptions, text)
	}
	*m = Mode{Send: s, Receive: r}
	return nil
}

// Modal is a Conn over the kernel's sockets.
type Modal interface {
	// Mode says which ways are in use. It is never Auto, and Send may change
	// while sending when an interface turns out to refuse offload.
	Mode() Mode
}

// Rejoiner is a Conn that can say once more that it is in its group.
type Rejoiner interface {
	// Rejoin leaves the group and joins it again, which the network hears: for
	// switches that forget members when nobody asks for them. In unicast mode
	// there is nothing to do.
	Rejoin() error
}

// PartsSender is a Conn that sends datagrams which lie in memory in two parts,
// without joining them first. Conns over sockets and in-memory ones are; a Conn
// that wraps another need not be.
type PartsSender interface {
	// SendParts is as Send; datagram i is heads[i] followed by bodies[i]. Both
	// slices must be of the same length and no part may be empty.
	SendParts(heads, bodies [][]byte) error
}
