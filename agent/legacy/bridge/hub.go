package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
)

const (
	// perHeartbeat is how many missing commands an agent gets for a heartbeat that shows them, perRetry for asking (§a.7).
	perHeartbeat = 3
	perRetry     = 16
	// maxStrangers bounds the addresses that are remembered because they were complained of.
	maxStrangers = 64
	// forgotten is how many introductions of an agent that is enrolled say that it does not know us any more: one may be
	// a late datagram.
	forgotten = 2
	// maxTexts bounds the messages of one agent that wait to be taken.
	maxTexts = 1024
)

var (
	errForgotten = errors.New("the agent has begun anew")
	errTooLate   = errors.New("the agent misses commands that are not kept any more")
)

// hub is the multicast transport of all agents of one pair of groups (§a.4): one counter of commands, one socket.
type hub struct {
	pair   group.Pair
	conn   group.Conn
	timing Timing
	log    *slog.Logger

	mu        sync.Mutex
	sent      legacy.Sent[legacy.Command]
	members   map[netip.Addr]*member
	strangers map[netip.Addr]bool
}

func newHub(pair group.Pair, timing Timing, log *slog.Logger) *hub {
	return &hub{pair: pair, timing: timing, log: log, members: map[netip.Addr]*member{}, strangers: map[netip.Addr]bool{}}
}

// member is one agent of a hub. The hub's lock guards it.
type member struct {
	hub     *hub
	address netip.Addr
	name    string
	here    chan struct{} // the agent has introduced itself while there was no link

	open     bool
	texts    []string
	wake     chan struct{}
	received legacy.Received
	again    int // introductions since it last said something else
	enrolled bool
	err      error
	reset    time.Time // when it was last told to forget its controller
}

// add makes a node a member. Before run.
func (h *hub) add(address netip.Addr, name string) *member {
	m := &member{hub: h, address: address, name: name, here: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	h.members[address] = m
	return m
}

// run hears agents, and says a word of life, until ctx ends (nil) or the group fails. It closes the group.
func (h *hub) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { h.live(ctx) })
	stop := context.AfterFunc(ctx, func() { h.conn.Close() })
	defer stop()
	buf := make([]byte, group.MaxDatagram)
	for {
		n, from, err := h.conn.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("bridge: groups %s: %w", h.pair, err)
		}
		h.deliver(from, string(buf[:n]))
	}
}

// live repeats the last numbered command, or says hello while there is none, so that agents know that somebody is there
// and notice what they miss (§a.4).
func (h *hub) live(ctx context.Context) {
	tick := time.NewTicker(h.timing.Hello)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		if !h.repeat(h.sent.Last()) {
			h.write(legacy.Command{Target: "NOBODY", Name: legacy.Hello})
		}
		h.mu.Unlock()
	}
}

// repeat says a numbered command again, if it is kept. h.mu is held.
func (h *hub) repeat(seq int) bool {
	c, ok := h.sent.Get(seq)
	if ok {
		c.Seq = -seq
		h.write(c)
	}
	return ok
}

// write sends a command. What does not go out counts as lost. h.mu is held.
func (h *hub) write(c legacy.Command) {
	if line, err := c.Line(); err == nil {
		_ = h.conn.Write([]byte(line))
	}
}

// deliver gives a message to the member it came from. Agents are known by their addresses; the name they sign with
// tells whether they are enrolled.
func (h *hub) deliver(from netip.Addr, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[from]
	if m == nil {
		if !h.strangers[from] && len(h.strangers) < maxStrangers {
			h.strangers[from] = true
			h.log.Warn("a stranger speaks on the group of agents", "group", h.pair.Controllers.String(), "from", from.String())
		}
		return
	}
	msg, err := legacy.ParseMessage(text)
	if err != nil {
		return
	}
	switch {
	case !m.open && msg.Name == legacy.WhoAmI && msg.Sender == m.address.String():
		poke(m.here)
	case !m.open:
		// It has another controller, or had us before: nobody else drives the nodes of this inventory.
		if time.Since(m.reset) > h.timing.Retry {
			m.reset = time.Now()
			h.write(legacy.Command{Target: m.name + " " + m.address.String(), Name: legacy.Reset}) // never what it signs with
		}
	default:
		m.take(msg, text)
	}
}

// take acts on a message of a member with a link. h.mu is held.
func (m *member) take(msg legacy.Message, text string) {
	switch {
	case msg.Name == legacy.WhoAmI && m.enrolled:
		if m.again++; m.again >= forgotten {
			m.fail(errForgotten)
		}
		return
	case msg.Seq != 0 && !m.received.Take(msg.Seq):
		return // it has come before
	}
	if msg.Sender == m.name {
		m.again = 0
		m.enrolled = true
	}
	switch {
	case msg.Name == legacy.Heartbeat && len(msg.Args) >= 2:
		sent, err1 := strconv.ParseInt(msg.Args[0], 10, 32)
		got, err2 := strconv.ParseInt(msg.Args[1], 10, 32)
		if err1 == nil && err2 == nil {
			m.received.Expect(int(sent))
			m.repair(max(0, int(got))+1, m.hub.sent.Last(), perHeartbeat)
		}
	case msg.Name == legacy.Retry && len(msg.Args) >= 1:
		first, err1 := strconv.ParseInt(msg.Args[0], 10, 32)
		last, err2 := first, error(nil)
		if len(msg.Args) > 1 {
			last, err2 = strconv.ParseInt(msg.Args[1], 10, 32)
		}
		if err1 == nil && err2 == nil {
			m.repair(int(first), int(last), perRetry)
		}
	}
	if len(m.texts) == maxTexts {
		m.texts = m.texts[1:]
	}
	m.texts = append(m.texts, text)
	poke(m.wake)
}

// repair says again what a member misses, at most so many. A member that misses what is not kept has to begin anew.
func (m *member) repair(first, last, most int) {
	first, last = max(1, first), min(last, m.hub.sent.Last())
	for seq := first; seq <= min(last, first+most-1); seq++ {
		if !m.hub.repeat(seq) {
			m.fail(errTooLate)
			return
		}
	}
}

func (m *member) fail(err error) {
	if m.err == nil {
		m.err = err
	}
	poke(m.wake)
}

// await waits until the agent introduces itself, and opens the way to it.
func (m *member) await(ctx context.Context) (transport, error) {
	select {
	case <-m.here:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.open, m.enrolled, m.again, m.err, m.texts, m.received = true, false, 0, nil, nil, legacy.Received{}
	return m, nil
}

// send implements transport.
func (m *member) send(numbered bool, c legacy.Command) error {
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if numbered {
		c.Seq = h.sent.Next()
	}
	line, err := c.Line()
	if err != nil {
		return err
	}
	if numbered {
		h.sent.Add(c)
	}
	if err := h.conn.Write([]byte(line)); err != nil {
		h.log.Debug("a command was not sent; it will be repeated", "err", err)
	}
	return nil
}

// receive implements transport.
func (m *member) receive() ([]string, error) {
	for {
		m.hub.mu.Lock()
		texts, err := m.texts, m.err
		m.texts = nil
		m.hub.mu.Unlock()
		if len(texts) > 0 || err != nil {
			return texts, err
		}
		<-m.wake
	}
}

// close implements transport.
func (m *member) close() {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.open = false
	m.fail(errLost)
}

func (m *member) ignore() int {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.hub.sent.Last()
}

func (m *member) missing() int {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.received.Missing()
}

func (m *member) shared() bool { return true }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
