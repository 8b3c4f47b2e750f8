package bustest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
)

// Await returns the first message on filter, stored already or to come, that
// match accepts (nil: any). It fails the test when none comes in time.
func Await(t testing.TB, c *bus.Conn, stream, filter string, match func(bus.Message) bool) bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var found bus.Message
	err := c.Watch(ctx, bus.WatchConfig{Stream: stream, Filters: []string{filter}}, func(m bus.Message) error {
		if match != nil && !match(m) {
			return nil
		}
		found = m
		return bus.ErrStop
	})
	require.NoError(t, err, "no such message on %s in %s", filter, stream)
	return found
}

// AwaitFact returns the first fact of a kind on filter, stored already or to
// come, and its data.
func AwaitFact(t testing.TB, c *bus.Conn, filter string, kind events.Kind) (bus.Message, events.Data) {
	t.Helper()
	return awaitKind(t, c, bus.StreamFacts, filter, kind)
}

// AwaitReport returns the first report of a kind of a node, stored already or
// to come, and its data.
func AwaitReport(t testing.TB, c *bus.Conn, node string, kind events.Kind) (bus.Message, events.Data) {
	t.Helper()
	return awaitKind(t, c, bus.StreamReports, events.ReportSubject(Testbed, node, kind), kind)
}

// AwaitOutcome returns the report with which an attempt of a node ends, stored
// already or to come: LoadDone or LoadFailed, SaveDone or SaveFailed.
func AwaitOutcome(t testing.TB, c *bus.Conn, node string, attempt int) events.Data {
	t.Helper()
	var outcome events.Data
	Await(t, c, bus.StreamReports, events.NodeReports(Testbed, node), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		if err != nil {
			return false
		}
		var of int
		switch v := d.(type) {
		case events.LoadDone:
			of = v.Attempt
		case events.LoadFailed:
			of = v.Attempt
		case events.SaveDone:
			of = v.Attempt
		case events.SaveFailed:
			of = v.Attempt
		}
		outcome = d
		return of == attempt
	})
	return outcome
}

func awaitKind(t testing.TB, c *bus.Conn, stream, filter string, kind events.Kind) (bus.Message, events.Data) {
	t.Helper()
	m := Await(t, c, stream, filter, func(m bus.Message) bool { return m.Err == nil && m.Event.Type() == kind.Type() })
	d, err := events.Decode(m.Event)
	require.NoError(t, err)
	return m, d
}

// All returns what is stored on filter at the moment, in order.
func All(t testing.TB, c *bus.Conn, stream, filter string) []bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var all []bus.Message
	wctx, caughtUp := context.WithCancel(ctx)
	defer caughtUp()
	err := c.Watch(wctx, bus.WatchConfig{Stream: stream, Filters: []string{filter}, CaughtUp: caughtUp}, func(m bus.Message) error {
		all = append(all, m)
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, ctx.Err(), "reading %s in %s took too long", filter, stream)
	return all
}
