package frisbeesvc

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/internal/freeport"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// makeImage writes an image with so many MiB of data that do not compress.
func makeImage(t testing.TB, seed byte, mib int) []byte {
	t.Helper()
	data := ndztest.Noise(uint64(seed), mib<<20)
	return ndztest.Image(t, uint64(64+len(data)/ndz.SectorSize), ndztest.Run{Sector: 64, Data: data})
}

func put(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, data, 0o644))
	return p
}

func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	require.NoError(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], off)
	require.NoError(t, err)
}

// hands is a clock that stands still until it is moved.
type hands struct {
	mu      sync.Mutex
	now     time.Time
	waiters []waiter
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

func newHands() *hands { return &hands{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) After(d time.Duration) <-chan time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := waiter{h.now.Add(d), make(chan time.Time, 1)}
	h.waiters = append(h.waiters, w)
	return w.ch
}

// step moves the clock by d, second by second, letting the loops of a service
// (two wait on the clock) finish their round each time.
func (h *hands) step(t testing.TB, d time.Duration) {
	t.Helper()
	parked := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.waiters) >= 2
	}
	for ; d > 0; d -= time.Second {
		require.Eventually(t, parked, patience, time.Millisecond)
		h.mu.Lock()
		h.now = h.now.Add(min(d, time.Second))
		rest := h.waiters[:0]
		for _, w := range h.waiters {
			if w.at.After(h.now) {
				rest = append(rest, w)
			} else {
				w.ch <- h.now
			}
		}
		h.waiters = rest
		h.mu.Unlock()
	}
	require.Eventually(t, parked, patience, time.Millisecond)
}

// bench is an image service on a bus of its own.
type bench struct {
	t     testing.TB
	bus   *bustest.Harness
	conn  *bus.Conn // of the asking side
	dir   string
	cfg   Config
	clock *hands

	svc  *Service
	web  *httptest.Server
	stop func()
}

const testRate = 200e6

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, bus: bustest.Start(t), dir: t.TempDir(), clock: newHands()}
	b.conn = b.bus.ConnectOperator(t)
	b.cfg = Config{
		Testbed: bustest.Testbed, Images: b.dir, Interface: netip.MustParseAddr("127.91.0.1"), HTTPBase: "http://images.example:5012",
		GroupBase: netip.MustParseAddr("239.192.91.0"), PortBase: freeport.UDP(t), Rate: testRate, Idle: 30 * time.Second,
		Clock: b.clock, ID: "bench",
	}
	for _, f := range change {
		f(&b.cfg)
	}
	t.Cleanup(func() { b.halt() })
	return b
}

// start starts the service and waits until it answers.
func (b *bench) start() *bench {
	b.t.Helper()
	var wait func()
	b.svc, wait = b.launch(b.cfg)
	web := httptest.NewServer(b.routes(b.svc))
	b.web = web
	b.stop = func() {
		wait() // first: images that come in are cut off by the service
		web.Close()
	}
	b.awaitActive(b.svc)
	return b
}

func (b *bench) routes(s *Service) http.Handler {
	mux := http.NewServeMux()
	s.Register(mux)
	return mux
}

// launch runs a service until the returned function is called.
func (b *bench) launch(cfg Config) (*Service, func()) {
	b.t.Helper()
	conn, err := bus.Connect(b.t.Context(), bus.Config{InProcess: b.bus, Credential: ptr(b.bus.Server().ServiceCredential()), Timeout: patience})
	require.NoError(b.t, err)
	cfg.Conn = conn
	s, err := New(cfg)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	return s, func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				b.t.Errorf("image service: %v", err)
			}
			conn.Close()
		})
	}
}

func ptr[T any](v T) *T { return &v }

func (b *bench) awaitActive(s *Service) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { _, err := s.active(); return err == nil }, patience, time.Millisecond)
}

