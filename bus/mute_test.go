package bus_test

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
)

// muted connects through a wire that stops carrying answers once a text has
// passed towards the server: what was asked is done and nobody learns of it.
type muted struct {
	h *bustest.Harness

	mu      sync.Mutex
	trigger []byte // nil: carry everything
	conn    *mutedConn
}

func (m *muted) InProcessConn() (net.Conn, error) {
	c, err := m.h.InProcessConn()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = &mutedConn{Conn: c, m: m}
	return m.conn, nil
}

// muteAfter loses all answers after text was sent, until cut is called.
func (m *muted) muteAfter(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trigger = []byte(text)
}

// cut breaks the connection; the next one carries everything.
func (m *muted) cut(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trigger = nil
	require.True(t, m.conn.silent(), "the text has not passed")
	require.NoError(t, m.conn.Close())
}

func (m *muted) connect(t testing.TB) *bus.Conn {
	t.Helper()
	cr := m.h.Server().ServiceCredential()
	c, err := bus.Connect(within(t), bus.Config{InProcess: m, Credential: &cr})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

type mutedConn struct {
	net.Conn
	m *muted

	mu   sync.Mutex
	mute bool
}

func (c *mutedConn) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mute
}

func (c *mutedConn) Write(b []byte) (int, error) {
	c.m.mu.Lock()
	hit := len(c.m.trigger) > 0 && bytes.Contains(b, c.m.trigger)
	c.m.mu.Unlock()
	if hit {
		c.mu.Lock()
		c.mute = true
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *mutedConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.silent() {
			return n, err
		}
	}
}
