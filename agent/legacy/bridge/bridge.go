package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy/group"
	"loadnode/events"
)

// DefaultPort is where agents listen (§a.4).
const DefaultPort = 9006

// Node is a machine with a legacy agent.
type Node struct {
	Name    string
	X, Y    int // place in the grid: the agent is called n_X_Y
	Address netip.Addr
	Port    uint16 // of its agent; 0: DefaultPort
	Listen  bool   // the agent connects to the bridge, not the bridge to the agent
	// Groups are those of the multicast transport, if the agent is reached by it; the zero Pair: by TCP.
	Groups group.Pair
	// AnySystem lets disks be written whatever system the node says it runs: for imaging systems that do not say.
	AnySystem bool
	// NFS is the directory, host:/path, that the node mounts to save to a file there; empty: it saves by netcat.
	NFS string
}

// Bus is a connection for one node.
type Bus interface {
	agent.Bus
	Close()
}

// Timing of the conversation with agents. Zero means the default.
type Timing struct {
	Retry  time.Duration // between two attempts to connect; 2 s
	Enrol  time.Duration // for an answer to YOUARE; 5 s
	Answer time.Duration // for a small command to end; 5 s
	Ping   time.Duration // between two RALLOs; 10 s
	Dead   time.Duration // of silence, although pinged; 40 s
	Poll   time.Duration // between two looks at the sessions of the image service; 1 s
	Last   time.Duration // for output that comes after the end of its program; 200 ms
	Hello  time.Duration // between two words of life on the multicast transport; 5 s
}

// Config is what a Bridge needs. Testbed, Nodes and Connect are required.
type Config struct {
	Testbed string
	Nodes   []Node
	// Connect opens a connection with the credential of a node.
	Connect func(ctx context.Context, node string) (Bus, error)
	// Session asks the image service for a session by its id, with its clients. Nil: unknown, and loads that print no
	// progress cannot be told from dead ones.
	Session func(ctx context.Context, id string) (events.SessionState, error)
	// Listener takes the connections of agents that connect by themselves; nil: there are none.
	Listener net.Listener
	// Groups opens the controllers' end of a pair of groups; nil: no node is reached by multicast.
	Groups  func(ctx context.Context, pair group.Pair) (group.Conn, error)
	Logger  *slog.Logger // nil: silent
	Version string       // reported for the nodes
	Timing  Timing
}

// Bridge is the agent of all legacy nodes of a testbed.
type Bridge struct {
	cfg   Config
	nodes []*node
	hubs  []*hub
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config) (*Bridge, error) {
	if err := events.CheckName(cfg.Testbed); err != nil {
		return nil, fmt.Errorf("bridge: testbed: %w", err)
	}
	if cfg.Connect == nil {
		return nil, errors.New("bridge: Connect is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &cfg.Timing
	for _, d := range []struct {
		of *time.Duration
		or time.Duration
	}{
		{&t.Retry, 2 * time.Second}, {&t.Enrol, 5 * time.Second}, {&t.Answer, 5 * time.Second}, {&t.Ping, 10 * time.Second},
		{&t.Dead, 40 * time.Second}, {&t.Poll, time.Second}, {&t.Last, 200 * time.Millisecond},
		{&t.Hello, 5 * time.Second},
	} {
		if *d.of == 0 {
			*d.of = d.or
		}
	}
	b := &Bridge{cfg: cfg}
	seen := map[string]string{}
	for _, n := range cfg.Nodes {
		if err := events.CheckName(n.Name); err != nil {
			return nil, fmt.Errorf("bridge: node %q: %w", n.Name, err)
		}
		if !n.Address.Is4() {
			return nil, fmt.Errorf("bridge: node %s has no IPv4 address: a legacy agent is reached by it; write ip: in the inventory", n.Name)
		}
		if n.Listen && cfg.Listener == nil {
			return nil, fmt.Errorf("bridge: the agent of %s connects by itself, but there is no address where the bridge listens", n.Name)
		}
		if n.Port == 0 {
			n.Port = DefaultPort
		}
		where := netip.AddrPortFrom(n.Address, n.Port).String()
		multicast := n.Groups != group.Pair{}
		if multicast {
			if cfg.Groups == nil {
				return nil, fmt.Errorf("bridge: the agent of %s is reached by multicast, but there are no sockets for it", n.Name)
			}
			if err := n.Groups.Check(); err != nil {
				return nil, fmt.Errorf("bridge: node %s: %w", n.Name, err)
			}
			where = n.Address.String() + " on " + n.Groups.String()
		}
		if other := seen[where]; other != "" {
			return nil, fmt.Errorf("bridge: nodes %s and %s have one address, %s", other, n.Name, where)
		}
		seen[where] = n.Name
		node := newNode(cfg, n)
		b.nodes = append(b.nodes, node)
		if multicast {
			node.member = b.hub(n.Groups).add(n.Address, n.agentName())
		}
	}
	return b, nil
}

// hub gives the hub of a pair of groups, a new one if there is none.
func (b *Bridge) hub(p group.Pair) *hub {
	for _, h := range b.hubs {
		if h.pair == p {
			return h
		}
	}
	h := newHub(p, b.cfg.Timing, b.cfg.Logger)
	b.hubs = append(b.hubs, h)
	return h
}

// Run serves the nodes until ctx ends, which is no error.
func (b *Bridge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Nodes say farewell on the groups before those are closed.
	hubs, closeHubs := context.WithCancel(context.WithoutCancel(ctx))
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer closeHubs()
	for _, h := range b.hubs {
		conn, err := b.cfg.Groups(ctx, h.pair)
		if err != nil {
			return fmt.Errorf("bridge: groups %s: %w", h.pair, err)
		}
		h.conn = conn
		hearing.Go(func() {
			if err := h.run(hubs); err != nil {
				cancel(err)
			}
		})
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, n := range b.nodes {
		all.Go(func() { n.run(ctx) })
	}
	if b.cfg.Listener != nil {
		stop := context.AfterFunc(ctx, func() { b.cfg.Listener.Close() })
		defer stop()
		all.Go(func() {
			if err := b.accept(ctx); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// accept gives agents that connect by themselves to their nodes.
func (b *Bridge) accept(ctx context.Context) error {
	for {
		c, err := b.cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("bridge: listen for agents: %w", err)
		}
		n := b.of(c.RemoteAddr())
		if n == nil {
			b.cfg.Logger.Warn("a stranger connected as an agent", "from", c.RemoteAddr().String())
			c.Close()
			continue
		}
		select {
		case n.calls <- c:
		default: // the node has a call waiting already
			c.Close()
		}
	}
}

func (b *Bridge) of(a net.Addr) *node {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return nil
	}
	for _, n := range b.nodes {
		if n.Listen && n.Address == at.Addr().Unmap() {
			return n
		}
	}
	return nil
}

// agentName is what a node's agent is called (§a.5).
func (n Node) agentName() string { return "n_" + strconv.Itoa(n.X) + "_" + strconv.Itoa(n.Y) }
