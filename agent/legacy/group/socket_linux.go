package group

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ttl of what is sent: testbeds are one network.
const ttl = 1

// sockets are the two sockets of an end.
type sockets struct{ in, out *net.UDPConn }

// OpenController opens the controllers' end on the interface that has the address, any of 127/8 for loopback.
func OpenController(ctx context.Context, p Pair, local netip.Addr) (Conn, error) {
	return open(ctx, p, local, p.Controllers, p.Agents)
}

// OpenAgent opens an agent's end on the interface that has the address.
func OpenAgent(ctx context.Context, p Pair, local netip.Addr) (Conn, error) {
	return open(ctx, p, local, p.Agents, p.Controllers)
}

func open(ctx context.Context, p Pair, local netip.Addr, hear, say netip.AddrPort) (Conn, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !local.Is4() {
		return nil, fmt.Errorf("groups %s: an own IPv4 address is needed: it says which interface is meant", p)
	}
	in, err := listen(ctx, hear, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: hear.Addr().As4(), Address: local.As4()})
	})
	if err != nil {
		return nil, fmt.Errorf("hear group %s on %s: %w", hear, local, err)
	}
	out, err := dial(ctx, local, say)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("send to group %s from %s: %w", say, local, err), in.Close())
	}
	return &sockets{in: in, out: out}, nil
}

// control makes a function of net.ListenConfig of one that sets up a socket.
func control(set func(fd int) error) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = set(int(fd)) }); e != nil {
			return e
		}
		return err
	}
}

func listen(ctx context.Context, at netip.AddrPort, set func(fd int) error) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: control(set)}
	c, err := lc.ListenPacket(ctx, "udp4", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func dial(ctx context.Context, local netip.Addr, to netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Control: control(func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, ttl); err != nil {
			return err
		}
		return unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, local.As4())
	})}
	c, err := d.DialContext(ctx, "udp4", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// Read implements Conn.
func (s *sockets) Read(p []byte) (int, netip.Addr, error) {
	n, from, err := s.in.ReadFromUDPAddrPort(p)
	return n, from.Addr().Unmap(), err
}

// Write implements Conn. That nobody listens is no error of a group.
func (s *sockets) Write(p []byte) error {
	_, err := s.out.Write(p)
	return err
}

// Close implements Conn.
func (s *sockets) Close() error { return errors.Join(s.in.Close(), s.out.Close()) }
