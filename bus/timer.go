package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

// Schedule has a job woken at a time: a message then appears on
// events.DueSubject in OMF_TIMER, to be consumed there. Calling it again
// replaces the schedule. Schedules survive restarts of everything; one that
// came due meanwhile fires at once, as does one in the past. A wake-up is
// never early by the server's clock, and about a quarter of a second late at
// most while the server is not overloaded.
func (c *Conn) Schedule(ctx context.Context, testbed, job string, at time.Time) error {
	m := nats.NewMsg(events.TimerSubject(testbed, job))
	// Written here because the client library cuts the time to whole seconds,
	// which makes schedules fire early.
	m.Header.Set("Nats-Schedule", "@at "+at.UTC().Format(time.RFC3339Nano))
	m.Header.Set("Nats-Schedule-Target", events.DueSubject(testbed, job))
	m.Header.Set(jetstream.ExpectedStreamHeader, StreamTimers)
	m.Data = []byte(`{"at":"` + at.UTC().Format(time.RFC3339Nano) + `"}`)
	if _, err := c.publish(ctx, m); err != nil {
		return fmt.Errorf("schedule %s: %w", job, err)
	}
	return nil
}

// CancelSchedule takes the schedule of a job back. A wake-up that is stored
// already stays. No schedule is fine.
func (c *Conn) CancelSchedule(ctx context.Context, testbed, job string) error {
	gctx, done := c.api(ctx)
	defer done()
	s, err := c.stream(gctx, StreamTimers)
	if err == nil {
		err = s.Purge(gctx, jetstream.WithPurgeSubject(events.TimerSubject(testbed, job)))
	}
	if err != nil {
		return fmt.Errorf("cancel the schedule of %s: %w", job, classify(err, context.Cause(gctx)))
	}
	return nil
}
