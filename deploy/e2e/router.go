package main

import (
	"net"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// advertise answers those who ask for a router of IPv6: there is none that leads
// anywhere, and no address is to be had. Without an answer iPXE waits for 16 s in
// each start. It ends when what it returns is closed.
func advertise(device string) (*icmp.PacketConn, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	p := c.IPv6PacketConn()
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	for _, step := range []func() error{
		func() error { return p.JoinGroup(i, &net.IPAddr{IP: net.IPv6linklocalallrouters}) },
		func() error { return p.SetMulticastInterface(i) },
		func() error { return p.SetMulticastHopLimit(255) }, // what came over a router is not believed
		func() error { return p.SetICMPFilter(&only) },
	} {
		if err := step(); err != nil {
			c.Close()
			return nil, err
		}
	}
	// Any number of hops for packets to come; no address, and 0 s of being a router.
	answer, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: make([]byte, 12)}}).Marshal(nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	go func() {
		question := make([]byte, 1500)
		for {
			if _, _, err := c.ReadFrom(question); err != nil {
				return // closed
			}
			_, _ = c.WriteTo(answer, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: device}) // it asks again
		}
	}()
	return c, nil
}
