package legacytest

import (
	"net"
	"sync"
	"time"
)

// gluing makes connections that behave as those of the original agent at their worst: what is written within a moment
// arrives in one piece, and long pieces arrive cut.
type gluing struct {
	net.Listener
	node *Node
}

const (
	glueTime = 5 * time.Millisecond
	cutAt    = 700 // bytes
)

func (g *gluing) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g.node.mu.Lock()
	g.node.conns = append(g.node.conns, c)
	g.node.mu.Unlock()
	return &glue{Conn: c}, nil
}

type glue struct {
	net.Conn
	mu   sync.Mutex
	held []byte
}

func (g *glue) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) == 0 {
		time.AfterFunc(glueTime, func() { g.flush() })
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *glue) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.held) > 0 {
		n := min(len(g.held), cutAt)
		if _, err := g.Conn.Write(g.held[:n]); err != nil {
			g.Conn.Close()
			break
		}
		g.held = g.held[n:]
	}
	g.held = nil
}

func (g *glue) Close() error {
	g.flush()
	return g.Conn.Close()
}
