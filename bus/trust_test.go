package bus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestTrust: with the CA of its credential a client speaks to a server that
// proves itself with it, and to no other.
func TestTrust(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate, which is of 127.0.0.1
	web.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	run := func(conf *tls.Config) string {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, TLS: conf != nil, TLSConfig: conf, TLSTimeout: 5})
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		require.True(t, s.ReadyForConnections(bustest.Patience))
		return s.ClientURL()
	}
	secure, plain := run(&tls.Config{Certificates: web.TLS.Certificates}), run(nil)
	connect := func(url, ca string) error {
		c, err := bus.Connect(within(t), bus.Config{URLs: []string{url}, Timeout: 500 * time.Millisecond, Credential: &events.Credential{User: "u", Password: "p", CA: ca}})
		if err == nil {
			c.Close()
		}
		return err
	}
	require.NoError(t, connect(secure, ca))
	require.ErrorIs(t, connect(secure, ""), bus.ErrUntrusted, "nobody vouches for it")
	require.ErrorIs(t, connect(plain, ca), bus.ErrUntrusted, "not encrypted")
	require.NoError(t, connect(plain, ""))
	require.ErrorContains(t, connect(secure, "nonsense"), "no certificate in PEM")

	// Who waits says what for, once.
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := bus.Connect(ctx, bus.Config{URLs: []string{secure}, Wait: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.Equal(t, 1, strings.Count(log.String(), "cannot be trusted"), log.String())
}
