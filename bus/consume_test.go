package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func request(t testing.TB, nodes string) (id string, r bus.Record) {
	t.Helper()
	id = newID(t)
	return id, bus.Record{
		Subject: events.RequestSubject(tb, events.VerbLoad),
		Event:   made(t, id, "/cli", events.LoadRequest{Nodes: nodes, Image: "a.ndz"}),
	}
}

// consuming runs a consumer until stop is called, which waits for its end.
func consuming(t testing.TB, c *bus.Conn, cfg bus.ConsumeConfig, handle func(context.Context, bus.Message) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Consume(ctx, cfg, handle) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return stop
}

// take waits for the next value of a channel.
func take[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(bustest.Patience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// emptied waits until a work queue holds nothing.
func emptied(t testing.TB, c *bus.Conn, stream string) {
	t.Helper()
	require.EventuallyWithT(t, func(ct *assertT) {
		s, err := c.JetStream().Stream(context.Background(), stream)
		require.NoError(ct, err)
		require.Zero(ct, s.CachedInfo().State.Msgs)
	}, bustest.Patience, 10*time.Millisecond)
}

func TestConsumeOutcomes(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	const again = 150 * time.Millisecond
	type call struct {
		delivered int
		at        time.Time
	}
	calls := make(map[string][]call)
	var mu sync.Mutex
	done := make(chan struct{}, 16)
	consuming(t, c, bus.ConsumeConfig{
		Stream: bus.StreamRequests, Durable: "handler", Backoff: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond},
	}, func(_ context.Context, m bus.Message) error {
		d, err := events.Decode(m.Event)
		if err != nil {
			return err
		}
		what := d.(events.LoadRequest).Nodes
		mu.Lock()
		calls[what] = append(calls[what], call{m.Delivered, time.Now()})
		n := len(calls[what])
		mu.Unlock()
		switch {
		case what == "retry" && n == 1:
			return fmt.Errorf("wrapped: %w", bus.Retry(again, errors.New("later")))
		case what == "plain" && n < 4:
			return errors.New("trouble")
		case what == "permanent":
			defer func() { done <- struct{}{} }()
			return fmt.Errorf("wrapped: %w", bus.Permanent(errors.New("line one\nline two")))
		}
		done <- struct{}{}
		return nil
	})
	for _, what := range []string{"ok", "retry", "plain", "permanent"} {
		_, r := request(t, what)
		_, err := c.Publish(ctx, r.Subject, r.Event)
		require.NoError(t, err)
	}
	for range 4 {
		take(t, done)
	}
	emptied(t, c, bus.StreamRequests)

	mu.Lock()
	defer mu.Unlock()
	require.Len(t, calls["ok"], 1)
	require.Len(t, calls["retry"], 2)
	require.GreaterOrEqual(t, calls["retry"][1].at.Sub(calls["retry"][0].at), again)
	require.Equal(t, 2, calls["retry"][1].delivered)
	require.Len(t, calls["plain"], 4)
	for i, want := range []time.Duration{20, 40, 40} {
		require.GreaterOrEqual(t, calls["plain"][i+1].at.Sub(calls["plain"][i].at), want*time.Millisecond*8/10)
	}
	require.Len(t, calls["permanent"], 1)

	// What was set aside is kept whole, with the reason, beside the advisory.
	copied := bustest.Await(t, c, bus.StreamSetAside, events.SetAsideSubject(bus.StreamRequests), nil)
	require.NoError(t, copied.Err)
	d, err := events.Decode(copied.Event)
	require.NoError(t, err)
	require.Equal(t, "permanent", d.(events.LoadRequest).Nodes)
	require.Equal(t, events.RequestSubject(tb, events.VerbLoad), copied.Header.Get(bus.HeaderAsideSubject))
	require.Equal(t, bus.StreamRequests, copied.Header.Get(bus.HeaderAsideStream))
	require.Equal(t, "4", copied.Header.Get(bus.HeaderAsideSequence))
	require.Equal(t, "handler", copied.Header.Get(bus.HeaderAsideConsumer))
	require.Equal(t, "wrapped: line one line two", copied.Header.Get(bus.HeaderAsideReason))
	advisory := bustest.Await(t, c, bus.StreamSetAside, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", nil)
	require.Contains(t, string(advisory.Raw), "line one line two")
	s := c.Stats()
	require.Equal(t, uint64(3), s.Consumed)
	require.Equal(t, uint64(4), s.Retried)
	require.Equal(t, uint64(1), s.SetAside)
}

// TestConsumeGarbage floods every stored tree with what is no event, between
// good ones: it is set aside once each, and holds nothing up.
func TestConsumeGarbage(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	garbage := [][]byte{nil, {}, []byte("nonsense"), {0xff, 0xfe, 0}, []byte(`{"specversion":"1.0"}`), []byte(`[1,2]`), []byte(`{"specversion":"9"`)}
	trees := []struct{ stream, subject, odd string }{
		{bus.StreamRequests, events.RequestSubject(tb, events.VerbLoad), "omf.v1.req.Un_known.x.y"},
		{bus.StreamReports, events.ReportSubject(tb, "n1-1", events.KindUp), "omf.v1.rpt.x"},
		{bus.StreamFacts, events.JobFactSubject(tb, "j", events.KindJobRequested), "omf.v1.evt.x"},
		{bus.StreamTelemetry, events.ProgressSubject(tb, "j", "n1-1"), "omf.v1.tlm.x"},
	}
	want := 0
	for _, tree := range trees {
		for i, data := range garbage {
			for _, subject := range []string{tree.subject, tree.odd} {
				if tree.stream == bus.StreamTelemetry && i >= 3 {
					continue // keeps the last four of a subject only
				}
				m := nats.NewMsg(subject)
				m.Data = data
				if i%2 == 1 {
					m.Header.Set("ce-specversion", "1.0")
					m.Header.Set("Content-Type", "application/cloudevents+json; charset=\xff")
				}
				_, err := c.JetStream().PublishMsg(ctx, m)
				require.NoError(t, err)
				want++
			}
		}
	}
	good := made(t, newID(t), "/good", events.CancelRequest{Job: "j"})
	seen := make(chan string, len(trees))
	var handled atomic.Int64
	for _, tree := range trees {
		_, err := c.Publish(ctx, tree.odd, good)
		require.NoError(t, err)
		consuming(t, c, bus.ConsumeConfig{Stream: tree.stream, Durable: "d", Workers: 2, Key: func(m bus.Message) string { return m.Subject }},
			func(_ context.Context, m bus.Message) error {
				handled.Add(1)
				if m.Err == nil && m.Plain == nil && m.Event.Source() == "/good" {
					seen <- m.Stream
					return nil
				}
				require.ErrorIs(t, m.Err, bus.ErrUndecodable)
				return m.Err
			})
	}
	got := make(map[string]bool)
	for range trees {
		got[take(t, seen)] = true
	}
	require.Len(t, got, len(trees))
	require.EventuallyWithT(t, func(ct *assertT) {
		require.Equal(ct, uint64(want), c.Stats().SetAside)
	}, bustest.Patience, 10*time.Millisecond)
	require.Equal(t, int64(want+len(trees)), handled.Load(), "each is handled once")
	require.Equal(t, uint64(want), c.Stats().Undecodable)
	require.Zero(t, c.Stats().Retried)
	require.Len(t, bustest.All(t, c, bus.StreamSetAside, events.AllSetAside), want)
	require.EventuallyWithT(t, func(ct *assertT) {
		require.Len(ct, bustest.All(t, c, bus.StreamSetAside, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"), want)
	}, bustest.Patience, 50*time.Millisecond)
}

// TestConsumeOrder has many workers handle the messages of many keys, some of
// which fail at first: each key stays in order.
func TestConsumeOrder(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	const keys, each = 8, 16 // of each subject, the stream keeps the last 16
	for i := range each {
		for k := range keys {
			node := fmt.Sprintf("n%d", k)
			_, err := c.Publish(ctx, events.ReportSubject(tb, node, events.KindUp),
				made(t, newID(t), "/x", events.Up{NodeRef: events.NodeRef{Node: node, Attempt: i}}))
			require.NoError(t, err)
		}
	}
	var mu sync.Mutex
	order := make(map[string][]int)
	busy := make(map[string]bool)
	var parallel, most int
	done := make(chan struct{}, keys*each)
	together := make(chan struct{})
	consuming(t, c, bus.ConsumeConfig{
		Stream: bus.StreamReports, Durable: "d", Workers: 4,
		Key:     func(m bus.Message) string { return m.Address.Node },
		Backoff: []time.Duration{10 * time.Millisecond},
	}, func(_ context.Context, m bus.Message) error {
		d, err := events.Decode(m.Event)
		require.NoError(t, err)
		up := d.(events.Up)
		mu.Lock()
		require.False(t, busy[up.Node], "two of one key at once")
		busy[up.Node] = true
		parallel++
		most = max(most, parallel)
		if most == 4 && parallel == 4 {
			select {
			case <-together:
			default:
				close(together)
			}
		}
		mu.Unlock()
		select { // the first four wait for each other: workers are really parallel
		case <-together:
		case <-time.After(bustest.Patience):
		}
		mu.Lock()
		defer mu.Unlock()
		busy[up.Node] = false
		parallel--
		if up.Attempt%5 == 3 && m.Delivered < 3 {
			return errors.New("not yet")
		}
		order[up.Node] = append(order[up.Node], up.Attempt)
		done <- struct{}{}
		return nil
	})
	for range keys * each {
		take(t, done)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 4, most)
	require.Len(t, order, keys)
	for node, got := range order {
		for i, n := range got {
			require.Equal(t, i, n, "order of %s: %v", node, got)
		}
	}
}

// TestConsumeSlowHandler has a handler that works for several times the time
// after which a silent instance loses its messages, with others waiting
// behind it for the only worker: nothing is delivered twice.
func TestConsumeSlowHandler(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	const wait = 300 * time.Millisecond
	for range 3 {
		_, r := request(t, "x")
		_, err := c.Publish(ctx, r.Subject, r.Event)
		require.NoError(t, err)
	}
	deliveries := make(chan int, 16)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d", Workers: 1, AckWait: wait}, func(ctx context.Context, m bus.Message) error {
		select {
		case <-time.After(3 * wait): // work, longer than AckWait
		case <-ctx.Done():
		}
		deliveries <- m.Delivered
		return nil
	})
	for range 3 {
		require.Equal(t, 1, take(t, deliveries))
	}
	emptied(t, c, bus.StreamRequests)
	require.Empty(t, deliveries)
}

// TestConsumeTakeover stops an instance while it holds messages: another one
// gets them without waiting for AckWait, and none is lost.
func TestConsumeTakeover(t *testing.T) {
	h := bustest.Start(t)
	a, b, ctx := h.Connect(t), h.Connect(t), within(t)
	const n = 20
	for range n {
		_, r := request(t, "x")
		_, err := a.Publish(ctx, r.Subject, r.Event)
		require.NoError(t, err)
	}
	cfg := bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d", Workers: 1, AckWait: time.Hour}
	entered := make(chan struct{}, n)
	stop := consuming(t, a, cfg, func(ctx context.Context, _ bus.Message) error {
		entered <- struct{}{}
		<-ctx.Done()
		return bus.Retry(0, ctx.Err())
	})
	take(t, entered)
	stop()
	seen := make(chan string, 2*n)
	consuming(t, b, cfg, func(_ context.Context, m bus.Message) error {
		seen <- m.Event.ID()
		return nil
	})
	got := make(map[string]bool)
	for range n {
		got[take(t, seen)] = true
	}
	require.Len(t, got, n)
	emptied(t, b, bus.StreamRequests)
}

// TestConsumeRestart restarts the server again and again while requests are
// published and consumed: each one is handled.
func TestConsumeRestart(t *testing.T) {
	h := bustest.Start(t)
	pub, sub, ctx := h.Connect(t), h.Connect(t), within(t)
	const n = 60
	var mu sync.Mutex
	got := make(map[string]int)
	all := make(chan struct{})
	consuming(t, sub, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d", AckWait: time.Second}, func(_ context.Context, m bus.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if got[m.Event.ID()]++; len(got) == n && got[m.Event.ID()] == 1 {
			close(all)
		}
		return nil
	})
	published := make(chan error, 1)
	half := make(chan struct{})
	go func() {
		for i := range n {
			_, r := request(t, fmt.Sprint(i))
			if _, err := pub.Publish(ctx, r.Subject, r.Event); err != nil {
				published <- err
				return
			}
			if i == n/3 || i == 2*n/3 {
				half <- struct{}{}
			}
		}
		published <- nil
	}()
	for range 2 {
		take(t, half)
		h.Restart()
	}
	require.NoError(t, take(t, published))
	take(t, all)
	emptied(t, sub, bus.StreamRequests)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, got, n)
}

