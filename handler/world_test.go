package handler_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tb = bustest.Testbed

var image = events.Image{Name: "baseline.ndz", Digest: strings.Repeat("ab", 32), Size: 10 << 20, Chunks: 10, DiskBytes: 100 << 20, DataBytes: 20 << 20, SectorSize: 512}

// world is a testbed: nodes with power and agents, an image service, and a
// reader of the log.
type world struct {
	t     *testing.T
	h     *bustest.Harness
	conn  *bus.Conn // of the services and of the reader
	nodes map[string]*node
	names []string
	clock handler.Clock // of the handlers; nil: the system's
	inv   *inventory.Inventory
	svc   *images

	state    string           // directory of the handlers; empty: none
	pxelinux handler.Pxelinux // of the handlers

	ended chan struct{} // with the test

	mu      sync.Mutex
	log     []bus.Message
	changed chan struct{}
}

func newWorld(t *testing.T, columns, rows int) *world {
	t.Helper()
	w := &world{t: t, h: bustest.Start(t), nodes: map[string]*node{}, inv: inventory.Sim(columns, rows), changed: make(chan struct{}), ended: make(chan struct{})}
	w.conn = w.h.Connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	var endpoints []bus.Endpoint
	found, ok := w.inv.Testbed(tb)
	require.True(t, ok)
	for _, in := range found.Nodes() {
		n := &node{w: w, name: in.Name, conn: w.h.ConnectNode(t, in.Name), acted: map[string]bool{}, ops: map[string]*op{}, loads: map[string]int{}}
		w.nodes[in.Name], w.names = n, append(w.names, in.Name)
		for _, verb := range []string{events.PowerOn, events.PowerOff, events.PowerReset, events.PowerStatus} {
			endpoints = append(endpoints, bus.Endpoint{Name: "p", Subject: events.PowerSubject(tb, in.Name, verb), Handle: n.power})
		}
	}
	_, err := w.conn.Serve(ctx, bus.ServiceConfig{Name: "power", Version: "1.0.0", Plain: true, Endpoints: endpoints})
	require.NoError(t, err)
	w.svc = newImages(w)
	w.svc.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts}, func(m bus.Message) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.log = append(w.log, m)
			close(w.changed)
			w.changed = make(chan struct{})
			return nil
		})
	}()
	t.Cleanup(func() {
		close(w.ended)
		cancel()
		<-done
		for _, n := range w.nodes {
			n.down()
			n.work.Wait()
		}
		w.svc.stop()
	})
	return w
}

// facts returns the log so far.
func (w *world) facts() []bus.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

// until waits for a condition on the log.
func (w *world) until(what string, ok func([]bus.Message) bool) {
	w.t.Helper()
	deadline := time.After(bustest.Patience)
	for {
		w.mu.Lock()
		log, ch := slices.Clone(w.log), w.changed
		w.mu.Unlock()
		if ok(log) {
			return
		}
		select {
		case <-ch:
		case <-deadline:
			require.Fail(w.t, "not in time: "+what, strings.Join(labels(log), "\n"))
		}
	}
}

func has(kind events.Kind, jobID, node string) func([]bus.Message) bool {
	return func(log []bus.Message) bool {
		return slices.ContainsFunc(log, func(m bus.Message) bool {
			return m.Address.Kind == kind && (jobID == "" || m.Address.Job == jobID) && (node == "" || m.Address.Node == node)
		})
	}
}

func labels(log []bus.Message) []string {
	var out []string
	for _, m := range log {
		k, _ := events.KindOfType(m.Event.Type())
		out = append(out, strings.TrimSpace(string(k)+" "+m.Address.Node))
	}
	return out
}

// of picks the facts of a job, or of one of its nodes.
func of(log []bus.Message, jobID string, node ...string) []bus.Message {
	var out []bus.Message
	for _, m := range log {
		if m.Address.Job == jobID && (len(node) == 0 || slices.Contains(node, m.Address.Node)) {
			out = append(out, m)
		}
	}
	return out
}

func data[T events.Data](t *testing.T, m bus.Message) T {
	t.Helper()
	d, err := events.Decode(m.Event)
	require.NoError(t, err)
	v, ok := d.(T)
	require.True(t, ok, "%T", d)
	return v
}

