package handler

import (
	"context"
	"time"

	"loadnode/handler/job"
)

// alarm wakes a keeper at the next deadline: by the clock of this process,
// and durably by a schedule on the bus, which works without this process too.
type alarm struct {
	at      time.Time        // of the next deadline; zero for none
	fire    <-chan time.Time // of this process
	armedAt time.Time        // what the schedule on the bus says
	busy    bool             // a schedule is on its way
	quiet   time.Time        // an alarm that made no facts is not repeated before
}

// idleRepeat is how soon an alarm that made no facts is repeated.
const idleRepeat = time.Second

func (a *alarm) due(now time.Time) bool {
	if a.at.IsZero() || now.Before(a.at) || now.Before(a.quiet) {
		return false
	}
	a.quiet = now.Add(idleRepeat)
	return true
}

// changed is told that facts were made: whatever was tried in vain may be
// tried again.
func (a *alarm) changed() { a.quiet = time.Time{} }

func (a *alarm) fires() <-chan time.Time { return a.fire }

// arm sets the alarms for the next deadline.
func (k *keeper) arm(ctx context.Context, s job.State) {
	a, h := &k.timer, k.h
	next, ok := job.NextDeadline(s)
	if !ok || !k.own.held(h.clock.Now()) {
		// The one who owns the job wakes it; others hear the wake-ups of the
		// bus.
		a.at, a.fire = time.Time{}, nil
		return
	}
	now := h.clock.Now()
	if at := h.awakeAt(now); next.Before(at) {
		next = at
	}
	wake := next
	if wake.Before(a.quiet) {
		wake = a.quiet
	}
	if !next.Equal(a.at) || a.fire == nil || !now.Before(a.at) {
		a.at = next
		a.fire = h.clock.After(max(wake.Sub(now), 0))
	}
	// Early is harmless and late is not: the schedule is only moved forward,
	// or renewed when it has fired.
	if a.busy || !a.armedAt.IsZero() && !next.Before(a.armedAt) && a.armedAt.After(now) {
		return
	}
	a.armedAt, a.busy = next, true
	h.work.Go(func() {
		err := h.conn.Schedule(ctx, k.key.testbed, k.key.job, next)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("wake-up not scheduled", "job", k.key.job, "err", err)
		}
		k.call(func() {
			k.timer.busy = false
			if err != nil {
				k.timer.armedAt = time.Time{}
			}
		})
	})
}