// TestConsumeExhausted uses up the deliveries of a message: the server says
// so on OMF_DLQ, and the others go on.
func TestConsumeExhausted(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	ack, err := c.Publish(ctx, events.ReportSubject(tb, "n1-1", events.KindUp), report(t, "n1-1"))
	require.NoError(t, err)
	_, err = c.Publish(ctx, events.ReportSubject(tb, "n1-2", events.KindUp), report(t, "n1-2"))
	require.NoError(t, err)
	var tries atomic.Int64
	other := make(chan struct{}, 1)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamReports, Durable: "d", MaxDeliver: 3, AckWait: time.Second, Backoff: []time.Duration{10 * time.Millisecond}},
		func(_ context.Context, m bus.Message) error {
			if m.Address.Node == "n1-1" {
				tries.Add(1)
				return errors.New("no")
			}
			other <- struct{}{}
			return nil
		})
	take(t, other)
	m := bustest.Await(t, c, bus.StreamSetAside, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", nil)
	var advisory struct {
		Stream     string `json:"stream"`
		Seq        uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
	}
	require.NoError(t, json.Unmarshal(m.Raw, &advisory))
	require.Equal(t, bus.StreamReports, advisory.Stream)
	require.Equal(t, ack.Seq, advisory.Seq)
	require.Equal(t, int64(3), tries.Load())
	kept, err := c.Get(ctx, bus.StreamReports, advisory.Seq)
	require.NoError(t, err)
	require.Equal(t, "n1-1", kept.Address.Node)
}

