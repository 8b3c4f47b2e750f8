package mcast

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// NetworkConfig describes an in-memory network. Probabilities are 0…1 and apply
// to each receiver on its own, as they do behind a switch.
type NetworkConfig struct {
	Seed      uint64
	Loss      float64
	Duplicate float64
	// Reorder is the probability that a datagram is late by up to ReorderBy.
	Reorder   float64
	ReorderBy time.Duration // 0 means 2 ms
	// Delay is how long each datagram travels.
	Delay time.Duration
	// Queue is how many datagrams may wait at a receiver, 0 means 16384; more
	// are dropped and counted as overruns.
	Queue int
}

// Host is a machine on an in-memory network and the switch port it hangs on.
// The zero Host is infinitely fast.
type Host struct {
	// Rate of its link, bit/s in each direction, for datagrams with all that
	// they cost on Ethernet; 0 means infinitely fast.
	Rate int64
	// Port is how many bytes the switch holds for the host when datagrams come
	// faster than Rate; what finds it full is lost. 0 means any number.
	Port int
	// Queue is how many datagrams its receive queue holds; 0 means NetworkConfig.Queue.
	Queue int
	// Each is how long its program is busy with each datagram it received.
	Each time.Duration
	// Coalesce is how long the network card waits before it says that
	// datagrams came: they do at multiples of it.
	Coalesce time.Duration
	// Loss is a probability, beside NetworkConfig.Loss.
	Loss float64
}

// wireOverhead is what a datagram costs on Ethernet beyond its UDP payload.
const wireOverhead = 66

// serial is how long a datagram of so many bytes occupies a link, nanoseconds.
func serial(bytes int, rate int64) int64 {
	return int64(float64(bytes+wireOverhead) * 8e9 / float64(rate))
}

// Network connects Conns inside one process. It waits on channels and timers
// only, so that it works on a virtual clock. Which datagrams are hit depends on
// the seed and on the order in which a receiver's datagrams were sent.
type Network struct {
	cfg NetworkConfig

	mu    sync.Mutex
	conns []*memConn
	sent  uint64
	opens uint64
	times []int64 // scratch of send
}

// NewNetwork makes an empty network.
func NewNetwork(cfg NetworkConfig) *Network {
	if cfg.ReorderBy == 0 {
		cfg.ReorderBy = 2 * time.Millisecond
	}
	if cfg.Queue == 0 {
		cfg.Queue = 16384
	}
	return &Network{cfg: cfg}
}

// Sent counts the datagrams sent into the network.
func (n *Network) Sent() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// Open makes an end of a group, as the function Open does with sockets. Local
// must be given.
func (n *Network) Open(o Options) (Conn, error) { return n.OpenHost(o, Host{}) }

