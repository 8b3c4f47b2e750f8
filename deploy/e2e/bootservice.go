package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"loadnode/bus"
	"loadnode/events"
)

const bootPort = "8080"

// serveDHCP gives each machine its address.
func serveDHCP(machines []*machine) (*server4.Server, error) {
	return server4.NewServer("br0", &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, func(conn net.PacketConn, peer net.Addr, q *dhcpv4.DHCPv4) {
		kinds := map[dhcpv4.MessageType]dhcpv4.MessageType{
			dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest: dhcpv4.MessageTypeAck,
		}
		kind, ok := kinds[q.MessageType()]
		if !ok {
			return
		}
		for _, m := range machines {
			if q.ClientHWAddr.String() != hardware(m.index).String() {
				continue
			}
			answer, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(address(m.index)),
				dhcpv4.WithServerIP(net.ParseIP(server)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(server))),
				dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600))
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}) // a lost answer is asked for again
		}
	})
}

// bootConfig tells each machine which node it is.
func bootConfig(conn *bus.Conn, machines []*machine) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /boot/config", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range machines {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			if r.URL.Query().Get("mac") != hardware(m.index).String() || host != address(m.index).String() {
				continue
			}
			var c events.Credential
			ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
			defer cancel()
			err := conn.Request(ctx, events.BusSubject(testbed, events.BusCredential), events.CredentialRequest{Node: m.name, Kind: events.CredentialNode}, &c)
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_ = json.NewEncoder(w).Encode(events.BootConfig{Testbed: testbed, Node: m.name, Bus: []string{natsURL}, Credential: &c, Time: time.Now()})
			return
		}
		http.Error(w, "no machine of this place", http.StatusForbidden)
	})
	return mux
}