// finished waits for the end of a job.
func (w *world) finished(jobID string) events.JobFinished {
	w.t.Helper()
	w.until("job.finished of "+jobID, has(events.KindJobFinished, jobID, ""))
	for _, m := range w.facts() {
		if m.Address.Job == jobID && m.Address.Kind == events.KindJobFinished {
			return data[events.JobFinished](w.t, m)
		}
	}
	return events.JobFinished{}
}

func (w *world) rejected(jobID string) events.Error {
	w.t.Helper()
	w.until("job.rejected of "+jobID, has(events.KindJobRejected, jobID, ""))
	for _, m := range w.facts() {
		if m.Address.Job == jobID && m.Address.Kind == events.KindJobRejected {
			return data[events.JobRejected](w.t, m).Error
		}
	}
	return events.Error{}
}

// load requests a load and returns the job's id.
func (w *world) load(r events.LoadRequest) string {
	w.t.Helper()
	if r.Image == "" {
		r.Image = image.Name
	}
	id, err := events.NewULID(time.Now(), rand.Reader)
	require.NoError(w.t, err)
	w.request(tb, events.VerbLoad, id, r)
	return id
}

func (w *world) request(testbed string, v events.Verb, id string, d events.Data) event.Event {
	w.t.Helper()
	ev, err := events.New(events.Meta{ID: id, Source: "/omf/default/cli/test", Time: time.Now()}, d)
	require.NoError(w.t, err)
	_, err = w.conn.Publish(context.Background(), events.RequestSubject(testbed, v), ev)
	require.NoError(w.t, err)
	return ev
}

// free checks that nothing is leased, of nodes or sessions.
func (w *world) free() {
	w.t.Helper()
	held := map[string]string{}
	for _, m := range w.facts() {
		if !m.Address.Leases {
			continue
		}
		d, err := events.Decode(m.Event)
		require.NoError(w.t, err)
		switch d := d.(type) {
		case events.Leased:
			for _, n := range d.Nodes {
				require.Empty(w.t, held[n], "node %s has two holders", n)
				held[n] = d.Job
			}
		case events.Released:
			for _, n := range d.Nodes {
				delete(held, n)
			}
		}
	}
	require.Empty(w.t, held, "still leased")
	// One that could not be given back at the end of the job is swept later.
	require.Eventually(w.t, func() bool { return len(w.svc.held()) == 0 }, bustest.Patience, 10*time.Millisecond, "sessions still leased")
	require.Eventually(w.t, func() bool { return len(w.svc.waiting()) == 0 }, bustest.Patience, 10*time.Millisecond, "places still open")
}

// running is a handler.
type running struct {
	*handler.Handler
	conn   *bus.Conn
	cancel context.CancelFunc
	done   chan error
	killed bool
}

func policy() handler.Policy {
	return handler.Policy{
		Policy: job.Policy{Window: 16, CheckIn: 10 * time.Second, Join: 10 * time.Second, Stall: time.Second, Leave: 5 * time.Second, LoadMargin: 10 * time.Second},
		Grace:  100 * time.Millisecond, Owner: time.Second, Patience: 10 * time.Second, Sweep: time.Second,
	}
}

// forever makes all times so long that none of them passes by itself, for
// tests whose clock leaps.
func forever(p *handler.Policy) {
	p.CheckIn, p.Join, p.Leave, p.LoadMargin, p.Owner = time.Hour, time.Hour, time.Hour, time.Hour, 24*time.Hour
}

// leaps gives the handlers to come a clock that leaps.
func (w *world) leaps() *leaping {
	c := newLeaping()
	w.clock = c
	return c
}

func (w *world) start(id string, change func(*handler.Policy)) *running {
	w.t.Helper()
	return w.startWith(id, change, nil)
}

func (w *world) startWith(id string, change func(*handler.Policy), drivers func(inventory.Power, power.Deps) (power.Driver, error)) *running {
	w.t.Helper()
	p := policy()
	if change != nil {
		change(&p)
	}
	var log *slog.Logger
	if os.Getenv("HANDLER_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	conn := w.h.Connect(w.t)
	h, err := handler.New(handler.Config{Inventory: w.inv, Conn: conn, ID: id, Version: "1.0.0", Logger: log, Policy: p, Power: drivers, Clock: w.clock, StateDir: w.state, Pxelinux: w.pxelinux})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Handler: h, conn: conn, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- h.Run(ctx) }()
	w.t.Cleanup(func() { r.stop(w.t) })
	return r
}

