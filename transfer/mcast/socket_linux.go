package mcast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sideSlots is how many unicast messages are received at a time beside the
// group's.
const sideSlots = 8

// sideQueue bounds the unicast datagrams waiting beside the group's.
const sideQueue = 256

// Open joins a group on the interface which has the local address, or, when
// Group is a unicast address, opens one socket to that peer. A port that
// another program holds is ErrPortInUse.
func Open(o Options) (Conn, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	group := netip.AddrPortFrom(o.Group, o.Port)
	if !o.Local.IsValid() {
		if o.Local, err = routeTo(group); err != nil {
			return nil, err
		}
		o.Loopback = o.Loopback || o.Local.IsLoopback()
	}
	ifi, err := interfaceOf(o.Local)
	if err != nil {
		return nil, err
	}
	c := &conn{addr: netip.AddrPortFrom(o.Local, o.Port), group: group, ifindex: ifi.Index}
	opened := false
	defer func() {
		if !opened {
			c.closeSockets()
		}
	}()
	if o.Exclusive {
		if c.claim, err = claim(c.addr); err != nil {
			return nil, err
		}
	}
	if c.own, err = openSocket(c.addr, o, nil, !o.Group.IsMulticast()); err != nil {
		return nil, err
	}
	c.main = c.own
	if o.Group.IsMulticast() {
		if err := c.own.sendMulticastFrom(ifi, o); err != nil {
			return nil, fmt.Errorf("send to group %v from %v: %w", group, o.Local, err)
		}
		if c.main, err = openSocket(group, o, ifi, true); err != nil {
			return nil, err
		}
		c.side.Add(1)
		go c.readOwn()
	}
	opened = true
	return c, nil
}

// routeTo is the own address the kernel would use towards a peer.
func routeTo(peer netip.AddrPort) (netip.Addr, error) {
	u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the own address towards %v (name one with the interface option): %w", peer.Addr(), err)
	}
	defer u.Close()
	return u.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// interfaceOf finds the interface which has the address; all of 127/8 is on the
// loopback interface, whether listed or not.
func interfaceOf(a netip.Addr) (*net.Interface, error) {
	ifis, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, ifi := range ifis {
		if a.IsLoopback() && ifi.Flags&net.FlagLoopback != 0 {
			return &ifi, nil
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", ifi.Name, err)
		}
		for _, ia := range addrs {
			if n, ok := ia.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
				return &ifi, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no interface has the address %v", ErrOptions, a)
}

// claim makes a second server on the same address and port fail. The UDP port
// itself cannot: it must be shareable, because a client may use the server's
// address. An abstract unix socket goes away with its process.
func claim(a netip.AddrPort) (*net.UnixConn, error) {
	u, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "@loadnode/multicast/" + a.String()})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: udp %v: another server has it", ErrPortInUse, a)
	}
	if err != nil {
		return nil, fmt.Errorf("claim udp %v: %w", a, err)
	}
	return u, nil
}

// openSocket binds a UDP socket; with an interface it joins the group it is bound
// to. A main socket receives in aggregates, where wanted and possible.
func openSocket(bind netip.AddrPort, o Options, join *net.Interface, main bool) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open udp socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "udp "+bind.String())
	defer f.Close() // net.FilePacketConn works on a duplicate
	// Settings first, bind last: from then on datagrams arrive.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, fmt.Errorf("share udp %v: %w", bind, err)
	}
	setBuffer(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, o.ReadBuffer)
	setBuffer(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, o.WriteBuffer)
	slots, ms := sideSlots, []Match(nil)
	if main {
		slots = groupSlots
	}
	if join != nil {
		ms = o.Ignore
	}
	m, err := choose(fd, o.Mode, main && joinable(ms))
	if err != nil {
		return nil, fmt.Errorf("udp %v: %w", bind, err)
	}
	if join != nil {
		// Only what this socket joined, not what any socket of the machine did.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0); err != nil {
			return nil, fmt.Errorf("restrict udp %v to its group: %w", bind, err)
		}
		if err := ignore(fd, ms, m.Receive == Offload); err != nil {
			return nil, fmt.Errorf("filter udp %v: %w", bind, err)
		}
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(bind.Port()), Addr: bind.Addr().As4()})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: udp %v", ErrPortInUse, bind)
	}
	if err != nil {
		return nil, fmt.Errorf("bind udp %v: %w", bind, err)
	}
	if join != nil {
		m := unix.IPMreqn{Multiaddr: bind.Addr().As4(), Ifindex: int32(join.Index)}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &m); err != nil {
			return nil, fmt.Errorf("join group %v on %s: %w", bind.Addr(), join.Name, err)
		}
	}
	p, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("udp %v: %w", bind, err)
	}
	return newSocket(p.(*net.UDPConn), m, slots, ms)
}

