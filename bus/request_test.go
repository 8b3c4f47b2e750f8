package bus_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func serve(t testing.TB, c *bus.Conn, cfg bus.ServiceConfig) *bus.Service {
	t.Helper()
	s, err := c.Serve(within(t), cfg)
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func endpoint(name string, handle func(context.Context, bus.Request) (any, error)) bus.Endpoint {
	return bus.Endpoint{Name: name, Subject: events.HandlerSubject(tb, name), Handle: handle}
}

func forms(t *testing.T, test func(t *testing.T, plain bool)) {
	for name, plain := range map[string]bool{"micro": false, "plain": true} {
		t.Run(name, func(t *testing.T) { test(t, plain) })
	}
}

func TestRequestAnswers(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c, ctx := h.Connect(t), within(t)
		refusal := &events.Error{Code: events.CodeLeased, Message: "node n1-1 is held", Job: "j", Hint: "omf job j", Retryable: true}
		serve(t, h.Connect(t), bus.ServiceConfig{Name: "s", Version: "1.2.3", Plain: plain, Endpoints: []bus.Endpoint{
			endpoint("echo", func(_ context.Context, r bus.Request) (any, error) {
				var q events.JobQuery
				if err := r.Decode(&q); err != nil {
					return nil, err
				}
				return q, nil
			}),
			endpoint("nothing", func(context.Context, bus.Request) (any, error) { return nil, nil }),
			endpoint("refuse", func(context.Context, bus.Request) (any, error) { return nil, fmt.Errorf("load: %w", refusal) }),
			endpoint("fail", func(context.Context, bus.Request) (any, error) { return nil, errors.New("a\r\nb: c") }),
			endpoint("huge", func(context.Context, bus.Request) (any, error) { return strings.Repeat("x", bus.MaxEventBytes), nil }),
			endpoint("odd", func(context.Context, bus.Request) (any, error) { return make(chan int), nil }),
		}})
		var q events.JobQuery
		require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "echo"), events.JobQuery{Job: "x"}, &q))
		require.Equal(t, "x", q.Job)
		require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "echo"), nil, &q))
		require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "nothing"), nil, nil))

		var remote *events.Error
		err := c.Request(ctx, events.HandlerSubject(tb, "refuse"), nil, nil)
		require.ErrorAs(t, err, &remote)
		require.Equal(t, events.CodeLeased, remote.Code)
		require.Equal(t, "load: node n1-1 is held", remote.Message)
		require.Equal(t, "omf job j", remote.Hint)
		require.True(t, bus.IsTransient(err))

		err = c.Request(ctx, events.HandlerSubject(tb, "fail"), nil, nil)
		require.ErrorAs(t, err, &remote)
		require.Equal(t, events.CodeInternal, remote.Code)
		require.Equal(t, "a\r\nb: c", remote.Message)
		require.False(t, bus.IsTransient(err))
		require.ErrorAs(t, c.Request(ctx, events.HandlerSubject(tb, "huge"), nil, nil), &remote)
		require.Contains(t, remote.Message, "too large")
		require.ErrorAs(t, c.Request(ctx, events.HandlerSubject(tb, "odd"), nil, nil), &remote)

		for _, bad := range []string{`[]`, `"x"`, `nonsense`, `{"job":1}`, strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)} {
			m, err := c.NATS().RequestWithContext(ctx, events.HandlerSubject(tb, "echo"), []byte(bad))
			require.NoError(t, err)
			require.Equal(t, string(events.CodeBadRequest), m.Header.Get(micro.ErrorCodeHeader), bad)
		}
		require.ErrorIs(t, c.Request(ctx, events.HandlerSubject(tb, "echo"), strings.Repeat("x", bus.MaxEventBytes), nil), bus.ErrTooLarge)

		err = c.Request(ctx, events.HandlerSubject(tb, "nobody"), nil, nil)
		require.ErrorIs(t, err, bus.ErrNoResponders)
		require.True(t, bus.IsTransient(err))
		require.NoError(t, ctx.Err(), "nobody is waited for")
	})
}