// OpenHost is Open on a machine that has limits.
func (n *Network) OpenHost(o Options, h Host) (Conn, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	if !o.Local.IsValid() {
		return nil, fmt.Errorf("%w: an in-memory network has no routes, name the local address", ErrOptions)
	}
	if h.Queue == 0 {
		h.Queue = n.cfg.Queue
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &memConn{net: n, opts: o, host: h, wake: make(chan struct{}, 1),
		addr: netip.AddrPortFrom(o.Local, o.Port), group: netip.AddrPortFrom(o.Group, o.Port)}
	for _, other := range n.conns {
		if o.Exclusive && other.opts.Exclusive && other.addr == c.addr {
			return nil, fmt.Errorf("%w: udp %v: another server has it", ErrPortInUse, c.addr)
		}
	}
	n.opens++
	c.rand = rand.New(rand.NewPCG(n.cfg.Seed, n.opens))
	n.conns = append(n.conns, c)
	return c, nil
}

// send hands datagrams to everybody they are addressed to. It gives how far the
// sender's link is behind.
func (n *Network) send(from *memConn, to netip.AddrPort, ds [][]byte) (behind time.Duration, err error) {
	size := 0
	for _, d := range ds {
		if len(d) == 0 || len(d) > maxDatagram {
			return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(d))
		}
		size += len(d)
	}
	// One copy, which all receivers share.
	arena := make([]byte, 0, size)
	mail := make([]Datagram, len(ds))
	for i, d := range ds {
		arena = append(arena, d...)
		mail[i] = Datagram{Data: arena[len(arena)-len(d) : len(arena) : len(arena)], From: from.addr}
	}
	now := time.Now().UnixNano()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent += uint64(len(ds))
	times := n.times[:0]
	for _, d := range ds {
		at := now
		if from.host.Rate > 0 {
			from.sentBy = max(from.sentBy, now) + serial(len(d), from.host.Rate)
			at = from.sentBy
		}
		times = append(times, at+int64(n.cfg.Delay))
	}
	n.times = times
	if from.host.Rate > 0 {
		behind = time.Duration(from.sentBy - now)
	}
	if !to.Addr().IsMulticast() {
		// As with sockets: of several with one address the last one gets it.
		for i := len(n.conns) - 1; i >= 0; i-- {
			if n.conns[i].addr == to {
				n.conns[i].arrive(now, times, mail)
				break
			}
		}
		return behind, nil
	}
	for _, c := range n.conns {
		if c.group == to && (c != from || from.opts.Loopback) {
			c.arrive(now, times, mail)
		}
	}
	return behind, nil
}

// memConn is an end of a group on a Network. Times are Unix times in nanoseconds.
type memConn struct {
	net         *Network
	opts        Options
	host        Host
	addr, group netip.AddrPort
	wake        chan struct{}

	// Guarded by net.mu.
	rand   *rand.Rand
	sentBy int64 // the own link has sent everything
	heard  int64 // the link to us has brought everything

	busy  int64 // until then the program works on what it received; of Receive
	timer *time.Timer

	mu       sync.Mutex
	queue    arrivals
	deadline time.Time
	asleep   bool  // a Receive waits
	until    int64 // and until when, 0 for ever
	closed   bool
}

func (c *memConn) ignores(d []byte) bool {
	for _, m := range c.opts.Ignore {
		if m.matches(d) {
			return true
		}
	}
	return false
}

// arrive puts datagrams on their way to c, each of which comes to its switch
// port at its time. The caller holds net.mu.
func (c *memConn) arrive(now int64, times []int64, ds []Datagram) {
	cfg, h := &c.net.cfg, &c.host
	c.mu.Lock()
	first := int64(-1)
	for i := range ds {
		if len(c.opts.Ignore) > 0 && c.ignores(ds[i].Data) ||
			cfg.Loss > 0 && c.rand.Float64() < cfg.Loss || h.Loss > 0 && c.rand.Float64() < h.Loss {
			continue
		}
		copies := 1
		if cfg.Duplicate > 0 && c.rand.Float64() < cfg.Duplicate {
			copies = 2
		}
		for range copies {
			at := times[i]
			if h.Rate > 0 {
				waits := max(c.heard-at, 0)
				if h.Port > 0 && float64(waits)*float64(h.Rate)/8e9 > float64(h.Port) {
					continue
				}
				c.heard = at + waits + serial(len(ds[i].Data), h.Rate)
				at = c.heard
			}
			if cfg.Reorder > 0 && c.rand.Float64() < cfg.Reorder {
				at += c.rand.Int64N(int64(cfg.ReorderBy)) + 1
			}
			if h.Coalesce > 0 {
				at = (at + int64(h.Coalesce) - 1) / int64(h.Coalesce) * int64(h.Coalesce)
			}
			c.queue.put(now, at, ds[i], h.Queue)
			if first < 0 || at < first {
				first = at
			}
		}
	}
	wake := first >= 0 && c.asleep && (c.until == 0 || first < c.until)
	c.mu.Unlock()
	if wake {
		c.poke()
	}
}

