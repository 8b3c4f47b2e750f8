package embedded

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Conn provides connections inside the process, for bus.Config.InProcess.
func (s *Server) Conn() nats.InProcessConnProvider { return provider{s.ns} }

type provider struct{ ns *server.Server }

// InProcessConn implements nats.InProcessConnProvider.
func (p provider) InProcessConn() (net.Conn, error) {
	c, err := p.ns.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// conn is the client's end of a pipe to the server. A pipe holds nothing: a
// server that refuses a credential while the client is still writing it can
// not say so, and the client would see a broken pipe in place of a refusal.
// Until the server has answered the client's first words, writing therefore
// does not wait.
type conn struct {
	net.Conn
	write sync.Mutex
	reads atomic.Int32 // the first is the server's greeting, the second its answer
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.reads.Load() < 2 {
		c.reads.Add(1)
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.write.Lock()
	if c.reads.Load() >= 2 {
		defer c.write.Unlock()
		return c.Conn.Write(b)
	}
	first := bytes.Clone(b)
	go func() { // ends with the write, or with the connection
		defer c.write.Unlock()
		_, _ = c.Conn.Write(first) // what goes wrong, the reader sees
	}()
	return len(b), nil
}
