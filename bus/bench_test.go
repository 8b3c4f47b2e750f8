package bus_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// BenchmarkPublishConsume is one event after the other through the store: each
// is synced, acknowledged, delivered and settled before the next.
func BenchmarkPublishConsume(b *testing.B) {
	h := bustest.Start(b)
	pub, sub := h.Connect(b), h.Connect(b)
	seen := make(chan struct{}, 1)
	consuming(b, sub, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d"}, func(context.Context, bus.Message) error {
		seen <- struct{}{}
		return nil
	})
	ctx := context.Background()
	for b.Loop() {
		_, r := request(b, "[1,1]")
		_, err := pub.Publish(ctx, r.Subject, r.Event)
		require.NoError(b, err)
		<-seen
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppend appends decisions of one, two and eight facts to a job.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := bustest.Start(b)
			c := h.Connect(b)
			ctx, job, last, attempt := context.Background(), newID(b), uint64(0), 0
			for b.Loop() {
				attempt++
				recs := make([]bus.Record, n)
				for i := range recs {
					recs[i] = nodeFact(b, job, fmt.Sprint("n", i), "/a", attempt)
				}
				var err error
				last, err = c.Append(ctx, events.JobFacts(tb, job), last, recs...)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "facts/s")
		})
	}
}
