package netboot

import (
	"fmt"
	"net/netip"
	"strings"

	"loadnode/handler/inventory"
)

// node is a machine of the inventory with a MAC.
type node struct {
	key
	*inventory.Node
	led bool // boot: {driver: builtin}
}

// nodes finds machines by what they say and where they ask from.
type nodes struct {
	macs map[string]*node
	ips  map[netip.Addr]*node
}

// index reads an inventory. A node that is led from here needs both addresses.
func index(inv *inventory.Inventory) (*nodes, error) {
	x := &nodes{macs: map[string]*node{}, ips: map[netip.Addr]*node{}}
	var lacking []string
	led := 0
	for _, tb := range inv.Testbeds() {
		for _, n := range tb.Nodes() {
			m := &node{key: key{tb.Name, n.Name}, Node: n, led: n.Boot.Driver == inventory.BootBuiltin}
			if m.led {
				led++
				if n.MAC == "" || !n.IP.Is4() {
					lacking = append(lacking, n.Name)
				}
			}
			if n.MAC != "" {
				x.macs[n.MAC] = m
			}
			if !n.IP.IsValid() {
				continue
			}
			if other := x.ips[n.IP]; other != nil && (other.led || m.led) {
				return nil, fmt.Errorf("%w: %s of testbed %s and %s of testbed %s have the same ip %s", ErrConfig, other.Name, other.testbed, n.Name, tb.Name, n.IP)
			}
			x.ips[n.IP] = m
		}
	}
	switch {
	case led == 0:
		return nil, fmt.Errorf("%w: no node of the inventory has boot: {driver: %s}", ErrConfig, inventory.BootBuiltin)
	case len(lacking) > 0:
		more := ""
		if len(lacking) > 5 {
			lacking, more = lacking[:5], " and more"
		}
		return nil, fmt.Errorf("%w: %s%s: boot: {driver: %s} needs mac and ip (IPv4) in the inventory", ErrConfig, strings.Join(lacking, ", "), more, inventory.BootBuiltin)
	}
	return x, nil
}

// who finds the node that asks from an address with a MAC; they must be of one
// node that is led from here.
func (x *nodes) who(mac string, from netip.Addr) (*node, error) {
	m, ok := x.macs[mac]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: no node has the MAC %.32q", errStranger, mac)
	case !m.led:
		return nil, fmt.Errorf("%w: %s is not booted from here", errStranger, m.Name)
	case m.IP != from:
		return nil, fmt.Errorf("%w: the MAC of %s from %s, which is not its address", errStranger, m.Name, from)
	}
	return m, nil
}
