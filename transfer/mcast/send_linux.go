package mcast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sendBatch is how many datagrams go with one system call at most.
	sendBatch = 64
	// maxSegments is how many datagrams the kernel takes as one (64 until
	// Linux 6.9, more since), maxSegmented how many bytes of them.
	maxSegments  = 64
	maxSegmented = 65507
	// A full queue of an interface (§2) is looked at again after a pause, which
	// doubles from the first to the longest.
	firstPause   = 100 * time.Microsecond
	longestPause = 2 * time.Millisecond
)

// sender is the sending side of a socket.
type sender struct {
	raw syscall.RawConn
	way atomic.Uint32 // Way in use
	fn  func(fd uintptr) bool

	mu sync.Mutex // guards what follows: any goroutine may send
	// segment is the largest datagram which is sent with others as one. It
	// shrinks when an interface refuses: GSO never fragments.
	segment  int
	addr     unix.RawSockaddrInet4
	msgs     [sendBatch]mmsghdr
	iovs     [2 * sendBatch]unix.Iovec
	controls [sendBatch]control
	holds    [sendBatch]int // datagrams of each message
	from, to int            // messages not sent yet
	err      error
}

func newSender(raw syscall.RawConn, w Way) *sender {
	s := &sender{raw: raw}
	s.way.Store(uint32(w))
	if w == Offload {
		s.segment = maxDatagram
	}
	for i := range s.controls {
		c := &s.controls[i]
		c.hdr.Level, c.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.hdr.SetLen(unix.CmsgLen(2))
		h := &s.msgs[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.addr)), unix.SizeofSockaddrInet4
	}
	// Made once: a closure per call would be an allocation per batch.
	s.fn = s.sendmmsg
	if w == Single {
		s.fn = s.sendmsg
	}
	return s
}

// send sends datagrams to one address. Datagram i is heads[i], followed by
// bodies[i] if bodies is not nil.
func (s *sender) send(to netip.AddrPort, heads, bodies [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	setSockaddr(&s.addr, to)
	for done := 0; done < len(heads); {
		if err := s.fill(heads, bodies, done); err != nil {
			return err
		}
		err := s.flush()
		for _, n := range s.holds[:s.from] {
			done += n
		}
		if err != nil && !s.separate(err) {
			return fmt.Errorf("send to %v: %w", to, err)
		}
	}
	return nil
}

// fill makes messages of the datagrams from the given one on, as many as there
// is room for. A message is a run of datagrams of one size, which a shorter one
// may end.
func (s *sender) fill(heads, bodies [][]byte, next int) error {
	s.from, s.to = 0, 0
	vecs, bytes, unit, open := 0, 0, 0, false
	for ; next < len(heads) && vecs+2 <= len(s.iovs); next++ {
		head, size := heads[next], len(heads[next])
		var body []byte
		if bodies != nil {
			body = bodies[next]
			size += len(body)
		}
		if len(head) == 0 || bodies != nil && len(body) == 0 || size > maxDatagram {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
		}
		if !open || size > unit || bytes+size > maxSegmented || s.holds[s.to-1] == maxSegments {
			if s.to == len(s.msgs) {
				return nil
			}
			s.begin(vecs)
			unit, bytes, open = size, 0, size <= s.segment
		}
		open = open && size == unit
		bytes += size
		s.holds[s.to-1]++
		first := vecs
		vecs = s.point(vecs, head)
		if body != nil {
			vecs = s.point(vecs, body)
		}
		s.extend(vecs-first, unit)
	}
	return nil
}

// begin makes an empty message whose vectors start at i.
func (s *sender) begin(i int) {
	h := &s.msgs[s.to].hdr
	h.Iov = &s.iovs[i]
	h.SetIovlen(0)
	h.Control = nil
	h.SetControllen(0)
	s.holds[s.to] = 0
	s.to++
}

// extend adds vectors of one more datagram to the last message. Only who has
// several says to the kernel of what size they are.
func (s *sender) extend(vecs, unit int) {
	last := s.to - 1
	h := &s.msgs[last].hdr
	h.SetIovlen(int(h.Iovlen) + vecs)
	if s.holds[last] == 2 {
		c := &s.controls[last]
		binary.NativeEndian.PutUint16(c.size[:], uint16(unit))
		h.Control = (*byte)(unsafe.Pointer(c))
		h.SetControllen(unix.CmsgSpace(2))
	}
}

// point makes vector i a part of a datagram and gives the next one's number.
func (s *sender) point(i int, b []byte) int {
	s.iovs[i].Base = &b[0]
	s.iovs[i].SetLen(len(b))
	return i + 1
}

// flush sends the messages. With an error, s.from is the one it is about.
func (s *sender) flush() error {
	defer func() {
		for i := range s.iovs {
			s.iovs[i].Base = nil // do not keep the caller's memory alive
		}
	}()
	pause := firstPause
	for s.from < s.to {
		s.err = nil
		if err := s.raw.Write(s.fn); err != nil {
			return plain(err)
		}
		switch s.err {
		case nil:
		case unix.ENOBUFS:
			time.Sleep(pause)
			pause = min(2*pause, longestPause)
		default:
			return s.err
		}
	}
	return nil
}

// separate says whether an error may come from sending many as one, in which
// case they are not sent so again: EIO is an interface that cannot, EINVAL and
// EMSGSIZE are datagrams too large for it, which go as fragments instead.
func (s *sender) separate(err error) bool {
	if s.from >= s.to || s.holds[s.from] < 2 {
		return false
	}
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EMSGSIZE):
		s.segment = int(binary.NativeEndian.Uint16(s.controls[s.from].size[:])) - 1
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOPROTOOPT):
		s.segment = 0
	default:
		return false
	}
	if s.segment < minSegment {
		s.segment = 0
		s.way.Store(uint32(Mmsg))
	}
	return true
}

// minSegment is the smallest limit for which sending many as one is kept.
const minSegment = 64

func (s *sender) sendmmsg(fd uintptr) bool {
	for s.from < s.to {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.from])), uintptr(s.to-s.from), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			s.from += int(n)
		} else if stop, ready := s.stopped(errno); stop {
			return ready
		}
	}
	return true
}

func (s *sender) sendmsg(fd uintptr) bool {
	for s.from < s.to {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.from].hdr)), unix.MSG_DONTWAIT)
		if errno == 0 {
			s.from++
		} else if stop, ready := s.stopped(errno); stop {
			return ready
		}
	}
	return true
}

// stopped says whether an error ends a system call's loop, and whether without
// waiting for the socket.
func (s *sender) stopped(errno unix.Errno) (stop, ready bool) {
	switch errno {
	case unix.EINTR, unix.ECONNREFUSED: // the latter is an ICMP answer to something earlier; nothing was sent
		return false, false
	case unix.EAGAIN:
		return true, false
	}
	s.err = errno
	return true, true
}
