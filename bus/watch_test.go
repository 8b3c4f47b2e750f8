package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// up publishes the n-th report of a node.
func up(t testing.TB, c *bus.Conn, node string, n int) bus.Ack {
	t.Helper()
	ack, err := c.Publish(within(t), events.ReportSubject(tb, node, events.KindUp),
		made(t, newID(t), "/x", events.Up{NodeRef: events.NodeRef{Node: node, Attempt: n}}))
	require.NoError(t, err)
	return ack
}

// watching runs a watch and hands out "node/attempt" of each report, and
// "caught up" in its place.
func watching(t testing.TB, c *bus.Conn, cfg bus.WatchConfig) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan string, 1024)
	cfg.Stream = bus.StreamReports
	cfg.CaughtUp = func() { out <- "caught up" }
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, cfg, func(m bus.Message) error {
			d, err := events.Decode(m.Event)
			if err != nil {
				return err
			}
			out <- fmt.Sprintf("%s/%d", m.Address.Node, d.(events.Up).Attempt)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return out
}

func requireNext(t testing.TB, ch <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		require.Equal(t, w, take(t, ch))
	}
}

func TestWatchStarts(t *testing.T) {
	h := bustest.Start(t)
	c := h.Connect(t)
	for n := range 3 {
		up(t, c, "n1", n) // sequences 1, 3, 5
		up(t, c, "n2", n) // 2, 4, 6
	}
	all := watching(t, c, bus.WatchConfig{})
	requireNext(t, all, "n1/0", "n2/0", "n1/1", "n2/1", "n1/2", "n2/2", "caught up")
	from := watching(t, c, bus.WatchConfig{From: 4})
	requireNext(t, from, "n2/1", "n1/2", "n2/2", "caught up")
	last := watching(t, c, bus.WatchConfig{LastPerSubject: true})
	requireNext(t, last, "n1/2", "n2/2", "caught up")
	fresh := watching(t, c, bus.WatchConfig{New: true})
	requireNext(t, fresh, "caught up")
	one := watching(t, c, bus.WatchConfig{Filters: []string{events.NodeReports(tb, "n2"), events.NodeReports(tb, "n3")}})
	requireNext(t, one, "n2/0", "n2/1", "n2/2", "caught up")
	none := watching(t, c, bus.WatchConfig{Filters: []string{events.NodeReports(tb, "n3")}})
	requireNext(t, none, "caught up")
	future := watching(t, c, bus.WatchConfig{From: 8})
	requireNext(t, future, "caught up")

	up(t, c, "n1", 3) // 7
	up(t, c, "n3", 0) // 8
	requireNext(t, all, "n1/3", "n3/0")
	requireNext(t, from, "n1/3", "n3/0")
	requireNext(t, last, "n1/3", "n3/0")
	requireNext(t, fresh, "n1/3", "n3/0")
	requireNext(t, one, "n3/0")
	requireNext(t, none, "n3/0")
	requireNext(t, future, "n3/0")
}

// TestWatchRestart restarts the server under watches that began in different
// ways, publishing before, during and after: nothing is missed or repeated.
func TestWatchRestart(t *testing.T) {
	h := bustest.Start(t)
	pub, sub := h.Connect(t), h.Connect(t)
	up(t, pub, "n1", 0)
	all := watching(t, sub, bus.WatchConfig{})
	requireNext(t, all, "n1/0", "caught up")
	fresh := watching(t, sub, bus.WatchConfig{New: true})
	requireNext(t, fresh, "caught up")
	last := watching(t, sub, bus.WatchConfig{LastPerSubject: true})
	requireNext(t, last, "n1/0", "caught up")
	seen := 1
	for n := 1; n < 7; n += 2 {
		h.Stop()
		done := make(chan struct{})
		go func() { // waits for the server
			up(t, pub, "n1", n)
			close(done)
		}()
		h.Resume()
		take(t, done)
		up(t, pub, "n1", n+1)
		// A report whose acknowledgement was lost is published, and stored,
		// again: the stream says what there is to be seen.
		stored := bustest.All(t, pub, bus.StreamReports, events.AllReports)
		require.GreaterOrEqual(t, len(stored), seen+2)
		for _, m := range stored[seen:] {
			d, err := events.Decode(m.Event)
			require.NoError(t, err)
			for _, w := range []<-chan string{all, fresh, last} {
				requireNext(t, w, fmt.Sprintf("n1/%d", d.(events.Up).Attempt))
			}
		}
		seen = len(stored)
	}
	for _, w := range []<-chan string{all, fresh, last} {
		require.Empty(t, w)
	}
}

