package mcast

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aggregate is the most that the kernel gives as one message.
const aggregate = 65536

// groupSlots is how many messages the socket of a group holds at most. One more
// than a batch: each message that a Receive has begun gave it at least one
// datagram, so there is always a free one, and at most 4 MB are needed. Memory
// is taken as traffic needs it: firstSlots are enough where many datagrams come
// as one.
const (
	groupSlots = BatchSize + 1
	firstSlots = 4
)

// message is what one slot holds: datagrams of the size each, the last one
// perhaps shorter. at is where the next one begins.
type message struct {
	slot          int
	at, end, each int
	from          netip.AddrPort
}

// receiver is the receiving side of a socket; for one goroutine at a time.
type receiver struct {
	raw    syscall.RawConn
	way    Way
	ignore []Match // what the kernel could not sort out
	fn     func(fd uintptr) bool
	lookFn func(fd uintptr) // fn without waiting

	size     int       // of a slot
	memory   [][]byte  // of the slots, as far as it was needed
	msgs     []mmsghdr // the messages of one call
	iovs     []unix.Iovec
	addrs    []unix.RawSockaddrInet4
	controls []control
	slots    []int // which slot each message of the call goes to

	free    []int     // slots
	spent   []int     // slots that the Receive under way has emptied
	pending []message // received and not given yet
	each    int       // datagrams a message held lately
	most    int       // messages to receive in one call; grows while it is too few
	ask     int       // messages to receive in this call
	got     int
	err     error
}

func newReceiver(raw syscall.RawConn, w Way, slots int, ignore []Match) *receiver {
	r := &receiver{raw: raw, way: w, size: maxDatagram, each: 1, most: firstSlots}
	if w == Offload {
		r.size, r.ignore = aggregate, ignore
	}
	r.memory = make([][]byte, 0, slots)
	r.msgs, r.iovs = make([]mmsghdr, slots), make([]unix.Iovec, slots)
	r.addrs, r.controls = make([]unix.RawSockaddrInet4, slots), make([]control, slots)
	r.slots, r.free, r.spent = make([]int, slots), make([]int, 0, slots), make([]int, 0, slots)
	r.pending = make([]message, 0, slots)
	for i := range slots {
		h := &r.msgs[i].hdr
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&r.addrs[i])), &r.iovs[i]
		h.SetIovlen(1)
		r.iovs[i].SetLen(r.size)
	}
	r.fn = r.recvmmsg
	if w == Single {
		r.fn = r.recvmsg
	}
	// Made once: a closure per call would be an allocation per batch.
	r.lookFn = func(fd uintptr) { r.fn(fd) }
	return r
}

// receive waits for at least one datagram, unless wait is false, and gives what
// is there.
func (r *receiver) receive(ds []Datagram, wait bool) (int, error) {
	want := min(len(ds), BatchSize)
	if want == 0 {
		return 0, nil
	}
	r.free = append(r.free, r.spent...)
	r.spent = r.spent[:0]
	n := r.give(ds[:want])
	for n < want {
		drained, err := r.fetch(want-n, wait && n == 0)
		if err != nil {
			if n > 0 {
				err = nil // it is there still the next time
			}
			return n, err
		}
		n += r.give(ds[n:want])
		if drained && (n > 0 || !wait) {
			break
		}
	}
	return n, nil
}

// give moves pending datagrams to ds.
func (r *receiver) give(ds []Datagram) int {
	n, done := 0, 0
	for done < len(r.pending) && n < len(ds) {
		m := &r.pending[done]
		slot, before := r.memory[m.slot], n
		for first := true; n < len(ds) && (m.at < m.end || first && m.end == 0); first = false {
			end := min(m.at+m.each, m.end)
			d := Datagram{Data: slot[m.at:end:end], From: m.from}
			m.at = end
			if !ignored(r.ignore, d.Data) {
				ds[n] = d
				n++
			}
		}
		if m.at < m.end {
			break
		}
		if n > before {
			r.spent = append(r.spent, m.slot)
		} else {
			r.free = append(r.free, m.slot)
		}
		done++
	}
	r.pending = append(r.pending[:0], r.pending[done:]...)
	return n
}

