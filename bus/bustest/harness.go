package bustest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/embedded"
	"loadnode/events"
)

// Patience is how long the helpers wait before they fail a test.
const Patience = 20 * time.Second

// Testbed is the testbed of the harness.
const Testbed = "default"

// Harness is an embedded server on a store in a temporary directory. Its
// connections survive Restart.
type Harness struct {
	t   testing.TB
	cfg embedded.Config

	mu  sync.Mutex
	srv *embedded.Server // nil while stopped
}

// Start runs a server with the streams of loadnode and ends it with the test.
func Start(t testing.TB) *Harness {
	t.Helper()
	return StartWith(t, embedded.Config{Listen: embedded.InProcessOnly})
}

// StartWith is Start with a configuration; an empty StoreDir becomes a
// temporary directory.
func StartWith(t testing.TB, cfg embedded.Config) *Harness {
	t.Helper()
	if cfg.StoreDir == "" {
		cfg.StoreDir = t.TempDir()
	}
	h := &Harness{t: t, cfg: cfg}
	h.Resume()
	t.Cleanup(h.Stop)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c := h.connect(t, h.Server().ServiceCredential())
	defer c.Close()
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	return h
}

// Server is the running server.
func (h *Harness) Server() *embedded.Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.srv
}

// InProcessConn connects to whichever server runs at the moment.
func (h *Harness) InProcessConn() (net.Conn, error) {
	srv := h.Server()
	if srv == nil {
		return nil, errors.New("the server of the harness is stopped")
	}
	return srv.Conn().InProcessConn()
}

// Stop ends the server; connections begin to look for another one.
func (h *Harness) Stop() {
	h.mu.Lock()
	srv := h.srv
	h.srv = nil
	h.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
	}
}

// Resume starts the server again on the same store.
func (h *Harness) Resume() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	srv, err := embedded.Start(ctx, h.cfg)
	require.NoError(h.t, err)
	h.mu.Lock()
	h.srv = srv
	h.mu.Unlock()
}

// Restart ends the server and starts it again on the same store.
func (h *Harness) Restart() {
	h.t.Helper()
	h.Stop()
	h.Resume()
}

// Connect connects with the rights of a handler or an image service. The
// connection is closed with the test, before the server.
func (h *Harness) Connect(t testing.TB) *bus.Conn {
	t.Helper()
	return h.ConnectAs(t, h.Server().ServiceCredential())
}

// ConnectNode connects with the restricted credential of a node's agent.
func (h *Harness) ConnectNode(t testing.TB, node string) *bus.Conn {
	t.Helper()
	return h.ConnectAs(t, h.Server().NodeCredential(Testbed, node))
}

// ConnectResident connects with the credential of a node's resident agent.
func (h *Harness) ConnectResident(t testing.TB, node string) *bus.Conn {
	t.Helper()
	return h.ConnectAs(t, h.Server().ResidentCredential(Testbed, node))
}

// ConnectOperator connects with the credential of people and scripts.
func (h *Harness) ConnectOperator(t testing.TB) *bus.Conn {
	t.Helper()
	return h.ConnectAs(t, h.Server().OperatorCredential())
}

// ConnectAs connects with a credential.
func (h *Harness) ConnectAs(t testing.TB, cr events.Credential) *bus.Conn {
	t.Helper()
	c := h.connect(t, cr)
	t.Cleanup(c.Close)
	return c
}

func (h *Harness) connect(t testing.TB, cr events.Credential) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(context.Background(), bus.Config{
		InProcess: h, Credential: &cr, Name: t.Name(), Timeout: Patience,
	})
	require.NoError(t, err)
	return c
}
