package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// maxPacket is the largest packet that is read, in bytes: no DHCP message is
// larger than an Ethernet frame.
const maxPacket = 1500

// Listen opens a socket on an interface of this machine, which hears
// broadcasts. Ports below 1024 need CAP_NET_BIND_SERVICE.
func Listen(iface string, port uint16) (net.PacketConn, error) {
	if _, err := net.InterfaceByName(iface); err != nil {
		return nil, fmt.Errorf("interface %s: %w", iface, err)
	}
	c, err := server4.NewIPv4UDPConn(iface, &net.UDPAddr{IP: net.IPv4zero, Port: int(port)})
	if err != nil {
		return nil, fmt.Errorf("dhcp on %s: %w", iface, err)
	}
	return c, nil
}

// Socket is one that packets for a port come by.
type Socket struct {
	Conn net.PacketConn
	Port uint16 // ServerPort or BootPort
}

// Serve answers what comes by the sockets until ctx ends, and closes them.
// Seen is told of every packet after it was answered; err is that of sending.
func (s *Server) Serve(ctx context.Context, sockets []Socket, seen func(a Ask, err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		for _, k := range sockets {
			_ = k.Conn.Close() // ends the reading
		}
	})
	defer stop()
	var work sync.WaitGroup
	for _, k := range sockets {
		work.Go(func() {
			if err := s.loop(ctx, k, seen); err != nil {
				cancel(fmt.Errorf("dhcp on port %d: %w", k.Port, err))
			}
		})
	}
	work.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (s *Server) loop(ctx context.Context, k Socket, seen func(Ask, error)) error {
	buf := make([]byte, maxPacket)
	for {
		n, peer, err := k.Conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.ENETDOWN):
			continue // the interface will come back
		case err != nil:
			return err
		}
		var from netip.AddrPort
		if u, ok := peer.(*net.UDPAddr); ok {
			from = netip.AddrPortFrom(u.AddrPort().Addr().Unmap(), u.AddrPort().Port())
		}
		a := s.Answer(buf[:n], from, k.Port)
		var sent error
		if a.Reply != nil {
			_, sent = k.Conn.WriteTo(a.Reply, net.UDPAddrFromAddrPort(a.To))
		}
		seen(a, sent)
	}
}
