package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/bus/certificate"
	"loadnode/events"
)

// TestTLSOfBoots: what a node gets when it boots is enough for it to speak to a
// bus that proves itself with a certificate of its own making.
func TestTLSOfBoots(t *testing.T) {
	t.Parallel()
	state, nats, base := bootServer(t, "--tls", "on")
	require.True(t, strings.HasPrefix(nats, "tls://"), nats)
	operator := filepath.Join(state, "operator.json")
	as := []string{"--server", nats, "--credential", operator}
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{nats}, Name: "test", Credential: must(readCredential(filepath.Join(state, "service.json")))})
	require.NoError(t, err)
	defer conn.Close()
	r := omf(t, "", append([]string{"load", "n1", "small.ndz", "--detach"}, as...)...)
	require.Zero(t, r.code, r.stderr)
	bustest.Await(t, conn, bus.StreamTelemetry, events.BootSubject("default", "n1"), nil)
	code, body := getFrom(t, "127.0.0.1", base+"/boot/config?mac=52:54:00:00:01:01")
	require.Equal(t, http.StatusOK, code, body)
	var c events.BootConfig
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	require.Equal(t, []string{nats}, c.Bus)
	require.NotNil(t, c.Credential)
	require.Contains(t, c.Credential.CA, "BEGIN CERTIFICATE")
	node, err := bus.Connect(t.Context(), bus.Config{URLs: c.Bus, Name: "n1", Credential: c.Credential})
	require.NoError(t, err)
	require.NoError(t, node.NATS().Flush())
	_, err = node.NATS().TLSConnectionState()
	require.NoError(t, err, "it is encrypted")
	node.Close()
	blind := *c.Credential
	blind.CA = ""
	_, err = bus.Connect(t.Context(), bus.Config{URLs: c.Bus, Credential: &blind})
	require.ErrorIs(t, err, bus.ErrUntrusted)
	// Those of residents and simulated nodes have it as well.
	var lasting events.Credential
	require.NoError(t, conn.Request(t.Context(), events.BusSubject("default", events.BusCredential), events.CredentialRequest{Node: "n1", Kind: events.CredentialResident}, &lasting))
	require.Equal(t, c.Credential.CA, lasting.CA)
	r = omf(t, "", append([]string{"job", "cancel", strings.TrimSpace(r.stdout)}, as...)...)
	require.Zero(t, r.code, r.stderr)
}

// TestTLSFiles: a certificate that others made, and where the credentials are.
func TestTLSFiles(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	made, err := certificate.Open(certificate.Config{Dir: dir, Names: []string{"127.0.0.1"}})
	require.NoError(t, err)
	both, ca := filepath.Join(dir, "server.pem"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, []byte(made.CA()), 0o600))
	s := omfBackground(t, "ready: ", append([]string{"serve", "--state", state, "--nats-listen", "0.0.0.0:0", "--http", "127.0.0.1:0", "--grid", "1x1",
		"--tls-cert", both, "--tls-key", both, "--tls-ca", ca}, ownSessions(t)...)...)
	operator := filepath.Join(state, "operator.json")
	require.Contains(t, s.err.String(), "people="+operator)
	url := strings.Replace(strings.Fields(s.ready)[1], "0.0.0.0", "127.0.0.1", 1)
	require.Equal(t, made.CA(), must(readCredential(operator)).CA)
	require.NoDirExists(t, filepath.Join(state, "tls"))
	r := omf(t, "", "nodes", "ls", "--server", url, "--credential", operator)
	require.Zero(t, r.code, r.stderr)

	for want, args := range map[string][]string{
		"belong together":     {"--tls-cert", both},
		"contradict":          {"--tls-cert", both, "--tls-key", both, "--tls", "off"},
		"is for --tls-cert":   {"--tls-ca", ca},
		"want one of":         {"--tls", "maybe"},
		"no such file":        {"--tls-cert", both, "--tls-key", filepath.Join(dir, "absent")},
		"no certificate in P": {"--tls-cert", both, "--tls-key", both, "--tls-ca", os.DevNull},
	} {
		r := omf(t, "", append([]string{"serve", "--state", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grid", "1x1"}, args...)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, want)
	}
}
