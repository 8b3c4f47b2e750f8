package handler

import (
	"context"
	"sync"
	"time"
)

// pacer lets one node after another start, with a pause between (Policy.Stagger).
type pacer struct {
	mu   sync.Mutex
	next time.Time
}

// turn takes the next place in the row and returns how long to wait for it.
func (p *pacer) turn(now time.Time, pause time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := now
	if p.next.After(now) {
		at = p.next
	}
	p.next = at.Add(pause)
	return at.Sub(now)
}

// pace waits until a node may be started. The effect that waits gives up its
// place among those that run, which others need meanwhile.
func (h *Handler) pace(ctx context.Context) error {
	if h.policy.Stagger <= 0 {
		return nil
	}
	wait := h.pacer.turn(h.clock.Now(), h.policy.Stagger)
	if wait <= 0 {
		return nil
	}
	<-h.slots
	defer func() { h.slots <- struct{}{} }()
	select {
	case <-h.clock.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
