package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestNetbootRole drives the boot routes of a server with the facts of a real
// job: a node that is switched by hand gets its disk before, and the imaging
// system with one credential for one boot while the job waits for it.
func TestNetbootRole(t *testing.T) {
	t.Parallel()
	_, nats, base := bootServer(t)
	get := func(path string) (int, string) { return getFrom(t, "127.0.0.1", base+path) }
	const mac = "?mac=52:54:00:00:01:01"
	code, body := get("/boot/ipxe" + mac)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "sanboot")
	code, _ = get("/boot/config" + mac)
	require.Equal(t, http.StatusNotFound, code)
	_, body = get("/metrics")
	require.Contains(t, body, `loadnode_netboot_events_total{name="config_idle"} 1`)
	require.Contains(t, body, `loadnode_role_up{role="netboot"} 1`)

	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{nats}, Name: "test"})
	require.NoError(t, err)
	defer conn.Close()
	r := omf(t, "", "load", "n1", "small.ndz", "--detach", "--server", nats)
	require.Zero(t, r.code, r.stderr)
	job := strings.TrimSpace(r.stdout)
	bustest.Await(t, conn, bus.StreamTelemetry, events.BootSubject("default", "n1"), nil)
	code, body = get("/boot/ipxe" + mac)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "kernel --name kernel "+base+"/boot/kernel"+mac)
	require.Contains(t, body, "omf.server="+nats)
	code, body = get("/boot/kernel" + mac)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "this is kernel", body)
	code, body = get("/boot/config" + mac)
	require.Equal(t, http.StatusOK, code, body)
	var c events.BootConfig
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	require.Equal(t, job, c.Job)
	require.NotNil(t, c.Credential)
	node, err := bus.Connect(t.Context(), bus.Config{URLs: c.Bus, Name: "n1", Credential: c.Credential})
	require.NoError(t, err, "the credential is good")
	node.Close()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r = omfContext(ctx, t, "", "job", "cancel", job, "--server", nats)
	require.Zero(t, r.code, r.stderr)
	bustest.AwaitFact(t, conn, events.JobFacts("default", job), events.KindJobFinished)
	require.Eventually(t, func() bool { _, body := get("/boot/ipxe" + mac); return strings.Contains(body, "sanboot") }, patience, bustest.Patience/2000)
}

// bootServer runs a server with one node that it leads and that nobody switches
// on: its requests are those of the test, which may come from any address of
// loopback.
func bootServer(t *testing.T, args ...string) (state, nats, base string) {
	t.Helper()
	state = t.TempDir()
	boot := filepath.Join(state, "boot")
	for _, dir := range []string{boot, filepath.Join(state, "images")} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	for _, f := range []string{"kernel", "initrd"} {
		require.NoError(t, os.WriteFile(filepath.Join(boot, f), []byte("this is "+f), 0o644))
	}
	smallImage(t, filepath.Join(state, "images", "small.ndz"), 1)
	inventory := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, []byte(`
version: 1
testbeds:
  default:
    nodes:
      n1: {mac: "52:54:00:00:01:01", ip: 127.0.0.1, disk: /dev/sda, power: {driver: exec, command: [/bin/true, "{action}"]}, boot: {driver: builtin, args: "console=ttyS0"}}
`), 0o600))
	s := omfBackground(t, "ready: ", append([]string{
		"serve", "--roles", "nats,handler,frisbee,netboot", "--state", state, "--inventory", inventory,
		"--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--boot-listen", "127.0.0.1:0", "--log", "error",
	}, append(ownSessions(t), args...)...)...)
	words := strings.Fields(s.ready)
	return state, words[1], words[2]
}

// getFrom fetches a URL from an address of loopback.
func getFrom(t *testing.T, from, url string) (int, string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestNetbootIsChecked(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"--boot-interface":       {"--boot-dhcp", "proxy"},
		"no such network":        {"--boot-dhcp", "proxy", "--boot-interface", "nothing9"},
		"no node of the":         {},
		"want one of off":        {"--boot-dhcp", "yes"},
		"needs HTTP":             {"--http", "none"},
		"nodes cannot reach nat": {"--boot-interface", "lo", "--boot-dhcp", "reservations", "--boot-base", "http://10.0.0.1:1"},
	} {
		r := omf(t, "", append([]string{
			"serve", "--roles", "nats,handler,netboot", "--state", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--boot-listen", "none",
		}, args...)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, want)
	}
}
