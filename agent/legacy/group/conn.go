package group

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// MaxDatagram is how much of a datagram is read, in bytes: agents read with a buffer of 1024, and their own messages
// carry a line of output.
const MaxDatagram = 4096

// Scheme begins the form in which groups are written, as "multicast" or "multicast:224.4.0.1:9006,224.4.0.2:9002".
const Scheme = "multicast"

// ErrGroups says that a text names no pair of groups.
var ErrGroups = errors.New("not the groups of the multicast transport")

// Pair is the two groups of a testbed.
type Pair struct {
	Agents      netip.AddrPort // heard by agents
	Controllers netip.AddrPort // heard by controllers
}

// Default is the pair of the original's delivered configuration.
func Default() Pair {
	return Pair{
		Agents:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 4, 0, 1}), 9006),
		Controllers: netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 4, 0, 2}), 9002),
	}
}

// String is the form that Parse reads.
func (p Pair) String() string { return Scheme + ":" + p.Agents.String() + "," + p.Controllers.String() }

// Check says what is wrong with a pair: both must be IPv4 groups with a port, and they must differ.
func (p Pair) Check() error {
	for _, a := range []netip.AddrPort{p.Agents, p.Controllers} {
		if !a.Addr().Is4() || !a.Addr().IsMulticast() || a.Port() == 0 {
			return fmt.Errorf("%w: %s is no IPv4 multicast address with a port, such as 224.4.0.1:9006", ErrGroups, a)
		}
	}
	if p.Agents == p.Controllers {
		return fmt.Errorf("%w: agents and controllers would both use %s, and hear themselves", ErrGroups, p.Agents)
	}
	return nil
}

// Parse reads groups: "multicast" for the Default, or "multicast:AGENTS,CONTROLLERS", each ADDRESS:PORT.
func Parse(text string) (Pair, error) {
	rest, found := strings.CutPrefix(text, Scheme)
	if found && rest == "" {
		return Default(), nil
	}
	agents, controllers, both := strings.Cut(strings.TrimPrefix(rest, ":"), ",")
	if !found || !both || rest[0] != ':' {
		return Pair{}, fmt.Errorf("%w: %.80q; write %s or %s", ErrGroups, text, Scheme, Default())
	}
	var p Pair
	for _, f := range []struct {
		of   *netip.AddrPort
		text string
	}{{&p.Agents, agents}, {&p.Controllers, controllers}} {
		a, err := netip.ParseAddrPort(f.text)
		if err != nil {
			return Pair{}, fmt.Errorf("%w: %.80q: write ADDRESS:PORT, such as 224.4.0.1:9006", ErrGroups, f.text)
		}
		*f.of = a
	}
	return p, p.Check()
}

// Conn is one end of a pair: what it writes goes to one group, what it reads came from the other.
type Conn interface {
	// Read waits for a datagram. After Close it is net.ErrClosed.
	Read(p []byte) (n int, from netip.Addr, err error)
	// Write sends one datagram. It may be lost without an error.
	Write(p []byte) error
	Close() error
}
