package netboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	client "github.com/pin/tftp/v3"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler/inventory"
)

const (
	mac1, mac2, mac3 = "52:54:00:00:01:01", "52:54:00:00:01:02", "52:54:00:00:01:03"
	inventoryText    = `
version: 1
testbeds:
  default:
    nodes:
      n1: {mac: "` + mac1 + `", ip: 127.0.0.1, boot: {driver: builtin, args: "console=ttyS0"}}
      n2: {mac: "` + mac2 + `", ip: 127.0.0.2, boot: {driver: builtin, image: other, chain: true}}
      n3: {mac: "` + mac3 + `", ip: 127.0.0.3}
`
)

// once hands each node's credential out once for each attempt.
type once struct {
	mu     sync.Mutex
	issued map[string]int
	// strangers asked for n1's from other addresses.
	strangers []netip.Addr
}

func (o *once) Issue(_ context.Context, testbed, node, mac string, from netip.Addr) (events.Credential, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if node == "n1" && from != netip.MustParseAddr("127.0.0.1") {
		o.strangers = append(o.strangers, from)
		return events.Credential{}, &events.Error{Code: events.CodeBadRequest, Message: "another address"}
	}
	if o.issued[node]++; o.issued[node] > 1 {
		return events.Credential{}, fmt.Errorf("%s: %w", node, ErrDelivered)
	}
	return events.Credential{User: node, Password: mac, Inbox: from.String()}, nil
}

// world is a role on a bus, with its routes.
type world struct {
	t     *testing.T
	conn  *bus.Conn
	role  *Role
	mux   *http.ServeMux
	creds *once
	tftp  string
	seq   map[string]uint64
	stop  func()
}

func newWorld(t *testing.T, conn *bus.Conn) *world {
	t.Helper()
	inv, err := inventory.Parse([]byte(inventoryText))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o755))
	for _, f := range []string{"kernel", "initrd", "ipxe.efi", "other/kernel"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte("this is "+f), 0o644))
	}
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	credentials := &once{issued: map[string]int{}}
	role, err := New(Config{
		Inventory: inv, Conn: conn, Dir: dir, Base: "http://10.18.0.1:5012", Bus: []string{"nats://10.18.0.1:4222"},
		Credentials: credentials, TFTP: socket, Options: map[string]string{"console": "1"},
	})
	require.NoError(t, err)
	w := &world{t: t, conn: conn, role: role, mux: http.NewServeMux(), creds: credentials, tftp: socket.LocalAddr().String(), seq: map[string]uint64{}}
	role.Register(w.mux)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- role.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-done); role.Close() })
	t.Cleanup(w.stop)
	<-role.Ready()
	return w
}

// fact appends a fact and waits until the role has it.
func (w *world) fact(job, node string, d events.Data) {
	w.t.Helper()
	subject := events.JobFactSubject("default", job, d.Kind())
	if node != "" {
		subject = events.NodeFactSubject("default", job, node, d.Kind())
	}
	ev, err := events.New(events.Meta{ID: fmt.Sprintf("%s-%d", job, w.seq[job]), Source: "/omf/default/handler/h", Time: start}, d)
	require.NoError(w.t, err)
	last, err := w.conn.Append(w.t.Context(), events.JobFacts("default", job), w.seq[job], bus.Record{Subject: subject, Event: ev})
	require.NoError(w.t, err)
	w.seq[job] = last
}

// stage waits until a stage is told of a node, and returns what is told then.
func (w *world) stage(node, stage string) events.BootStage {
	w.t.Helper()
	var found events.BootStage
	bustest.Await(w.t, w.conn, bus.StreamTelemetry, events.BootSubject("default", node), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		b, ok := d.(events.BootStage)
		if err != nil || !ok || b.Stage != stage {
			return false
		}
		found = b
		return true
	})
	return found
}

func (w *world) get(from, path string) (int, string) {
	req := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil)
	req.RemoteAddr = from + ":1234"
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

