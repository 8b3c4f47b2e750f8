package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestConnectUnreachable(t *testing.T) {
	ctx := within(t)
	_, err := bus.Connect(ctx, bus.Config{URLs: []string{"nats://127.0.0.1:1"}, Timeout: 200 * time.Millisecond})
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.ErrorContains(t, err, "nats://127.0.0.1:1")
	require.True(t, bus.IsTransient(err))
	require.NoError(t, ctx.Err(), "it waited for no more than its timeout")
	wctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = bus.Connect(wctx, bus.Config{URLs: []string{"nats://127.0.0.1:1"}, Wait: true, Timeout: time.Nanosecond})
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.Error(t, wctx.Err(), "it waited until the context ended")
}

// TestConnectWait begins to connect before the server runs, as agents do.
func TestConnectWait(t *testing.T) {
	h := bustest.Start(t)
	cr := h.Server().ServiceCredential()
	h.Stop()
	states := make(chan bool, 16)
	done := make(chan *bus.Conn, 1)
	go func() {
		c, err := bus.Connect(within(t), bus.Config{InProcess: h, Credential: &cr, Wait: true, OnState: func(up bool) { states <- up }})
		if err != nil {
			close(done)
			return
		}
		done <- c
	}()
	h.Resume()
	c := take(t, done)
	require.NotNil(t, c)
	require.True(t, take(t, states))
	h.Stop()
	require.False(t, take(t, states))
	h.Resume()
	require.True(t, take(t, states))
	c.Close()
	require.False(t, take(t, states))
	require.Empty(t, states)

	// After Close everything ends at once: there is nothing to wait for.
	ctx := within(t)
	_, err := c.Publish(ctx, events.ReportSubject(tb, "n", events.KindUp), report(t, "n"))
	require.ErrorIs(t, err, bus.ErrUnreachable)
	_, err = c.Append(ctx, events.JobFacts(tb, "j"), 0, nodeFact(t, "j", "n", "/a", 1), nodeFact(t, "j", "m", "/a", 1))
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.ErrorIs(t, c.Consume(ctx, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d"}, func(context.Context, bus.Message) error { return nil }), bus.ErrUnreachable)
	require.ErrorIs(t, c.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts}, nil), bus.ErrUnreachable)
	require.ErrorIs(t, c.Request(ctx, "x", nil, nil), bus.ErrUnreachable)
	require.ErrorContains(t, c.AwaitStreams(ctx), "closed")
	require.ErrorContains(t, c.Emit(ctx, "x", report(t, "n")), "closed")
	_, err = c.Serve(ctx, bus.ServiceConfig{Name: "x"})
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.NoError(t, ctx.Err())
	c.Close()
}

// TestPublishRestart has reports retained while the server is away.
func TestPublishRestart(t *testing.T) {
	h := bustest.Start(t)
	c := h.ConnectNode(t, "n1-1")
	h.Stop()
	done := make(chan error, 1)
	go func() {
		_, err := c.Publish(within(t), events.ReportSubject(tb, "n1-1", events.KindUp), report(t, "n1-1"))
		done <- err
	}()
	h.Resume()
	require.NoError(t, take(t, done))
	bustest.AwaitReport(t, h.Connect(t), "n1-1", events.KindUp)
}

// TestPublishAckLost stores an event whose acknowledgement is lost: facts and
// requests are there once, whatever the publisher had to do.
func TestPublishAckLost(t *testing.T) {
	h := bustest.Start(t)
	wire, observer := &muted{h: h}, h.Connect(t)
	c := wire.connect(t)
	_, r := request(t, "x")
	wire.muteAfter(r.Subject)
	done := make(chan error, 1)
	acks := make(chan bus.Ack, 1)
	go func() {
		ack, err := c.Publish(within(t), r.Subject, r.Event)
		acks <- ack
		done <- err
	}()
	require.Eventually(t, func() bool {
		_, err := observer.Get(within(t), bus.StreamRequests, 1)
		return err == nil
	}, bustest.Patience, 5*time.Millisecond)
	wire.cut(t)
	require.NoError(t, take(t, done))
	require.Equal(t, bus.Ack{Stream: bus.StreamRequests, Seq: 1, Duplicate: true}, take(t, acks))
}

