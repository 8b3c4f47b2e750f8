package group

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxWaiting bounds the datagrams that wait at one end in memory; more are lost, as by a kernel.
const maxWaiting = 4096

// Ether is a pair of groups in memory.
type Ether struct {
	// Fate says how often a datagram arrives at each of its hearers: 0 loses it, 2 doubles it. Nil: once. It is called by
	// one goroutine at a time.
	Fate func(from netip.Addr, toAgents bool, datagram string) int

	mu   sync.Mutex
	ends []*end
	log  []Heard
}

// Heard is a datagram that was sent, lost or not.
type Heard struct {
	From     netip.Addr
	ToAgents bool
	Text     string
}

// Log is everything that was sent.
func (e *Ether) Log() []Heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.log)
}

// Controller is a new controllers' end with an address.
func (e *Ether) Controller(at netip.Addr) Conn { return e.end(at, false) }

// Agent is a new agent's end with an address.
func (e *Ether) Agent(at netip.Addr) Conn { return e.end(at, true) }

func (e *Ether) end(at netip.Addr, agent bool) Conn {
	c := &end{ether: e, at: at, agent: agent, wake: make(chan struct{}, 1), over: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends = append(e.ends, c)
	return c
}

// end is one end; its queue is guarded by the ether's lock.
type end struct {
	ether *Ether
	at    netip.Addr
	agent bool
	queue []Heard
	wake  chan struct{}
	once  sync.Once
	over  chan struct{}
}

// Write implements Conn.
func (c *end) Write(p []byte) error {
	e := c.ether
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-c.over:
		return net.ErrClosed
	default:
	}
	d := Heard{From: c.at, ToAgents: !c.agent, Text: string(p)}
	e.log = append(e.log, d)
	for _, to := range e.ends {
		if to.agent == c.agent {
			continue
		}
		times := 1
		if e.Fate != nil {
			times = e.Fate(d.From, d.ToAgents, d.Text)
		}
		for range times {
			if len(to.queue) < maxWaiting {
				to.queue = append(to.queue, d)
			}
		}
		select {
		case to.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// Read implements Conn.
func (c *end) Read(p []byte) (int, netip.Addr, error) {
	for {
		c.ether.mu.Lock()
		if len(c.queue) > 0 {
			d := c.queue[0]
			c.queue = c.queue[1:]
			c.ether.mu.Unlock()
			return copy(p, d.Text), d.From, nil
		}
		c.ether.mu.Unlock()
		select {
		case <-c.wake:
		case <-c.over:
			return 0, netip.Addr{}, net.ErrClosed
		}
	}
}

// Close implements Conn.
func (c *end) Close() error {
	c.once.Do(func() {
		close(c.over)
		c.ether.mu.Lock()
		defer c.ether.mu.Unlock()
		c.ether.ends = slices.DeleteFunc(c.ether.ends, func(o *end) bool { return o == c })
	})
	return nil
}
