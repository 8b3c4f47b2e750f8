package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/events"
)

// errShutDown is the cause of a boot that was asked to shut down by itself.
var errShutDown = errors.New("asked to shut down")

const (
	connectPause    = 100 * time.Millisecond
	connectPauseMax = 2 * time.Second
)

// boot is one run of a machine, from switching on to off.
type boot struct {
	node    *node
	id      string
	netboot bool
	before  *boot // its files and sockets must be closed first
	wait    time.Duration
	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{}
	dead    atomic.Bool  // without power: nothing goes out and nothing is written
	data    atomic.Int64 // bytes that the load that was commanded last writes

	mu   sync.Mutex
	conn *bus.Conn
}

// newBoot prepares a run of n. n.mu is held.
func newBoot(n *node, netboot bool) (*boot, error) {
	id, err := events.NewULID(n.sim.cfg.Clock.Now(), n.sim.cfg.Entropy)
	if err != nil {
		return nil, err
	}
	b := &boot{node: n, id: id, netboot: netboot, before: n.last, done: make(chan struct{})}
	low, high := n.sim.cfg.BootTime[0], n.sim.cfg.BootTime[1]
	b.wait = low
	if high > low {
		b.wait += time.Duration(n.random.Int64N(int64(high - low + 1)))
	}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b, nil
}

// live is the life of the machine in this boot.
func (b *boot) live() {
	defer close(b.done)
	defer b.cancel(nil)
	if b.before != nil {
		<-b.before.done
		b.before = nil
	}
	select {
	case <-b.node.sim.cfg.Clock.After(b.wait):
	case <-b.ctx.Done():
	}
	if b.netboot && !b.node.faults.has(NoBoot) {
		b.system()
	}
	<-b.ctx.Done()
	if errors.Is(context.Cause(b.ctx), errShutDown) {
		b.node.left(b, events.VerbHalt)
	}
}

// system is the imaging system: it starts its agent again when that gives up,
// as the init of a real one does.
func (b *boot) system() {
	for b.ctx.Err() == nil {
		err := b.imaging()
		if b.ctx.Err() != nil {
			return
		}
		b.node.log.Error("the agent ended and is started again", "boot", b.id, "err", err)
		select {
		case <-b.node.sim.cfg.Clock.After(connectPause):
		case <-b.ctx.Done():
		}
	}
}

// imaging runs the real agent, until the boot ends.
func (b *boot) imaging() error {
	conn, err := b.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	b.mu.Lock()
	b.conn = conn
	b.mu.Unlock()
	if b.dead.Load() {
		conn.NATS().Close()
		return nil
	}
	n := b.node
	a, err := agent.New(agent.Config{
		Testbed: n.sim.cfg.Testbed, Node: n.name, Boot: b.id, Version: n.sim.cfg.Version,
		Conn: &wire{Conn: conn, boot: b}, Machine: &machine{boot: b}, HTTP: n.web(),
		Logger: n.sim.log, Clock: n.sim.cfg.Clock, Memory: n.sim.cfg.Memory, Workers: 1,
	})
	if err != nil {
		return err
	}
	n.log.Debug("imaging system is up", "boot", b.id)
	return a.Run(b.ctx)
}

// connect asks for the credential of the node and connects with it, for as
// long as the machine runs: the bus may come later.
func (b *boot) connect() (*bus.Conn, error) {
	return b.node.sim.connect(b.ctx, b.node.name, events.CredentialNode)
}

// kill cuts the power. It does not wait, so that the machine may call it from
// within.
func (b *boot) kill() {
	b.dead.Store(true)
	b.mu.Lock()
	conn := b.conn
	b.mu.Unlock()
	if conn != nil {
		conn.NATS().Close()
	}
	b.cancel(agent.ErrAbrupt)
}

// shutDown asks the system to end by itself; false means that there is none
// that would take a while for it.
func (b *boot) shutDown() bool {
	b.mu.Lock()
	agent := b.conn != nil
	b.mu.Unlock()
	if agent {
		b.cancel(errShutDown)
	}
	return agent
}

// connect gets a credential and a connection for a node, trying until ctx
// ends.
func (s *Sim) connect(ctx context.Context, name string, kind events.CredentialKind) (*bus.Conn, error) {
	pause := connectPause
	for {
		cred, err := s.cfg.Credential(ctx, name, kind)
		if err == nil {
			var conn *bus.Conn
			if conn, err = s.cfg.Connect(ctx, cred); err == nil {
				return conn, nil
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect %s of %s: %w", kind, name, context.Cause(ctx))
		}
		s.log.Debug("not connected yet", "node", name, "kind", string(kind), "err", err)
		select {
		case <-s.cfg.Clock.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, connectPauseMax)
	}
}