// TestWatchMany reads more than one request for messages brings, through a
// restart in the middle.
func TestWatchMany(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job := newID(t)
	const n = 700
	recs := make([]bus.Record, n)
	for i := range recs {
		recs[i] = nodeFact(t, job, fmt.Sprint("n", i), "/a", 1)
	}
	_, err := c.Append(ctx, events.JobFacts(tb, job), 0, recs...)
	require.NoError(t, err)
	got := 0
	err = c.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{events.JobFacts(tb, job)}}, func(m bus.Message) error {
		require.Equal(t, uint64(got+1), m.Seq)
		if got++; got == n/2 {
			h.Restart()
		}
		if got == n {
			return bus.ErrStop
		}
		return nil
	})
	require.NoError(t, err)
}

// TestWatchEvicted has messages pushed out while they are being read: a watch
// that counted them must not wait for them.
func TestWatchEvicted(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	for n := range 3 {
		up(t, c, fmt.Sprint("n", n), 0)
	}
	caughtUp := make(chan struct{})
	wctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	got := 0
	go func() {
		done <- c.Watch(wctx, bus.WatchConfig{Stream: bus.StreamReports, CaughtUp: func() { close(caughtUp) }}, func(bus.Message) error {
			got++
			s, err := c.JetStream().Stream(wctx, bus.StreamReports)
			if err != nil {
				return err
			}
			return s.Purge(wctx)
		})
	}()
	take(t, caughtUp)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.GreaterOrEqual(t, got, 1)
}

// TestWatchStreamReplaced puts another stream under the same name.
func TestWatchStreamReplaced(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	w := watching(t, c, bus.WatchConfig{})
	requireNext(t, w, "caught up")
	for n := range 3 {
		up(t, c, "n1", n)
	}
	requireNext(t, w, "n1/0", "n1/1", "n1/2")
	require.NoError(t, c.JetStream().DeleteStream(ctx, bus.StreamReports))
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	up(t, c, "n1", 10)
	requireNext(t, w, "n1/10")
}

func TestWatchEnds(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	up(t, c, "n1", 0)
	trouble := errors.New("trouble")
	cfg := bus.WatchConfig{Stream: bus.StreamReports}
	require.ErrorIs(t, c.Watch(ctx, cfg, func(bus.Message) error { return trouble }), trouble)
	require.NoError(t, c.Watch(ctx, cfg, func(bus.Message) error { return fmt.Errorf("enough: %w", bus.ErrStop) }))
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Watch(short, cfg, func(bus.Message) error { return nil }), context.DeadlineExceeded)
	// Not on a work queue, and not for a node.
	require.ErrorContains(t, c.Watch(ctx, bus.WatchConfig{Stream: bus.StreamRequests}, nil), "explicit ack")
	err := h.ConnectNode(t, "n1-1").Watch(ctx, cfg, nil)
	require.ErrorIs(t, err, bus.ErrDenied)
	// Nothing stays behind on the server.
	s, err := c.JetStream().Stream(ctx, bus.StreamReports)
	require.NoError(t, err)
	require.Zero(t, s.CachedInfo().State.Consumers)
}

func TestSubscribe(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	seen := make(chan bus.Message, 4)
	stop, err := c.Subscribe(ctx, events.AllTelemetry, func(m bus.Message) { seen <- m })
	require.NoError(t, err)
	p := events.Progress{NodeRef: events.NodeRef{Node: "n1-1"}, Percent: 40}
	require.NoError(t, c.Emit(ctx, events.ProgressSubject(tb, "j", "n1-1"), made(t, "i", "/a", p)))
	m := take(t, seen)
	require.NoError(t, m.Err)
	require.Equal(t, "n1-1", m.Address.Node)
	stop()
	require.NoError(t, c.Emit(ctx, events.ProgressSubject(tb, "j", "n1-1"), made(t, "i", "/a", p)))
	require.NoError(t, c.NATS().FlushWithContext(ctx))
	require.Empty(t, seen)
	// Emitted telemetry is stored all the same: some time after the server has it.
	stored := 0
	require.NoError(t, c.Watch(ctx, bus.WatchConfig{Stream: bus.StreamTelemetry}, func(bus.Message) error {
		if stored++; stored == 2 {
			return bus.ErrStop
		}
		return nil
	}))
}
