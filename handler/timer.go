package handler

import (
	"context"
	"errors"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

const (
	timersDurable = "handler"
	timerWorkers  = 8
)

// consumeTimers takes the wake-ups of the bus. They come for jobs whose owner
// is gone as well: any handler makes the facts, and the next owner acts.
func (h *Handler) consumeTimers(ctx context.Context) error {
	return h.conn.Consume(ctx, bus.ConsumeConfig{
		Stream: bus.StreamTimers, Durable: timersDurable, AckWait: ackWait, Filters: []string{events.AllDue}, Workers: timerWorkers,
	}, func(ctx context.Context, m bus.Message) error {
		if m.Address.Tree != "due" || m.Address.Job == "" {
			return nil
		}
		// A wake-up before the end of our own grace changes nothing; the alarm
		// of the owner, or the schedule that it renews, comes then.
		err := h.submit(ctx, key{m.Address.Testbed, m.Address.Job}, job.Tick{})
		if errors.Is(err, job.ErrRefused) {
			return nil
		}
		return err
	})
}
