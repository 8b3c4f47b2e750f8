package session

import (
	"errors"
	"fmt"
	"net/netip"
)

// maxSlots is how many sessions one service can have at once.
const maxSlots = 1024

// hosts is how many groups a /24 gives: all but .0 and .255, which some
// switches treat specially.
const hosts = 254

// ErrPool says that the base of addresses makes no sense.
var ErrPool = errors.New("bad addresses for sessions")

// Address is where a session lives.
type Address struct {
	Group netip.Addr
	Port  uint16
}

// String is GROUP:PORT.
func (a Address) String() string { return netip.AddrPortFrom(a.Group, a.Port).String() }

// Pool is the addresses that sessions may have. Every one has its own port,
// and, unless OneGroup is set, its own group. It holds no state.
type Pool struct {
	Group    netip.Addr // its /24 is used; the last byte does not matter, unless OneGroup is set
	Port     uint16     // the first one
	OneGroup bool       // all sessions on Group itself: legacy status pages know only one
}

// Validate says whether sessions can live there.
func (p Pool) Validate() error {
	switch {
	case !p.Group.Is4() || !p.Group.IsMulticast():
		return fmt.Errorf("%w: %v is not an IPv4 multicast address", ErrPool, p.Group)
	case p.Port == 0:
		return fmt.Errorf("%w: no first port", ErrPool)
	}
	return nil
}

// Slots is how many addresses there are.
func (p Pool) Slots() int { return min(maxSlots, 1<<16-int(p.Port)) }

// At is the address of slot i, counted modulo Slots.
func (p Pool) At(i int) Address {
	i %= p.Slots()
	a := Address{Group: p.Group, Port: p.Port + uint16(i)}
	if !p.OneGroup {
		b := p.Group.As4()
		b[3] = byte(1 + i%hosts)
		a.Group = netip.AddrFrom4(b)
	}
	return a
}

// After is the slot behind that of a port: addresses go round, so that one
// that was just given back rests as long as possible.
func (p Pool) After(port uint16) int {
	if port < p.Port || int(port-p.Port) >= p.Slots() {
		return 0
	}
	return (int(port-p.Port) + 1) % p.Slots()
}