func (w *world) fetch(name string) (string, error) {
	c, err := client.NewClient(w.tftp)
	require.NoError(w.t, err)
	in, err := c.Receive(name, "octet")
	if err != nil {
		return "", err
	}
	r, out := io.Pipe()
	go func() {
		_, err := in.WriteTo(out)
		out.CloseWithError(err)
	}()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestBoot(t *testing.T) {
	h := bustest.Start(t)
	conn := h.Connect(t)
	w := newWorld(t, conn)
	script := func(from, mac string) string {
		code, body := w.get(from, "/boot/ipxe?mac="+mac)
		require.Equal(t, http.StatusOK, code, body)
		return body
	}
	require.Contains(t, script("127.0.0.1", mac1), "sanboot")
	code, body := w.get("127.0.0.1", "/boot/config?mac="+mac1)
	require.Equal(t, http.StatusNotFound, code, body)
	cfg, err := w.fetch("pxelinux.cfg/01-52-54-00-00-01-01")
	require.NoError(t, err)
	require.Contains(t, cfg, "LOCALBOOT")

	// The way in.
	ref := events.NodeRef{Job: "j1", Node: "n1", Attempt: 1}
	w.fact("j1", "n1", events.RebootRequested{NodeRef: ref})
	require.Equal(t, ref, w.stage("n1", events.StageArmed).NodeRef)
	require.Contains(t, script("127.0.0.1", mac1), "omf.node=n1 omf.server=nats://10.18.0.1:4222 omf.boot=http://10.18.0.1:5012 omf.mac="+mac1+" BOOTIF=01-52-54-00-00-01-01 console=ttyS0")
	require.Contains(t, script("127.0.0.2", mac2), "sanboot", "another node boots its disk")
	cfg, err = w.fetch("pxelinux.cfg/01-52-54-00-00-01-01")
	require.NoError(t, err)
	require.Contains(t, cfg, "KERNEL http://10.18.0.1:5012/boot/kernel")
	loader, err := w.fetch("ipxe.efi")
	require.NoError(t, err)
	require.Equal(t, "this is ipxe.efi", loader)
	for path, want := range map[string]string{"/boot/kernel?mac=" + mac1: "this is kernel", "/boot/initrd?mac=" + mac1: "this is initrd", "/boot/files/ipxe.efi": "this is ipxe.efi"} {
		code, body := w.get("127.0.0.1", path)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, want, body)
	}
	code, body = w.get("127.0.0.2", "/boot/kernel")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "this is other/kernel", body, "a node with an image of its own")

	// The configuration, once.
	code, body = w.get("127.0.0.1", "/boot/config?mac="+mac1)
	require.Equal(t, http.StatusOK, code, body)
	var c events.BootConfig
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	require.Equal(t, "n1", c.Node)
	require.Equal(t, "j1", c.Job)
	require.Equal(t, []string{"nats://10.18.0.1:4222"}, c.Bus)
	require.Equal(t, &events.Credential{User: "n1", Password: mac1, Inbox: "127.0.0.1"}, c.Credential)
	require.Equal(t, map[string]string{"console": "1"}, c.Options)
	code, _ = w.get("127.0.0.1", "/boot/config?mac="+mac1)
	require.Equal(t, http.StatusConflict, code)

	b := w.stage("n1", events.StageConfig)
	var stages []string
	for _, s := range b.Seen {
		stages = append(stages, s.Stage)
	}
	require.Equal(t, []string{"armed", "tftp", "script", "kernel", "initrd", "config"}, stages)
	require.Equal(t, "127.0.0.1", b.Address)

	// A restart of the role goes on where it was.
	w.stop()
	again := newWorld(t, conn)
	again.seq = w.seq
	w = again
	require.Contains(t, script("127.0.0.1", mac1), "kernel")
	w.fact("j1", "n1", events.PxeUp{NodeRef: ref})
	require.Len(t, w.stage("n1", events.StageAgent).Seen, 7)
	require.Contains(t, script("127.0.0.1", mac1), "/boot/kernel", "a machine that crashes comes back")

	// The way out. Facts are seen in order: when n2 is armed, n1 has left.
	w.fact("j1", "n1", events.ShutdownRequested{NodeRef: ref})
	w.fact("j2", "n2", events.RebootRequested{NodeRef: events.NodeRef{Job: "j2", Node: "n2", Attempt: 1}})
	w.stage("n2", events.StageArmed)
	require.Contains(t, script("127.0.0.1", mac1), "sanboot")
}

