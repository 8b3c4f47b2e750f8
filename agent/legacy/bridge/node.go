package bridge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy"
)

// node keeps the connection to one legacy agent, and its place on the bus.
type node struct {
	Node
	cfg    Config
	log    *slog.Logger
	calls  chan net.Conn // of an agent that connects by itself
	member *member       // of the hub; nil: the agent is reached by TCP
	memory memory
}

func newNode(cfg Config, n Node) *node {
	return &node{Node: n, cfg: cfg, log: cfg.Logger.With("node", n.Name), calls: make(chan net.Conn, 1)}
}

// run connects again and again until ctx ends.
func (n *node) run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := n.meet(ctx)
		if ctx.Err() != nil {
			return
		}
		// A machine that is off is no news each time.
		if text := err.Error(); text != said {
			said = text
			level := slog.LevelInfo
			if errors.Is(err, legacy.ErrConnected) {
				level = slog.LevelWarn
			}
			n.log.Log(ctx, level, "legacy agent is not available", "err", err)
		}
		select {
		case <-time.After(n.cfg.Timing.Retry):
		case <-ctx.Done():
		}
	}
}

// meet lives through one connection. It always ends with an error, which says why it ended.
func (n *node) meet(ctx context.Context) error {
	via, err := n.connect(ctx)
	if err != nil {
		return err
	}
	l := newLink(via, n.agentName(), n.cfg.Timing)
	defer l.close()
	stop := context.AfterFunc(ctx, l.reset) // the original ends like this too; it kills what the agent runs
	defer stop()
	if err := l.enrol(ctx, n.Address.String()); err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	watching.Go(func() { l.watch(watch) })
	id, err := identify(ctx, l)
	if err != nil {
		return err
	}
	n.log.Info("legacy agent is enrolled", "as", l.name, "system", id.system, "boot", id.boot, "disks", len(id.disks))
	if err := n.serve(ctx, l, id); err != nil {
		return err
	}
	select {
	case <-l.over:
		return l.lost()
	default:
		return errLost
	}
}

func (n *node) connect(ctx context.Context) (transport, error) {
	var c net.Conn
	switch {
	case n.member != nil:
		return n.member.await(ctx)
	case n.Listen:
		select {
		case c = <-n.calls:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	default:
		var err error
		d := net.Dialer{Timeout: n.cfg.Timing.Retry}
		if c, err = d.DialContext(ctx, "tcp4", netip.AddrPortFrom(n.Address, n.Port).String()); err != nil {
			return nil, err
		}
	}
	return newStream(c, n.agentName(), n.Address.String(), n.cfg.Timing), nil
}

// serve is the node's agent on the bus until the connection is lost or ctx ends.
func (n *node) serve(ctx context.Context, l *link, id identity) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := n.cfg.Connect(ctx, n.Name)
	if err != nil {
		return err
	}
	defer conn.Close()
	load := &loader{node: n, link: l, id: id}
	a, err := agent.New(agent.Config{
		Testbed: n.cfg.Testbed, Node: n.Name, Boot: id.boot, Version: n.version(id), Conn: conn,
		Machine: &machine{node: n, link: l, id: id}, Loader: load, Logger: n.cfg.Logger,
	})
	if err != nil {
		return err
	}
	var ending sync.WaitGroup
	defer ending.Wait()
	ending.Go(func() {
		select {
		case <-l.over:
			load.busy.Wait() // a load that was lost is reported as lost
		case <-ctx.Done():
		}
		cancel()
	})
	err = a.Run(ctx)
	cancel()
	return err
}

// version is what reports call the agent.
func (n *node) version(id identity) string {
	if id.system == "" {
		return "legacy"
	}
	return "legacy " + strconv.Quote(id.system)
}
