package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestRoundTrip goes once through everything that a job needs of the bus.
func TestRoundTrip(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	require.NoError(t, c.AwaitStreams(ctx))

	job := newID(t)
	_, err := c.Publish(ctx, events.RequestSubject(tb, events.VerbLoad),
		made(t, job, "/cli", events.LoadRequest{Nodes: "[1,1]", Image: "a.ndz"}))
	require.NoError(t, err)

	cctx, stop := context.WithCancel(ctx)
	var got bus.Message
	require.NoError(t, c.Consume(cctx, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "handler"}, func(_ context.Context, m bus.Message) error {
		got = m
		stop()
		return nil
	}))
	require.NoError(t, got.Err)
	require.Equal(t, job, got.Event.ID())
	require.Equal(t, events.VerbLoad, got.Address.Verb)

	last, err := c.Append(ctx, events.JobFacts(tb, job), 0,
		fact(t, job, "/h", events.JobRequested{Job: job}), fact(t, job, "/h", events.JobAccepted{Job: job}))
	require.NoError(t, err)
	require.Equal(t, uint64(2), last)
	_, d := bustest.AwaitFact(t, c, events.JobFacts(tb, job), events.KindJobAccepted)
	require.Equal(t, job, d.(events.JobAccepted).Job)
	m, err := c.Last(ctx, bus.StreamFacts, events.JobFacts(tb, job))
	require.NoError(t, err)
	require.Equal(t, last, m.Seq)

	_, err = c.Serve(ctx, bus.ServiceConfig{Name: "omf-handler", Version: "dev", Endpoints: []bus.Endpoint{{
		Name: "job", Subject: events.HandlerSubject(tb, events.HandlerJob),
		Handle: func(_ context.Context, r bus.Request) (any, error) {
			var q events.JobQuery
			if err := r.Decode(&q); err != nil {
				return nil, err
			}
			return events.JobDetail{JobSummary: events.JobSummary{Job: q.Job}}, nil
		},
	}}})
	require.NoError(t, err)
	var detail events.JobDetail
	require.NoError(t, c.Request(ctx, events.HandlerSubject(tb, events.HandlerJob), events.JobQuery{Job: job}, &detail))
	require.Equal(t, job, detail.Job)

	require.NoError(t, c.Schedule(ctx, tb, job, time.Now()))
	cctx, stop = context.WithCancel(ctx)
	require.NoError(t, c.Consume(cctx, bus.ConsumeConfig{Stream: bus.StreamTimers, Durable: "due", Filters: []string{events.AllDue}}, func(_ context.Context, m bus.Message) error {
		got = m
		stop()
		return nil
	}))
	require.Equal(t, job, got.Address.Job)
	require.NoError(t, got.Err)
}