// TestChain: iPXE in the network card of a node is given the loader, and the
// loader its script.
func TestChain(t *testing.T) {
	w := newWorld(t, bustest.Start(t).Connect(t))
	now := start
	w.role.clock = func() time.Time { return now }
	chained := func(mac string) bool {
		h, ok := w.role.lookup(mac)
		require.True(t, ok)
		return h.Chain
	}
	require.False(t, chained(mac1))
	require.True(t, chained(mac2))
	w.role.fetched("undionly.kpxe", netip.MustParseAddr("127.0.0.2"), 1, errors.New("broken off"))
	require.True(t, chained(mac2))
	w.role.fetched("undionly.kpxe", netip.MustParseAddr("127.0.0.2"), 1, nil)
	require.False(t, chained(mac2), "now it is the loader that asks")
	code, _ := w.get("127.0.0.2", "/boot/ipxe?mac="+mac2)
	require.Equal(t, http.StatusOK, code)
	require.True(t, chained(mac2), "the next start")
	w.role.fetched("undionly.kpxe", netip.MustParseAddr("127.0.0.2"), 1, nil)
	now = now.Add(chainTime)
	require.True(t, chained(mac2), "the loader never asked")
}

func TestStrangersAreRefused(t *testing.T) {
	h := bustest.Start(t)
	w := newWorld(t, h.Connect(t))
	w.fact("j1", "n1", events.RebootRequested{NodeRef: events.NodeRef{Job: "j1", Node: "n1", Attempt: 1}})
	w.stage("n1", events.StageArmed)
	for name, tc := range map[string]struct {
		from, mac string
		code      int
	}{
		"another node's MAC":    {"127.0.0.2", mac1, http.StatusForbidden},
		"an unknown address":    {"127.0.0.9", mac1, http.StatusForbidden},
		"an unknown MAC":        {"127.0.0.1", "52:54:00:99:99:99", http.StatusForbidden},
		"not booted from here":  {"127.0.0.3", mac3, http.StatusForbidden},
		"no MAC":                {"127.0.0.1", "", http.StatusBadRequest},
		"a long MAC":            {"127.0.0.1", "00-00-00-00-fe-80-00-00-00-00-00-00-02-00-5e-10-00-00-00-01", http.StatusBadRequest},
		"its own, spelt so":     {"127.0.0.1", "52-54-00-00-01-01", http.StatusOK},
		"its own over IPv6's 4": {"[::ffff:127.0.0.1]", mac1, http.StatusOK},
	} {
		code, body := w.get(tc.from, "/boot/ipxe?mac="+tc.mac)
		require.Equal(t, tc.code, code, "%s: %s", name, body)
		if tc.code != http.StatusOK {
			code, _ := w.get(tc.from, "/boot/config?mac="+tc.mac)
			require.Equal(t, tc.code, code, name)
		}
	}
	_, err := w.fetch("pxelinux.cfg/01-52-54-00-00-01-02")
	require.ErrorContains(t, err, "refused")
	require.EqualValues(t, 9, w.role.Counters()["refused"])
	for path, code := range map[string]int{"/boot/files/nothing": http.StatusNotFound, "/boot/files/other": http.StatusNotFound, "/boot/files/": http.StatusBadRequest} {
		got, _ := w.get("127.0.0.1", path)
		require.Equal(t, code, got, path)
	}
	require.ElementsMatch(t, []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.9")}, w.creds.strangers, "the issuer raises the alarm")
	// HEAD does not use a credential up.
	req := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/boot/config?mac="+mac1, nil)
	req.RemoteAddr = "127.0.0.1:1"
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, req)
	require.Equal(t, http.StatusMethodNotAllowed, rec.Code)
	code, _ := w.get("127.0.0.1", "/boot/config?mac="+mac1)
	require.Equal(t, http.StatusOK, code)
}

func TestConfigIsChecked(t *testing.T) {
	h := bustest.Start(t)
	conn := h.Connect(t)
	for text, want := range map[string]string{
		`n1: {ip: 10.0.0.1, boot: {driver: builtin}}`:                           "n1: boot: {driver: builtin} needs mac and ip",
		`n1: {mac: "52:54:00:00:01:01", boot: {driver: builtin}}`:               "needs mac and ip",
		`n1: {mac: "52:54:00:00:01:01", ip: 10.0.0.1}`:                          "no node of the inventory has boot",
		`n1: {mac: "52:54:00:00:01:01", ip: 10.0.0.1, boot: {driver: builtin}}`: "boot directory",
	} {
		inv, err := inventory.Parse([]byte("version: 1\ntestbeds:\n  default:\n    nodes:\n      " + text + "\n"))
		require.NoError(t, err)
		_, err = New(Config{Inventory: inv, Conn: conn, Dir: filepath.Join(t.TempDir(), "none"), Base: "http://b", Bus: []string{"nats://b"}, Credentials: &once{}})
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, want)
	}
	_, err := New(Config{})
	require.ErrorIs(t, err, ErrConfig)
}
