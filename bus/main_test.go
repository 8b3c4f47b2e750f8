package bus_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tb = bustest.Testbed

// within is a context that ends with the patience of the harness.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func newID(t testing.TB) string {
	t.Helper()
	id, err := events.NewULID(time.Now(), rand.Reader)
	require.NoError(t, err)
	return id
}

// made is an event of a kind from one source.
func made(t testing.TB, id, source string, d events.Data) event.Event {
	t.Helper()
	ev, err := events.New(events.Meta{ID: id, Source: source, Time: time.Now()}, d)
	require.NoError(t, err)
	return ev
}

// fact is a record of a job fact.
func fact(t testing.TB, job, source string, d events.Data) bus.Record {
	t.Helper()
	return bus.Record{
		Subject: events.JobFactSubject(tb, job, d.Kind()),
		Event:   made(t, events.FactID(job, "", d.Kind(), 0), source, d),
	}
}

func report(t testing.TB, node string) event.Event {
	t.Helper()
	return made(t, newID(t), events.Source(tb, "agent", node), events.Up{NodeRef: events.NodeRef{Node: node, Boot: "b"}})
}

// assertT is what conditions that are tried again report to.
type assertT = assert.CollectT
