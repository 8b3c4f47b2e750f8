package bus

import "sync/atomic"

type counters struct {
	published, consumed, retried, setAside, undecodable, denied, conflicts atomic.Uint64
}

// Stats counts what a connection did since it was made.
type Stats struct {
	Published   uint64 // events stored by Publish and Append
	Consumed    uint64 // messages settled as done
	Retried     uint64 // messages settled for another delivery
	SetAside    uint64 // messages set aside for good
	Undecodable uint64 // messages that were no events
	Denied      uint64 // subjects that the server refused
	Conflicts   uint64 // appends that came too late
}

// Stats returns the counters of this connection.
func (c *Conn) Stats() Stats {
	n := &c.counts
	return Stats{
		Published:   n.published.Load(),
		Consumed:    n.consumed.Load(),
		Retried:     n.retried.Load(),
		SetAside:    n.setAside.Load(),
		Undecodable: n.undecodable.Load(),
		Denied:      n.denied.Load(),
		Conflicts:   n.conflicts.Load(),
	}
}
