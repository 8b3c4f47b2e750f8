package mcast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// control is room for the one control message used in either direction: the
// size of the datagrams that were, or shall be, handed over as one.
type control struct {
	hdr  unix.Cmsghdr
	size [8]byte // uint16 when sending, int32 when received, padded
}

// socket moves datagrams in batches, without an allocation on the way in or
// out; the standard library's calls and those of x/net allocate an address for
// each datagram, a million times per gigabyte.
type socket struct {
	*net.UDPConn
	raw syscall.RawConn
	in  *receiver
	out *sender
}

// newSocket takes over u; slots is how many messages it can hold.
func newSocket(u *net.UDPConn, m Mode, slots int, ignore []Match) (*socket, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("udp socket: %w", err)
	}
	return &socket{UDPConn: u, raw: raw, in: newReceiver(raw, m.Receive, slots, ignore), out: newSender(raw, m.Send)}, nil
}

// plain gives the bare sentinel of a network error, so that callers (and
// readers of messages) need not see through layers of it.
func plain(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return net.ErrClosed
	}
	return err
}

// memory is what the kernel says of a socket's queues (SO_MEMINFO).
type memory struct {
	received, receivable uint32 // bytes in the receive queue, and as many fit
	_                    [6]uint32
	drops                uint32 // what it had no room for
}

// memory asks the kernel. Nothing is known of a socket that is closed, or from
// a kernel before 4.12: the figures are a diagnosis, not a promise.
func (s *socket) memory() (m memory) {
	size := uint32(unsafe.Sizeof(m))
	err := s.control(func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return memory{}
	}
	return m
}

// control runs f with the descriptor.
func (s *socket) control(f func(fd int) error) error {
	var inner error
	if err := s.raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return plain(err)
	}
	return inner
}

// choose decides the ways of a socket by what the kernel has, and switches
// receiving in aggregates on. What was asked for by name and is not there is
// an error.
func choose(fd int, want Mode, gro bool) (Mode, error) {
	m := want
	switch {
	case want.Send != Auto && want.Send != Offload:
	case offers(fd, unix.UDP_SEGMENT):
		m.Send = Offload
	case want.Send == Offload:
		return m, fmt.Errorf("%w: this kernel has no UDP segmentation offload (Linux 4.18): use mode mmsg or auto", ErrOptions)
	default:
		m.Send = Mmsg
	}
	switch {
	case want.Receive != Auto && want.Receive != Offload:
	case !gro:
		m.Receive = Mmsg
	case unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil:
		m.Receive = Offload
	case want.Receive == Offload:
		return m, fmt.Errorf("%w: this kernel has no UDP receive offload (Linux 5.0): use mode mmsg or auto", ErrOptions)
	default:
		m.Receive = Mmsg
	}
	return m, nil
}

// offers says whether the kernel knows a UDP option.
func offers(fd, option int) bool {
	_, err := unix.GetsockoptInt(fd, unix.SOL_UDP, option)
	return err == nil
}

// The port of a sockaddr is big-endian whatever the machine is.

func addrPort(a *unix.RawSockaddrInet4) netip.AddrPort {
	p := (*[2]byte)(unsafe.Pointer(&a.Port))
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(p[0])<<8|uint16(p[1]))
}

func setSockaddr(a *unix.RawSockaddrInet4, to netip.AddrPort) {
	a.Family = unix.AF_INET
	a.Addr = to.Addr().As4()
	p := (*[2]byte)(unsafe.Pointer(&a.Port))
	p[0], p[1] = byte(to.Port()>>8), byte(to.Port())
}
