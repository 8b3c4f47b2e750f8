package bus

import (
	"context"
	"math/rand/v2"
	"time"
)

// minDelay is the shortest delay of a redelivery: a message that is refused
// without delay comes back at once and burns a core.
const minDelay = 10 * time.Millisecond

// delays is a growing delay with jitter.
type delays struct{ next, limit time.Duration }

func newDelays(first, limit time.Duration) *delays { return &delays{next: first, limit: limit} }

// wait sleeps for the next delay; false when ctx ended.
func (d *delays) wait(ctx context.Context) bool {
	t := time.NewTimer(jitter(d.next))
	defer t.Stop()
	d.next = min(2*d.next, d.limit)
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// jitter spreads d by a fifth to both sides, so that many nodes which lost
// the same server do not return in step.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(d/5*2+1)
}
