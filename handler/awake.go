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
	mu   sync.Mutex
	link link // that the time belongs to
	at   time.Time
}

// link tells one connection to the bus from the next.
type link struct {
	up         bool
	reconnects uint64
}

// link is the connection as it is. A connection counts before it is up, so
// that the same link twice means that it was up all along.
func (h *Handler) link() link {
	nc := h.conn.NATS()
	return link{nc.IsConnected(), nc.Stats().Reconnects}
}

// awakeAt returns when missed deadlines count; while there is no bus, not
// now. Each connection begins with another grace: the first who asks on it
// must not find the time of the one before.
func (h *Handler) awakeAt(now time.Time) time.Time {
	l := h.link()
	if !l.up {
		return now.Add(h.policy.Grace)
	}
	h.awake.mu.Lock()
	defer h.awake.mu.Unlock()
	if l != h.awake.link {
		h.awake.link, h.awake.at = l, now.Add(h.policy.Grace)
	}
	return h.awake.at
}

// watchConnection wakes the keepers when the bus goes or is back.
func (h *Handler) watchConnection(ctx context.Context) error {
	nc := h.conn.NATS()
	states := nc.StatusChanged()
	defer nc.RemoveStatusListener(states)
	for {
		select {
		case <-states:
			h.awakeAt(h.clock.Now())
			for _, k := range h.allKeepers() {
				k.poke()
			}
		case <-ctx.Done():
			return nil
		}
	}
}
