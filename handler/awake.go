package handler

import (
	"context"
	"sync"
	"time"
)

// awake is the time from which missed deadlines count. A handler that was
// down, or cut off from the bus, would otherwise hold against the nodes that
// it did not listen: their agents keep their reports and send them as soon as
// they can.
type awake struct {
	mu sync.Mutex
	at time.Time
}

func (a *awake) since(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = t
}

// awakeAt returns when missed deadlines count; while there is no bus, not
// now.
func (h *Handler) awakeAt(now time.Time) time.Time {
	if !h.conn.NATS().IsConnected() {
		return now.Add(h.policy.Grace)
	}
	h.awake.mu.Lock()
	defer h.awake.mu.Unlock()
	return h.awake.at
}

// watchConnection begins another grace each time that the bus is back.
func (h *Handler) watchConnection(ctx context.Context) error {
	nc := h.conn.NATS()
	states := nc.StatusChanged()
	defer nc.RemoveStatusListener(states)
	for {
		select {
		case <-states:
			h.awake.since(h.clock.Now().Add(h.policy.Grace))
			for _, k := range h.allKeepers() {
				k.poke()
			}
		case <-ctx.Done():
			return nil
		}
	}
}