// stop ends a handler and waits for it.
func (r *running) stop(t *testing.T) {
	r.cancel()
	select {
	case err := <-r.done:
		r.done <- nil // for whoever stops it again
		if !r.killed {
			require.NoError(t, err)
		}
	case <-time.After(bustest.Patience):
		require.Fail(t, "the handler does not end")
	}
}

// kill cuts a handler off at once: nothing that it does from here on reaches
// anybody.
func (r *running) kill(t *testing.T) {
	r.killed = true
	r.conn.NATS().Close()
	r.stop(t)
}

// images is an image service.
type images struct {
	w   *world
	svc *bus.Service
	// http is where images can be sent to; empty for nowhere.
	http string

	mu     sync.Mutex
	leases map[string]int // lease → times that it was taken
	places map[string]*events.Place
	asked  map[string]events.ReceiveRequest // the first for each lease
	had    map[string]bool                  // images that were saved
	tokens []string                         // that were given out
	// orphaned places receive from the beginning, and nobody knows whom from.
	orphaned int
	busy     int // questions about places that stored ones answer with receiving
}

func newImages(w *world) *images {
	return &images{w: w, http: "http://127.0.0.1:5012", leases: map[string]int{}, places: map[string]*events.Place{}, asked: map[string]events.ReceiveRequest{}, had: map[string]bool{}}
}

func (i *images) start() {
	endpoint := func(verb string, f func(bus.Request) (any, error)) bus.Endpoint {
		return bus.Endpoint{Name: verb, Subject: events.FrisbeeSubject(tb, verb), Handle: func(_ context.Context, r bus.Request) (any, error) { return f(r) }}
	}
	svc, err := i.w.conn.Serve(context.Background(), bus.ServiceConfig{Name: "frisbee", Version: "1.0.0", Endpoints: []bus.Endpoint{
		endpoint(events.FrisbeeCheck, func(r bus.Request) (any, error) {
			var q events.ImageQuery
			if err := r.Decode(&q); err != nil {
				return nil, err
			}
			if i.has(q.Image) {
				return savedImage, nil
			}
			if q.Image != image.Name {
				return nil, &events.Error{Code: events.CodeImage, Message: "no image " + q.Image}
			}
			return image, nil
		}),
		endpoint(events.FrisbeeServe, func(r bus.Request) (any, error) {
			var q events.ServeRequest
			if err := r.Decode(&q); err != nil {
				return nil, err
			}
			i.mu.Lock()
			defer i.mu.Unlock()
			i.leases[q.Lease]++
			return events.ImageServed{Image: image, Session: events.Session{ID: "s1", Weight: q.Weight, Group: "239.192.77.1", Port: 4000, Server: "127.0.0.1"}, Leases: []string{q.Lease}}, nil
		}),
		endpoint(events.FrisbeeRelease, func(r bus.Request) (any, error) {
			var q events.LeaseRelease
			if err := r.Decode(&q); err != nil {
				return nil, err
			}
			i.mu.Lock()
			defer i.mu.Unlock()
			delete(i.leases, q.Lease)
			return nil, nil
		}),
		endpoint(events.FrisbeeReceive, i.receive), endpoint(events.FrisbeeAbandon, i.abandon), endpoint(events.FrisbeePlaces, i.list),
		endpoint(events.FrisbeeStatus, func(bus.Request) (any, error) {
			return events.FrisbeeState{HTTP: i.http, Sessions: []events.SessionState{{Session: events.Session{ID: "s1"}, Image: image.Name, Leases: i.held()}}}, nil
		}),
	}})
	require.NoError(i.w.t, err)
	i.svc = svc
}

func (i *images) stop() {
	if i.svc != nil {
		i.svc.Stop()
		i.svc = nil
	}
}

func (i *images) held() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := []string{}
	for l := range i.leases {
		out = append(out, l)
	}
	return out
}

// ask calls an endpoint of the handler.
func ask[T any](t *testing.T, w *world, verb string, req any) (T, error) {
	t.Helper()
	var out T
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	for {
		err := w.conn.Request(ctx, events.HandlerSubject(tb, verb), req, &out)
		// Before the handler has read the log nobody answers.
		if !errors.Is(err, bus.ErrNoResponders) || ctx.Err() != nil {
			return out, err
		}
	}
}

func asRequest(t *testing.T, v any) bus.Request {
	t.Helper()
	return bus.Request{Data: toJSON(t, v)}
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