// TestConsumeBeforeStream begins to consume before anybody made the streams.
func TestConsumeBeforeStream(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	require.NoError(t, c.JetStream().DeleteStream(ctx, bus.StreamRequests))
	seen := make(chan string, 1)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d"}, func(_ context.Context, m bus.Message) error {
		seen <- m.Event.ID()
		return nil
	})
	// Publishing waits for the stream as well.
	id, r := request(t, "x")
	done := make(chan error, 1)
	go func() {
		_, err := c.Publish(ctx, r.Subject, r.Event)
		done <- err
	}()
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	require.NoError(t, take(t, done))
	require.Equal(t, id, take(t, seen))
}

// TestConsumeConsumerDeleted deletes the durable under a running consumer.
func TestConsumeConsumerDeleted(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	seen := make(chan string, 4)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d"}, func(_ context.Context, m bus.Message) error {
		seen <- m.Event.ID()
		return nil
	})
	for range 2 {
		id, r := request(t, "x")
		_, err := c.Publish(ctx, r.Subject, r.Event)
		require.NoError(t, err)
		require.Equal(t, id, take(t, seen))
		emptied(t, c, bus.StreamRequests) // acknowledged
		require.NoError(t, c.JetStream().DeleteConsumer(ctx, bus.StreamRequests, "d"))
	}
}

func TestConsumeRefusals(t *testing.T) {
	h := bustest.Start(t)
	ctx := within(t)
	ok := func(context.Context, bus.Message) error { return nil }
	c := h.Connect(t)
	require.ErrorContains(t, c.Consume(ctx, bus.ConsumeConfig{Stream: bus.StreamFacts}, ok), "required")
	var api *jetstream.APIError
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "one"}, ok)
	require.EventuallyWithT(t, func(ct *assertT) {
		_, err := c.JetStream().Consumer(ctx, bus.StreamRequests, "one")
		require.NoError(ct, err)
	}, bustest.Patience, 10*time.Millisecond)
	// A work queue has one consumer for each subject.
	require.ErrorAs(t, c.Consume(ctx, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "two"}, ok), &api)
	node := h.ConnectNode(t, "n1-1")
	require.ErrorIs(t, node.Consume(ctx, bus.ConsumeConfig{Stream: bus.StreamFacts, Durable: "d"}, ok), bus.ErrDenied)
}
