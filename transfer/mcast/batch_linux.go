package mcast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch is the memory of one system call: headers pointing to vectors and addresses.
type batch struct {
	msgs  [BatchSize]mmsghdr
	iovs  [BatchSize]unix.Iovec
	addrs [BatchSize]unix.RawSockaddrInet4
}

// socket moves datagrams in batches, without an allocation on the way in or
// out; the standard library's calls and those of x/net allocate an address for
// each datagram, a million times per gigabyte.
type socket struct {
	*net.UDPConn
	raw syscall.RawConn

	in      batch
	buffers []byte
	want    int
	got     int
	recvErr error
	recvFn  func(fd uintptr) bool

	sendMu  sync.Mutex // guards what follows: any goroutine may send
	out     batch
	from    int // first message of out not sent yet
	to      int
	sendErr error
	sendFn  func(fd uintptr) bool
}

func newSocket(u *net.UDPConn) (*socket, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("udp socket: %w", err)
	}
	s := &socket{UDPConn: u, raw: raw, buffers: make([]byte, BatchSize*maxDatagram)}
	for i := range s.in.msgs {
		s.in.iovs[i].Base = &s.buffers[i*maxDatagram]
		s.in.iovs[i].SetLen(maxDatagram)
		s.in.point(i)
		s.out.point(i)
	}
	// The functions are made once: a closure per call would be an allocation per batch.
	s.recvFn, s.sendFn = s.recvmmsg, s.sendmmsg
	return s, nil
}

// point connects header i with its vector and its address.
func (b *batch) point(i int) {
	h := &b.msgs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
	h.Namelen = unix.SizeofSockaddrInet4
	h.Iov = &b.iovs[i]
	h.SetIovlen(1)
}

// receive waits for at least one datagram. One goroutine at a time.
func (s *socket) receive(ds []Datagram) (int, error) {
	s.want = min(len(ds), BatchSize)
	if s.want == 0 {
		return 0, nil
	}
	for {
		for i := range s.want {
			s.in.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		s.got, s.recvErr = 0, nil
		if err := s.raw.Read(s.recvFn); err != nil {
			// The runtime looks at the deadline first. To whoever was not
			// scheduled for a while it would say that nothing came.
			if err = plain(err); err != os.ErrDeadlineExceeded || s.look() != nil || s.got == 0 && s.recvErr == nil {
				return 0, err
			}
		}
		if s.recvErr != nil {
			return 0, fmt.Errorf("receive: %w", s.recvErr)
		}
		n := 0
		for i := range s.got {
			m := &s.in.msgs[i]
			if m.hdr.Flags&unix.MSG_TRUNC != 0 {
				continue // larger than any datagram of this protocol
			}
			ds[n] = Datagram{Data: s.buffers[i*maxDatagram : i*maxDatagram+int(m.n)], From: addrPort(&s.in.addrs[i])}
			n++
		}
		if n > 0 {
			return n, nil
		}
	}
}

// look receives what is there without waiting.
func (s *socket) look() error {
	return s.raw.Control(func(fd uintptr) { s.recvmmsg(fd) })
}

func (s *socket) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in.msgs[0])), uintptr(s.want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.got = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.recvErr = errno
			return true
		}
	}
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

// noRoomPause is how long a sender waits when the interface's queue is full (§2).
const noRoomPause = time.Millisecond

// send sends all datagrams to one address.
func (s *socket) send(to netip.AddrPort, ds [][]byte) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	for len(ds) > 0 {
		n := min(len(ds), BatchSize)
		for i, d := range ds[:n] {
			if len(d) == 0 || len(d) > maxDatagram {
				return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(d))
			}
			s.out.iovs[i].Base = &d[0]
			s.out.iovs[i].SetLen(len(d))
			setSockaddr(&s.out.addrs[i], to)
		}
		s.from, s.to = 0, n
		for s.from < s.to {
			s.sendErr = nil
			if err := s.raw.Write(s.sendFn); err != nil {
				return plain(err)
			}
			if s.sendErr == unix.ENOBUFS {
				time.Sleep(noRoomPause)
				continue
			}
			if s.sendErr != nil {
				return fmt.Errorf("send to %v: %w", to, s.sendErr)
			}
		}
		for i := range n {
			s.out.iovs[i].Base = nil // do not keep the caller's memory alive
		}
		ds = ds[n:]
	}
	return nil
}

func (s *socket) sendmmsg(fd uintptr) bool {
	for s.from < s.to {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.out.msgs[s.from])), uintptr(s.to-s.from), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.from += int(n)
		case unix.EINTR:
		case unix.ECONNREFUSED: // an ICMP answer to something earlier; nothing was sent
		case unix.EAGAIN:
			return false
		default:
			s.sendErr = errno
			return true
		}
	}
	return true
}

// drops is the kernel's count of datagrams it had no room for.
func (s *socket) drops() uint64 {
	var info [9]uint32 // SK_MEMINFO_*, drops is the last
	size := uint32(unsafe.Sizeof(info))
	err := s.control(func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return 0 // closed, or a kernel before 4.12: the count is a diagnosis, not a promise
	}
	return uint64(info[8])
}

// control runs f with the descriptor.
func (s *socket) control(f func(fd int) error) error {
	var inner error
	if err := s.raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return plain(err)
	}
	return inner
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