// setBuffer asks for a buffer size beyond the system's limit if that is
// allowed, otherwise for as much as the limit gives. It cannot fail in a way
// that matters: the kernel keeps its default.
func setBuffer(fd, plain, force, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

// sendMulticastFrom sets how datagrams to the group leave.
func (s *socket) sendMulticastFrom(ifi *net.Interface, o Options) error {
	loop := 0
	if o.Loopback {
		loop = 1
	}
	return s.control(func(fd int) error {
		m := unix.IPMreqn{Ifindex: int32(ifi.Index)}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &m); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, o.TTL); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, loop)
	})
}

// joinable says whether a filter can tell what ms match when the kernel gives
// several datagrams as one.
func joinable(ms []Match) bool {
	return !slices.ContainsFunc(ms, func(m Match) bool { return m.Size == 0 })
}

// ignore attaches a socket filter that drops what matches any of ms. The
// filter sees a datagram from its UDP header on; of datagrams given as one it
// sees one header and all payloads, and drops those which are a whole number of
// datagrams of the size, the first and the last of which match. What it cannot
// decide is left to the receiver.
func ignore(fd int, ms []Match, aggregates bool) error {
	if len(ms) == 0 {
		return nil
	}
	const udpHeader = 8
	var prog []bpf.Instruction
	for _, m := range ms {
		w := m.Word // the filter loads big-endian words
		w = w<<24 | w<<8&0xff0000 | w>>8&0xff00 | w>>24
		// Each condition jumps to the end of this match. A length is looked at
		// before loading: loading beyond the end would drop the datagram.
		at := uint32(udpHeader + m.Offset)
		match := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}
		switch {
		case m.Size == 0:
			match = append(match, jump{bpf.JumpGreaterOrEqual, at + 4})
		case !aggregates:
			match = append(match, jump{bpf.JumpEqual, uint32(udpHeader + m.Size)})
		default:
			size := uint32(m.Size)
			match = append(match,
				jump{bpf.JumpGreaterOrEqual, udpHeader + size},
				bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: udpHeader + size}, // now the offset of the last from the first
				bpf.TAX{},
				bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: size},
				jump{bpf.JumpEqual, 0},
				bpf.LoadIndirect{Off: at, Size: 4},
				jump{bpf.JumpEqual, w},
			)
		}
		match = append(match, bpf.LoadAbsolute{Off: at, Size: 4}, jump{bpf.JumpEqual, w}, bpf.RetConstant{Val: 0})
		for i, in := range match {
			if j, ok := in.(jump); ok {
				match[i] = bpf.JumpIf{Cond: j.unless, Val: j.val, SkipFalse: uint8(len(match) - 1 - i)}
			}
		}
		prog = append(prog, match...)
	}
	prog = append(prog, bpf.RetConstant{Val: 1<<32 - 1})
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// jump stands for a conditional jump to the end of a match, as long as that is
// not known.
type jump struct {
	unless bpf.JumpTest
	val    uint32
}

// Assemble implements bpf.Instruction.
func (j jump) Assemble() (bpf.RawInstruction, error) {
	return bpf.JumpIf{Cond: j.unless, Val: j.val}.Assemble()
}

// conn is a Conn over real sockets. In unicast mode own and main are the same.
type conn struct {
	addr, group netip.AddrPort
	ifindex     int
	own, main   *socket
	claim       *net.UnixConn
	side        sync.WaitGroup

	mu       sync.Mutex
	deadline time.Time // what the user of Receive asked for
	poked    bool      // main's deadline is in the past because of unicast
	queue    []Datagram
	sideLost uint64
}

