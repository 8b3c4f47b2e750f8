package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
)

// keepAlive finds controllers that vanished without a word.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Config is what a Listener needs: a Machine, and either a Listener for connections or a Group.
type Config struct {
	Listener net.Listener
	Group    group.Conn // the multicast transport; its controllers are whoever speaks there
	Machine  Machine
	// Name is what the agent calls itself until it is enrolled: its own address. Empty: the address the controller
	// connected to. A Group needs it.
	Name   string
	Heard  netip.AddrPort   // where a Group is heard, as the agent says it; the zero value is "-"
	System string           // what the agent says it runs, on a Group; "": unknown
	Timing Timing           // of a Group
	Logger *slog.Logger     // nil: silent
	Now    func() time.Time // nil: the machine's
}

// Listener is an agent that waits for controllers.
type Listener struct {
	cfg Config
	all sync.WaitGroup

	mu   sync.Mutex
	busy *session
}

// New makes a Listener.
func New(cfg Config) (*Listener, error) {
	if cfg.Machine == nil || (cfg.Listener == nil) == (cfg.Group == nil) {
		return nil, errors.New("legacy listener: a machine is required, and one of a listener and a group")
	}
	if cfg.Group != nil && cfg.Name == "" {
		return nil, errors.New("legacy listener: on a group the agent needs its own address as its name")
	}
	cfg.Timing = cfg.Timing.orDefault()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Listener{cfg: cfg}, nil
}

// Run serves one controller after the other until ctx ends, which is no error. It closes the net.Listener or the Group.
func (l *Listener) Run(ctx context.Context) error {
	if l.cfg.Group != nil {
		return l.runGroup(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.all.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.cfg.Listener.Close() })
	defer stop()
	for {
		c, err := l.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("legacy listener: %w", err)
		}
		l.serve(ctx, c)
	}
}

// serve gives a connection a session, or refuses it while there is one.
func (l *Listener) serve(ctx context.Context, c net.Conn) {
	log := l.cfg.Logger.With("controller", c.RemoteAddr().String())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy != nil {
		log.Warn("a second controller is refused")
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(legacy.ErrorWord + " " + legacy.Connected))
		c.Close()
		return
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(keepAlive)
	}
	name := l.cfg.Name
	if name == "" {
		name, _, _ = net.SplitHostPort(c.LocalAddr().String())
	}
	s := newSession(ctx, l.cfg, name, log)
	l.busy = s
	log.Info("controller connected")
	l.all.Go(func() {
		s.converse(c)
		l.mu.Lock()
		l.busy = nil
		l.mu.Unlock()
		log.Info("controller is gone; what it started is killed")
	})
}
