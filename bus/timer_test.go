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

type wake struct {
	job string
	at  time.Time
}

func wakes(t testing.TB, c *bus.Conn) <-chan wake {
	t.Helper()
	out := make(chan wake, 64)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamTimers, Durable: "due", Filters: []string{events.AllDue}}, func(_ context.Context, m bus.Message) error {
		out <- wake{m.Address.Job, time.Now()}
		return m.Err
	})
	return out
}

// late is how late a wake-up may be: the server looks every quarter of a
// second, and the machine is shared.
const late = 3 * time.Second

func requireWake(t testing.TB, ch <-chan wake, job string, at time.Time) {
	t.Helper()
	w := take(t, ch)
	require.Equal(t, job, w.job)
	require.WithinRange(t, w.at, at.Add(-5*time.Millisecond), at.Add(late))
}

func TestSchedule(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	ch := wakes(t, c)
	now := time.Now()
	// Not in the order in which they come due, and not on whole seconds.
	require.NoError(t, c.Schedule(ctx, tb, "third", now.Add(1700*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "first", now.Add(-time.Hour)))
	require.NoError(t, c.Schedule(ctx, tb, "second", now.Add(900*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "cancelled", now.Add(700*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "earlier", now.Add(time.Hour)))
	require.NoError(t, c.Schedule(ctx, tb, "earlier", now.Add(1300*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "later", now.Add(500*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "later", now.Add(2200*time.Millisecond)))
	require.NoError(t, c.CancelSchedule(ctx, tb, "cancelled"))
	require.NoError(t, c.CancelSchedule(ctx, tb, "never was"))
	requireWake(t, ch, "first", now)
	requireWake(t, ch, "second", now.Add(900*time.Millisecond))
	requireWake(t, ch, "earlier", now.Add(1300*time.Millisecond))
	requireWake(t, ch, "third", now.Add(1700*time.Millisecond))
	requireWake(t, ch, "later", now.Add(2200*time.Millisecond))
	// Neither schedules nor wake-ups are left.
	emptied(t, c, bus.StreamTimers)
	require.Empty(t, ch)
}

// TestScheduleRestart lets one come due while the server is away, and keeps
// another one.
func TestScheduleRestart(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	now := time.Now()
	require.NoError(t, c.Schedule(ctx, tb, "missed", now.Add(300*time.Millisecond)))
	require.NoError(t, c.Schedule(ctx, tb, "kept", now.Add(2500*time.Millisecond)))
	h.Stop()
	time.Sleep(time.Until(now.Add(400 * time.Millisecond))) // the point in time has to pass
	h.Resume()
	ch := wakes(t, c)
	requireWake(t, ch, "missed", now.Add(400*time.Millisecond))
	requireWake(t, ch, "kept", now.Add(2500*time.Millisecond))
	emptied(t, c, bus.StreamTimers)
}

// TestScheduleAgainFromHandler re-arms from within the wake-up, as a job does
// that has several deadlines.
func TestScheduleAgainFromHandler(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	done := make(chan struct{}, 8)
	n := 0
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamTimers, Durable: "due", Filters: []string{events.AllDue}, Workers: 1}, func(context.Context, bus.Message) error {
		if n++; n < 3 {
			if err := c.Schedule(ctx, tb, "j", time.Now().Add(50*time.Millisecond)); err != nil {
				return err
			}
		}
		done <- struct{}{}
		return nil
	})
	require.NoError(t, c.Schedule(ctx, tb, "j", time.Now()))
	for range 3 {
		take(t, done)
	}
	emptied(t, c, bus.StreamTimers)
	require.Empty(t, done)
}