// fetch receives messages for about so many datagrams; drained says that there
// were no more. It is called when nothing is pending.
func (r *receiver) fetch(datagrams int, wait bool) (drained bool, err error) {
	r.ask = min(r.most, (datagrams+r.each-1)/r.each+1) // one more shows whether that is all
	if r.way == Single {
		r.ask = 1
	}
	for len(r.free) < r.ask && len(r.memory) < cap(r.memory) {
		r.free = append(r.free, len(r.memory))
		r.memory = append(r.memory, make([]byte, r.size))
	}
	r.ask = min(r.ask, len(r.free))
	for i := range r.ask {
		slot := r.free[len(r.free)-1-i] // what was used last is in the caches still
		r.slots[i] = slot
		r.iovs[i].Base = &r.memory[slot][0]
		h := &r.msgs[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet4, 0
		if r.way == Offload {
			h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
			h.SetControllen(int(unsafe.Sizeof(r.controls[i])))
		}
	}
	r.got, r.err = 0, nil
	if wait {
		if err := r.raw.Read(r.fn); err != nil {
			// The runtime looks at the deadline first. To whoever was not
			// scheduled for a while it would say that nothing came.
			if err = plain(err); err != os.ErrDeadlineExceeded || r.look() != nil || r.got == 0 && r.err == nil {
				return true, err
			}
		}
	} else if err := r.look(); err != nil {
		return true, plain(err)
	}
	if r.err != nil {
		return true, fmt.Errorf("receive: %w", r.err)
	}
	r.free = r.free[:len(r.free)-r.got]
	held := 0
	for i := range r.got {
		held += r.keep(i)
	}
	if r.got > 0 {
		r.each = max(1, held/r.got)
	}
	if r.got == r.ask {
		r.most = min(2*r.most, cap(r.memory))
	}
	return r.got < r.ask || r.got == 0, nil
}

// keep makes message i of a call pending, and gives the datagrams it holds.
func (r *receiver) keep(i int) int {
	h := &r.msgs[i]
	m := message{slot: r.slots[i], end: int(h.n), each: max(1, int(h.n)), from: addrPort(&r.addrs[i])}
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		r.free = append(r.free, m.slot) // larger than any datagram of this protocol
		return 0
	}
	if r.way == Offload && uint64(h.hdr.Controllen) >= uint64(unix.CmsgLen(4)) {
		c := &r.controls[i]
		if size := int(int32(binary.NativeEndian.Uint32(c.size[:]))); c.hdr.Level == unix.SOL_UDP && c.hdr.Type == unix.UDP_GRO && size > 0 {
			m.each = size
		}
	}
	r.pending = append(r.pending, m)
	return max(1, (m.end+m.each-1)/m.each)
}

// look receives what is there without waiting.
func (r *receiver) look() error {
	return r.raw.Control(r.lookFn)
}

func (r *receiver) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(r.ask), unix.MSG_DONTWAIT, 0, 0)
		if done, ready := r.took(int(n), errno); done {
			return ready
		}
	}
}

func (r *receiver) recvmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0].hdr)), unix.MSG_DONTWAIT)
		r.msgs[0].n = uint32(n)
		if done, ready := r.took(1, errno); done {
			return ready
		}
	}
}

// took notes how a system call ended; done says that it need not be repeated,
// ready that there is no reason to wait for the socket.
func (r *receiver) took(n int, errno unix.Errno) (done, ready bool) {
	switch errno {
	case 0:
		r.got = n
		return true, true
	case unix.EINTR:
		return false, false
	case unix.EAGAIN:
		return true, false
	}
	r.err = errno
	return true, true
}