// unsent is an answer that looks, when it is put into words, whether it has gone
// out already.
type unsent struct{ answered <-chan struct{} }

func (l unsent) MarshalJSON() ([]byte, error) {
	select {
	case <-l.answered:
		return nil, errors.New("answered before there was an answer")
	default:
		return []byte(`{"job":"j"}`), nil
	}
}

// Whoever ends its connection for a request still answers it.
func TestAnswered(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c := h.Connect(t)
		for range 20 {
			mine := h.Connect(t)
			gone := make(chan struct{})
			serve(t, mine, bus.ServiceConfig{Name: "s", Version: "1.2.3", Plain: plain, Endpoints: []bus.Endpoint{
				endpoint("leave", func(_ context.Context, r bus.Request) (any, error) {
					go func() {
						defer close(gone)
						<-r.Answered()
						mine.Close()
					}()
					return unsent{r.Answered()}, nil
				}),
			}})
			var got events.JobQuery
			require.NoError(t, c.Request(within(t), events.HandlerSubject(tb, "leave"), nil, &got))
			require.Equal(t, "j", got.Job)
			<-gone
		}
		<-bus.Request{}.Answered() // of one that nobody sent
	})
}

// TestServeParallel proves that an endpoint handles several requests at once,
// as many as it has workers, and that Stop answers what it has taken.
func TestServeParallel(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c, ctx := h.Connect(t), within(t)
		entered := make(chan struct{}, 16)
		e := endpoint("wait", func(ctx context.Context, _ bus.Request) (any, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return events.Empty{}, nil
		})
		e.Workers = 3
		s := serve(t, h.Connect(t), bus.ServiceConfig{Name: "s", Plain: plain, Endpoints: []bus.Endpoint{e}})
		answers, err := c.NATS().SubscribeSync(c.NATS().NewInbox())
		require.NoError(t, err)
		for range 4 {
			require.NoError(t, c.NATS().PublishRequest(e.Subject, answers.Subject, nil))
		}
		require.NoError(t, c.NATS().FlushWithContext(ctx))
		for range 3 {
			take(t, entered)
		}
		require.Empty(t, entered, "no more than its workers")
		s.Stop()
		s.Stop()
		for range 4 {
			_, err := answers.NextMsgWithContext(ctx)
			require.NoError(t, err)
		}
		require.ErrorIs(t, c.Request(ctx, e.Subject, nil, nil), bus.ErrNoResponders)
	})
}

// TestServeQueue runs two instances: one answers, unless all are to.
func TestServeQueue(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c, ctx := h.Connect(t), within(t)
		answers := make(chan string, 64)
		for _, name := range []string{"a", "b"} {
			conn := h.Connect(t)
			handle := func(context.Context, bus.Request) (any, error) {
				answers <- name
				return nil, nil
			}
			serve(t, conn, bus.ServiceConfig{Name: "one", Plain: plain, Endpoints: []bus.Endpoint{endpoint("one", handle)}})
			serve(t, conn, bus.ServiceConfig{Name: "all", Plain: plain, NoQueue: true, Endpoints: []bus.Endpoint{endpoint("all", handle)}})
		}
		for range 20 {
			require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "one"), nil, nil))
		}
		require.Len(t, answers, 20)
		for range 20 {
			<-answers
		}
		require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "all"), nil, nil))
		require.NotEqual(t, take(t, answers), take(t, answers))
	})
}

func TestServeMonitoring(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	serve(t, c, bus.ServiceConfig{Name: "omf-handler", Version: "v1.0-dirty", Endpoints: []bus.Endpoint{
		endpoint("status", func(context.Context, bus.Request) (any, error) { return nil, nil }),
	}})
	var info micro.Info
	require.NoError(t, c.Request(ctx, "$SRV.INFO.omf-handler", nil, &info))
	require.Equal(t, "0.0.0", info.Version)
	require.Equal(t, events.HandlerSubject(tb, "status"), info.Endpoints[0].Subject)
}