// readOwn takes unicast datagrams and wakes Receive for them. They are few
// (join replies, progress), so they may cost a copy.
func (c *conn) readOwn() {
	defer c.side.Done()
	ds := make([]Datagram, BatchSize)
	for {
		n, err := c.own.in.receive(ds, true)
		if err != nil {
			return // only Close ends it: no deadline is ever set
		}
		c.mu.Lock()
		for _, d := range ds[:n] {
			if len(c.queue) == sideQueue {
				c.sideLost++
				continue
			}
			c.queue = append(c.queue, Datagram{Data: append([]byte(nil), d.Data...), From: d.From})
		}
		c.poked = true
		_ = c.main.SetReadDeadline(longAgo) // fails only when closed
		c.mu.Unlock()
	}
}

var longAgo = time.Unix(1, 0)

// takeSide gives queued unicast datagrams and puts the deadline right again.
func (c *conn) takeSide(ds []Datagram) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(ds, c.queue)
	c.queue = c.queue[n:]
	if len(c.queue) == 0 {
		c.queue = nil
		if c.poked {
			c.poked = false
			_ = c.main.SetReadDeadline(c.deadline)
		}
	}
	return n
}

func (c *conn) Receive(ds []Datagram) (int, error) {
	ds = ds[:min(len(ds), BatchSize)]
	for {
		if n := c.takeSide(ds); n > 0 {
			more, err := c.main.in.receive(ds[n:], false)
			if err != nil {
				more = 0 // the next Receive tells
			}
			return n + more, nil
		}
		n, err := c.main.in.receive(ds, true)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c.mu.Lock()
		poked := c.poked
		c.mu.Unlock()
		if !poked {
			return 0, err
		}
	}
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.poked {
		return nil // takeSide sets it
	}
	return c.main.SetReadDeadline(t)
}

func (c *conn) Send(ds [][]byte) error { return c.own.out.send(c.group, ds, nil) }

// SendParts implements PartsSender.
func (c *conn) SendParts(heads, bodies [][]byte) error {
	if len(bodies) != len(heads) {
		return fmt.Errorf("%w: %d heads for %d bodies", ErrOptions, len(heads), len(bodies))
	}
	if len(heads) == 0 {
		return nil
	}
	return c.own.out.send(c.group, heads, bodies)
}

func (c *conn) SendTo(peer netip.AddrPort, d []byte) error {
	return c.own.out.send(peer, [][]byte{d}, nil)
}

// Rejoin implements Rejoiner.
func (c *conn) Rejoin() error {
	if c.own == c.main {
		return nil
	}
	m := unix.IPMreqn{Multiaddr: c.group.Addr().As4(), Ifindex: int32(c.ifindex)}
	err := c.main.control(func(fd int) error {
		// Not to be a member already is what joining is for.
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_DROP_MEMBERSHIP, &m); err != nil && err != unix.EADDRNOTAVAIL {
			return err
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &m)
	})
	if err != nil {
		return fmt.Errorf("join group %v again: %w", c.group.Addr(), err)
	}
	return nil
}

// Mode implements Modal.
func (c *conn) Mode() Mode {
	return Mode{Send: Way(c.own.out.way.Load()), Receive: c.main.in.way}
}

func (c *conn) Addr() netip.AddrPort  { return c.addr }
func (c *conn) Group() netip.AddrPort { return c.group }

func (c *conn) Overruns() uint64 {
	c.mu.Lock()
	n := c.sideLost
	c.mu.Unlock()
	n += uint64(c.main.memory().drops)
	if c.own != c.main {
		n += uint64(c.own.memory().drops)
	}
	return n
}

func (c *conn) Backlog() float64 {
	m := c.main.memory()
	return min(float64(m.received)/float64(max(m.receivable, 1)), 1)
}

func (c *conn) Close() error {
	err := c.closeSockets()
	c.side.Wait()
	return err
}

func (c *conn) closeSockets() error {
	var errs []error
	if c.main != nil && c.main != c.own {
		errs = append(errs, c.main.Close())
	}
	if c.own != nil {
		errs = append(errs, c.own.Close())
	}
	if c.claim != nil {
		errs = append(errs, c.claim.Close())
	}
	return errors.Join(errs...)
}