// halt ends the service without a word, as far as the bus can tell: it is the
// same for it as a crash.
func (b *bench) halt() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
		b.clock.mu.Lock()
		b.clock.waiters = nil
		b.clock.mu.Unlock()
	}
}

func (b *bench) restart() {
	b.t.Helper()
	b.halt()
	b.start()
}

// ask sends a request to an endpoint.
func (b *bench) ask(verb string, req, resp any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return b.conn.Request(ctx, events.FrisbeeSubject(b.cfg.Testbed, verb), req, resp)
}

func (b *bench) serve(image, lease string) events.ImageServed {
	b.t.Helper()
	var out events.ImageServed
	require.NoError(b.t, b.ask(events.FrisbeeServe, events.ServeRequest{Image: image, Lease: lease, Local: true}, &out))
	return out
}

func (b *bench) release(image, lease string) {
	b.t.Helper()
	require.NoError(b.t, b.ask(events.FrisbeeRelease, events.LeaseRelease{Image: image, Lease: lease}, nil))
}

func (b *bench) status() events.FrisbeeState {
	b.t.Helper()
	var st events.FrisbeeState
	require.NoError(b.t, b.ask(events.FrisbeeStatus, events.Empty{}, &st))
	return st
}

// awaitNoSessions waits for the moment between a fact and its consequence.
func (b *bench) awaitNoSessions() {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return len(b.status().Sessions) == 0 }, patience, time.Millisecond)
}

// code is the code of the error that a request is answered with.
func (b *bench) code(verb string, req any) events.Code {
	b.t.Helper()
	err := b.ask(verb, req, nil)
	var e *events.Error
	require.True(b.t, errors.As(err, &e), "%v", err)
	require.NotEmpty(b.t, e.Message)
	return e.Code
}

// facts lists the kinds of the facts of an image so far.
func (b *bench) facts(image string) []events.Kind {
	b.t.Helper()
	var kinds []events.Kind
	for _, m := range bustest.All(b.t, b.bus.Connect(b.t), bus.StreamFacts, events.ImageFacts(b.cfg.Testbed, image)) {
		require.NoError(b.t, m.Err)
		require.Equal(b.t, events.Source(b.cfg.Testbed, "frisbee", b.cfg.ID), m.Event.Source())
		kinds = append(kinds, m.Address.Kind)
	}
	return kinds
}

// node is a receiver with its own address.
type node struct {
	conn   mcast.Conn
	client *client.Client
	inst   *install.Installer
	path   string
	m      *ndz.Manifest
}

func (b *bench) node(last byte, se events.Session, m *ndz.Manifest) *node {
	b.t.Helper()
	conn, err := mcast.Open(mcast.Options{Group: netip.MustParseAddr(se.Group), Port: se.Port, Local: netip.AddrFrom4([4]byte{127, 91, 1, last})})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	path := filepath.Join(b.t.TempDir(), "disk")
	target, err := disk.Open(path, disk.Options{Create: true})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { target.Close() })
	inst, err := install.New(install.Config{Target: target, Manifest: m, ReadBack: true})
	require.NoError(b.t, err)
	c, err := client.New(client.Config{Conn: conn, Server: netip.MustParseAddr(se.Server), Chunks: len(m.Chunks), Installer: inst,
		JoinTimeout: patience, StallTimeout: 2 * patience})
	require.NoError(b.t, err)
	return &node{conn: conn, client: c, inst: inst, path: path, m: m}
}

// load receives the whole image and checks the disk.
func (n *node) load(ctx context.Context) error {
	if _, err := n.client.Run(ctx); err != nil {
		return err
	}
	r, err := n.inst.Finish(ctx)
	if err != nil {
		return err
	}
	if r.DataDigest != n.m.DataDigest() {
		return errors.New("the disk has another content")
	}
	return nil
}

func manifestOf(t testing.TB, image []byte) *ndz.Manifest {
	t.Helper()
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	return m
}
