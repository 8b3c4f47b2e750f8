package handler

import (
	"context"
	"sync"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// presence is what was last heard of each node, from its reports. It is read
// from the stream of reports at each start, so that the boot before a reboot
// is known even to a handler that was not there.
type presence struct {
	mu   sync.Mutex
	last map[key]job.Sighting // key of testbed and node
	seq  map[key]uint64
}

func newPresence() *presence {
	return &presence{last: make(map[key]job.Sighting), seq: make(map[key]uint64)}
}

func (p *presence) sighting(testbed, node string) job.Sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[key{testbed, node}]
}

// maxBoot is the longest boot id that is believed.
const maxBoot = 128

func (p *presence) take(m bus.Message) {
	if m.Err != nil || m.Address.Tree != "rpt" {
		return
	}
	data, err := events.Decode(m.Event)
	if err != nil {
		return
	}
	ref, ok := nodeRef(data)
	if !ok || ref.Node != m.Address.Node || ref.Boot == "" || len(ref.Boot) > maxBoot {
		return
	}
	k := key{m.Address.Testbed, m.Address.Node}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Seq < p.seq[k] {
		return
	}
	s := job.Sighting{Boot: ref.Boot, Time: m.Time, Imaging: true}
	if up, ok := data.(events.Up); ok {
		s.Imaging = up.Imaging
	}
	p.last[k], p.seq[k] = s, m.Seq
}

func (h *Handler) watchReports(ctx context.Context, caughtUp func()) error {
	return h.conn.Watch(ctx, bus.WatchConfig{
		Stream: bus.StreamReports, LastPerSubject: true, CaughtUp: caughtUp,
	}, func(m bus.Message) error {
		// Only nodes of the inventory: others could fill the memory.
		if tb, ok := h.inv.Testbed(m.Address.Testbed); ok {
			if _, ok := tb.Node(m.Address.Node); ok {
				h.nodes.take(m)
			}
		}
		return nil
	})
}
