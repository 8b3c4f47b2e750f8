package power

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// wol wakes machines with magic packets. It cannot do anything else, and it
// does not learn whether it worked.
type wol struct {
	spec inventory.Power
	deps Deps
}

func newWOL(spec inventory.Power, deps Deps) (Driver, error) {
	if _, err := spec.Check(); err != nil {
		return nil, fmt.Errorf("power driver wol: %w: %w", ErrDriver, err)
	}
	if deps.Addresses == nil {
		return nil, fmt.Errorf("power driver wol: %w: nobody tells it the MACs of the nodes", ErrDriver)
	}
	return &wol{spec, deps}, nil
}

// Repeatable: a machine that is awake does not mind.
func (w *wol) Repeatable() bool { return false }

func (w *wol) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, w.spec.Timeout, "wol", func(ctx context.Context, r Request) (State, error) {
		return State{Power: Unknown, Cycles: -1}, w.do(ctx, r)
	})
}

func (w *wol) do(ctx context.Context, r Request) error {
	text, _ := w.deps.addresses(r)
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return bus.Permanent(fmt.Errorf("%w: the inventory does not know the mac of %s", ErrRequest, r.Node))
	}
	switch r.Action {
	case events.PowerStatus:
		return nil // nobody knows
	case events.PowerOn:
		return w.wake(ctx, mac)
	}
	return cannot("wol", r.Action, "magic packets only wake; redfish, ipmi, cmc and exec can do it, and agent or bus where the node's system runs")
}

// copies of a packet are sent, since nobody says that it has come.
const copies = 3

func (w *wol) wake(ctx context.Context, mac net.HardwareAddr) error {
	to, from, err := w.target()
	if err != nil {
		return err
	}
	dialer := net.Dialer{}
	if from.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := dialer.DialContext(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	packet := magic(mac)
	for range copies {
		if _, err := conn.Write(packet); err != nil {
			return fmt.Errorf("send to %s: %w", to, err)
		}
	}
	return nil
}

// magic is the packet: six bytes 0xff and the MAC sixteen times.
func magic(mac net.HardwareAddr) []byte {
	return append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...)
}

// target is where packets go to, and the address that they leave from if the
// interface is chosen.
func (w *wol) target() (to netip.AddrPort, from netip.Addr, err error) {
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), inventory.DefaultWOLPort)
	if w.spec.Broadcast != "" {
		if to, err = w.spec.BroadcastAddr(); err != nil {
			return to, from, err
		}
	}
	if w.spec.Interface == "" {
		return to, from, nil
	}
	ifi, err := net.InterfaceByName(w.spec.Interface)
	if err != nil {
		return to, from, fmt.Errorf("interface %s: %w", w.spec.Interface, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return to, from, fmt.Errorf("interface %s: %w", w.spec.Interface, err)
	}
	for _, a := range addrs {
		ipnet, ok := a.(*net.IPNet)
		if !ok || ipnet.IP.To4() == nil {
			continue
		}
		from, _ = netip.AddrFromSlice(ipnet.IP.To4())
		if w.spec.Broadcast == "" {
			to = netip.AddrPortFrom(broadcastOf(ipnet), inventory.DefaultWOLPort)
		}
		return to, from, nil
	}
	return to, from, fmt.Errorf("interface %s has no IPv4 address", w.spec.Interface)
}

// broadcastOf is the last address of a network: routed by its interface, which
// 255.255.255.255 is not.
func broadcastOf(n *net.IPNet) netip.Addr {
	var b [4]byte
	for i, v := range n.IP.To4() {
		b[i] = v | ^n.Mask[len(n.Mask)-4+i]
	}
	return netip.AddrFrom4(b)
}
