package mcast

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
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

// Network connects Conns inside one process. It waits on channels and timers
// only, so that it works on a virtual clock. Which datagrams are hit depends on
// the seed and on the order in which a receiver's datagrams were sent.
type Network struct {
	cfg NetworkConfig

	mu    sync.Mutex
	conns []*memConn
	sent  uint64
	opens uint64
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
func (n *Network) Open(o Options) (Conn, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	if !o.Local.IsValid() {
		return nil, fmt.Errorf("%w: an in-memory network has no routes, name the local address", ErrOptions)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &memConn{net: n, opts: o, wake: make(chan struct{}, 1),
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

// send hands one datagram to everybody it is addressed to.
func (n *Network) send(from *memConn, to netip.AddrPort, d []byte) error {
	if len(d) == 0 || len(d) > maxDatagram {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(d))
	}
	d = append([]byte(nil), d...)
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	if !to.Addr().IsMulticast() {
		// As with sockets: of several with one address the last one gets it.
		for i := len(n.conns) - 1; i >= 0; i-- {
			if n.conns[i].addr == to {
				n.conns[i].arrive(now, Datagram{Data: d, From: from.addr})
				return nil
			}
		}
		return nil
	}
	for _, c := range n.conns {
		if c.group != to || c == from && !from.opts.Loopback || c.ignores(d) {
			continue
		}
		c.arrive(now, Datagram{Data: d, From: from.addr})
	}
	return nil
}

// memConn is an end of a group on a Network.
type memConn struct {
	net         *Network
	opts        Options
	addr, group netip.AddrPort
	rand        *rand.Rand // guarded by net.mu
	wake        chan struct{}

	mu       sync.Mutex
	queue    arrivals
	seq      uint64
	deadline time.Time
	overruns uint64
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

// arrive puts a datagram on its way to c. The caller holds net.mu.
func (c *memConn) arrive(now time.Time, d Datagram) {
	cfg := &c.net.cfg
	copies := 1
	if c.rand.Float64() < cfg.Loss {
		copies = 0
	}
	if c.rand.Float64() < cfg.Duplicate {
		copies *= 2
	}
	for range copies {
		at := now.Add(cfg.Delay)
		if cfg.Reorder > 0 && c.rand.Float64() < cfg.Reorder {
			at = at.Add(time.Duration(c.rand.Int64N(int64(cfg.ReorderBy)) + 1))
		}
		c.mu.Lock()
		if len(c.queue) >= cfg.Queue {
			c.overruns++
		} else {
			c.seq++
			heap.Push(&c.queue, arrival{at: at, seq: c.seq, d: d})
		}
		c.mu.Unlock()
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
	for {
		n, until, err := c.take(ds, time.Now())
		if n > 0 || err != nil {
			return n, err
		}
		if until.IsZero() {
			<-c.wake
			continue
		}
		t := time.NewTimer(time.Until(until))
		select {
		case <-c.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// take gives what has arrived, or the time until which nothing will happen.
func (c *memConn) take(ds []Datagram, now time.Time) (n int, until time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, until, net.ErrClosed
	}
	for n < min(len(ds), BatchSize) && len(c.queue) > 0 && !c.queue[0].at.After(now) {
		ds[n] = heap.Pop(&c.queue).(arrival).d
		n++
	}
	if n == 0 && !c.deadline.IsZero() && !c.deadline.After(now) {
		return 0, until, os.ErrDeadlineExceeded
	}
	until = c.deadline
	if len(c.queue) > 0 && (until.IsZero() || c.queue[0].at.Before(until)) {
		until = c.queue[0].at
	}
	return n, until, nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.poke()
	return nil
}

func (c *memConn) Send(ds [][]byte) error {
	for _, d := range ds {
		if err := c.SendTo(c.group, d); err != nil {
			return err
		}
	}
	return nil
}

func (c *memConn) SendTo(peer netip.AddrPort, d []byte) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	return c.net.send(c, peer, d)
}

func (c *memConn) Addr() netip.AddrPort  { return c.addr }
func (c *memConn) Group() netip.AddrPort { return c.group }

func (c *memConn) Overruns() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.overruns
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
	c.queue = nil
	c.mu.Unlock()
	c.poke()
	return nil
}

// arrival is a datagram and when it arrives; arrivals is a heap of them.
type arrival struct {
	at  time.Time
	seq uint64
	d   Datagram
}

type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].seq < a[j].seq
	}
	return a[i].at.Before(a[j].at)
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = arrival{}
	*a = old[:len(old)-1]
	return x
}