// poke wakes a waiting Receive.
func (c *memConn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *memConn) Receive(ds []Datagram) (int, error) {
	if len(ds) == 0 {
		return 0, nil
	}
	if c.host.Each > 0 {
		time.Sleep(time.Duration(c.busy - time.Now().UnixNano()))
	}
	for {
		now := time.Now()
		n, until, err := c.take(ds, now)
		if n > 0 {
			c.busy = now.UnixNano() + int64(n)*int64(c.host.Each)
		}
		if n > 0 || err != nil {
			return n, err
		}
		if until == 0 {
			<-c.wake
			continue
		}
		wait := time.Duration(until - now.UnixNano())
		if c.timer == nil {
			c.timer = time.NewTimer(wait)
		} else {
			c.timer.Reset(wait)
		}
		select {
		case <-c.wake:
			c.timer.Stop()
		case <-c.timer.C:
		}
	}
}

// take gives what has arrived, or the time until which nothing will happen.
func (c *memConn) take(ds []Datagram, now time.Time) (n int, until int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asleep = false
	if c.closed {
		return 0, 0, net.ErrClosed
	}
	t := now.UnixNano()
	n = c.queue.take(t, ds[:min(len(ds), BatchSize)], c.host.Queue)
	if n > 0 {
		return n, 0, nil
	}
	if !c.deadline.IsZero() {
		if !c.deadline.After(now) {
			return 0, 0, os.ErrDeadlineExceeded
		}
		until = c.deadline.UnixNano()
	}
	if at, ok := c.queue.next(); ok && (until == 0 || at < until) {
		until = at
	}
	c.asleep, c.until = true, until
	return 0, until, nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	wake := c.asleep
	c.mu.Unlock()
	if wake {
		c.poke()
	}
	return nil
}

func (c *memConn) Send(ds [][]byte) error { return c.send(c.group, ds) }

// SendParts implements PartsSender.
func (c *memConn) SendParts(heads, bodies [][]byte) error {
	if len(bodies) != len(heads) {
		return fmt.Errorf("%w: %d heads for %d bodies", ErrOptions, len(heads), len(bodies))
	}
	for i := range heads {
		if len(heads[i]) == 0 || len(bodies[i]) == 0 {
			return fmt.Errorf("%w: an empty part", ErrTooLarge)
		}
		if err := c.SendTo(c.group, slices.Concat(heads[i], bodies[i])); err != nil {
			return err
		}
	}
	return nil
}

func (c *memConn) SendTo(peer netip.AddrPort, d []byte) error { return c.send(peer, [][]byte{d}) }

func (c *memConn) send(to netip.AddrPort, ds [][]byte) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	behind, err := c.net.send(c, to, ds)
	if err == nil && behind > 0 {
		// When the send buffer is full, wait until there is room again.
		room := time.Duration(float64(c.opts.WriteBuffer) * 8e9 / float64(c.host.Rate))
		time.Sleep(behind - room)
	}
	return err
}

func (c *memConn) Addr() netip.AddrPort  { return c.addr }
func (c *memConn) Group() netip.AddrPort { return c.group }

func (c *memConn) Overruns() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.admit(time.Now().UnixNano(), c.host.Queue)
	return c.queue.overruns
}

func (c *memConn) Backlog() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.admit(time.Now().UnixNano(), c.host.Queue)
	return float64(c.queue.waiting) / float64(c.host.Queue)
}

func (c *memConn) Close() error {
	c.net.mu.Lock()
	for i, o := range c.net.conns {
		if o == c {
			c.net.conns = append(c.net.conns[:i], c.net.conns[i+1:]...)
			break
		}
	}
	c.net.mu.Unlock()
	c.mu.Lock()
	c.closed = true
	c.queue = arrivals{overruns: c.queue.overruns}
	c.mu.Unlock()
	c.poke()
	return nil
}