// TestServeWhole asks for the first of many endpoints while they are made:
// when it answers, all do.
func TestServeWhole(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c, s, ctx := h.Connect(t), h.Connect(t), within(t)
		var all []bus.Endpoint
		for i := range 100 {
			all = append(all, endpoint("e"+strconv.Itoa(i), func(context.Context, bus.Request) (any, error) { return nil, nil }))
		}
		asked := make(chan error, 1)
		go func() {
			for c.Request(ctx, events.HandlerSubject(tb, "e0"), nil, nil) != nil && ctx.Err() == nil {
				runtime.Gosched()
			}
			asked <- c.Request(ctx, events.HandlerSubject(tb, "e99"), nil, nil)
		}()
		serve(t, s, bus.ServiceConfig{Name: "s", Plain: plain, Endpoints: all})
		require.NoError(t, take(t, asked))
	})
}

// TestServeRestart has services answer again after a restart of the server.
func TestServeRestart(t *testing.T) {
	forms(t, func(t *testing.T, plain bool) {
		h := bustest.Start(t)
		c, s, ctx := h.Connect(t), h.Connect(t), within(t)
		serve(t, s, bus.ServiceConfig{Name: "s", Plain: plain, Endpoints: []bus.Endpoint{
			endpoint("x", func(context.Context, bus.Request) (any, error) { return nil, nil }),
		}})
		require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "x"), nil, nil))
		h.Stop()
		done := make(chan error, 1)
		go func() {
			for { // the service may come back after the client
				err := c.Request(ctx, events.HandlerSubject(tb, "x"), nil, nil)
				if err == nil || !bus.IsTransient(err) || ctx.Err() != nil {
					done <- err
					return
				}
			}
		}()
		h.Resume()
		require.NoError(t, take(t, done))
	})
}

// TestRequestLost breaks the connection while a request is under way: the
// caller learns of it at once and may ask again.
func TestRequestLost(t *testing.T) {
	h := bustest.Start(t)
	wire, other, ctx := &muted{h: h}, h.Connect(t), within(t)
	c := wire.connect(t)
	entered := make(chan struct{}, 4)
	serve(t, other, bus.ServiceConfig{Name: "s", Endpoints: []bus.Endpoint{
		endpoint("x", func(context.Context, bus.Request) (any, error) {
			entered <- struct{}{}
			return nil, nil
		}),
	}})
	wire.muteAfter(events.HandlerSubject(tb, "x"))
	done := make(chan error, 1)
	go func() { done <- c.Request(ctx, events.HandlerSubject(tb, "x"), nil, nil) }()
	take(t, entered)
	wire.cut(t)
	err := take(t, done)
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.True(t, bus.IsTransient(err))
	require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, "x"), nil, nil))
}

// TestRequestForeign reads answers of those who do not speak our way.
func TestRequestForeign(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	answer := func(subject string, m *nats.Msg) {
		_, err := c.NATS().Subscribe(subject, func(r *nats.Msg) { _ = r.RespondMsg(m) })
		require.NoError(t, err)
	}
	answer("x.code", &nats.Msg{Header: nats.Header{"nats-service-error-code": {"500"}}})
	answer("x.text", &nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"busy"}, "Nats-Service-Error": {"no time"}}, Data: []byte("??")})
	answer("x.bad", &nats.Msg{Data: []byte("??")})
	var remote *events.Error
	require.ErrorAs(t, c.Request(ctx, "x.code", nil, nil), &remote)
	require.Equal(t, events.Error{Code: "500", Message: "refused with code 500"}, *remote)
	err := c.Request(ctx, "x.text", nil, nil)
	require.ErrorAs(t, err, &remote)
	require.Equal(t, "no time", remote.Message)
	require.True(t, bus.IsTransient(err))
	var v events.Empty
	require.ErrorContains(t, c.Request(ctx, "x.bad", nil, &v), "not valid JSON")
	// Publishing where somebody else answers is not taken for stored.
	answer("x.ack", &nats.Msg{Data: []byte(`{}`)})
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = c.Publish(short, "x.ack", report(t, "n1-1"))
	require.ErrorContains(t, err, "without a stream")
}