func TestPublishRefused(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	// Larger than the stream of reports takes: at once, and for good.
	d := events.Up{NodeRef: events.NodeRef{Node: "n"}, Agent: string(make([]byte, 70<<10))}
	_, err := c.Publish(ctx, events.ReportSubject(tb, "n", events.KindUp), made(t, "i", "/a", d))
	var api *jetstream.APIError
	require.ErrorAs(t, err, &api)
	require.False(t, bus.IsTransient(err))
	require.NoError(t, ctx.Err())
}

func TestStreamsAreRepeatable(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{RequestAge: time.Hour}))
	require.NoError(t, c.AwaitStreams(ctx))
	s, err := c.JetStream().Stream(ctx, bus.StreamRequests)
	require.NoError(t, err)
	require.Equal(t, time.Hour, s.CachedInfo().Config.MaxAge)
	s, err = c.JetStream().Stream(ctx, bus.StreamTelemetry)
	require.NoError(t, err)
	require.Equal(t, jetstream.AsyncPersistMode, s.CachedInfo().Config.PersistMode)
	require.NoError(t, c.JetStream().DeleteStream(ctx, bus.StreamSetAside))
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.AwaitStreams(short), bus.StreamSetAside)
	done := make(chan error, 1)
	go func() { done <- c.AwaitStreams(ctx) }()
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	require.NoError(t, take(t, done))
}

func TestMemoryStreams(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	for _, name := range bus.Streams() {
		require.NoError(t, c.JetStream().DeleteStream(ctx, name))
	}
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{Memory: true}))
	job := newID(t)
	_, err := c.Append(ctx, events.JobFacts(tb, job), 0, nodeFact(t, job, "a", "/a", 1), nodeFact(t, job, "b", "/a", 1))
	require.NoError(t, err)
}

// TestReportsBounded floods one subject: its last reports stay, and those of
// others too.
func TestReportsBounded(t *testing.T) {
	h := bustest.Start(t)
	c := h.Connect(t)
	up(t, c, "quiet", 0)
	for n := range 50 {
		up(t, c, "loud", n)
	}
	require.Len(t, bustest.All(t, c, bus.StreamReports, events.NodeReports(tb, "quiet")), 1)
	loud := bustest.All(t, c, bus.StreamReports, events.NodeReports(tb, "loud"))
	require.Len(t, loud, 16)
	d, err := events.Decode(loud[15].Event)
	require.NoError(t, err)
	require.Equal(t, 49, d.(events.Up).Attempt)
}

func TestIsTransient(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("anything"), true},
		{context.DeadlineExceeded, true},
		{bus.ErrUnreachable, true},
		{bus.ErrNoResponders, true},
		{bus.ErrConflict, true},
		{bus.ErrDuplicate, false},
		{bus.ErrDenied, false},
		{bus.ErrUndecodable, false},
		{bus.ErrTooLarge, false},
		{nats.ErrMaxPayload, false},
		{bus.Permanent(nil), false},
		{bus.Permanent(bus.ErrUnreachable), false},
		{bus.Retry(0, nil), true},
		{bus.Retry(0, bus.ErrDenied), true},
		{&events.Error{Code: events.CodeImage}, false},
		{&events.Error{Code: events.CodeFailed, Retryable: true}, true},
		{&events.Error{Code: events.CodeUnavailable}, true},
		{&jetstream.APIError{Code: 400}, false},
		{&jetstream.APIError{Code: 503}, true},
		{&jetstream.APIError{Code: 500, ErrorCode: 10009}, true},  // not the leader
		{&jetstream.APIError{Code: 500, ErrorCode: 10052}, false}, // configuration
		{&jetstream.APIError{Code: 400, ErrorCode: 10005}, true},  // no peers yet
		{&jetstream.APIError{Code: 429}, true},
	} {
		require.Equal(t, c.want, bus.IsTransient(c.err), "%v", c.err)
		if c.err != nil {
			require.Equal(t, c.want, bus.IsTransient(fmt.Errorf("load: %w", c.err)), "wrapped %v", c.err)
		}
	}
}
