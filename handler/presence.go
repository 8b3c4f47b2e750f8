package handler

import (
	"cmp"
	"context"
	"slices"
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
	// kept are the last reports of each kind as they were found at the start.
	// One that a dead handler had taken and not finished would only come again
	// after a while.
	kept map[key][]bus.Message
}

func newPresence() *presence {
	return &presence{last: make(map[key]job.Sighting), seq: make(map[key]uint64), kept: make(map[key][]bus.Message)}
}

func (p *presence) sighting(testbed, node string) job.Sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[key{testbed, node}]
}

// newest is the sequence of the last report of a node, 0 for none.
func (p *presence) newest(testbed, node string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq[key{testbed, node}]
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
	if data.Kind() == events.KindCredentialMisused {
		return // about the node, not from it
	}
	ref, ok := job.Ref(data)
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

// note takes down what was heard of a node on another way than by a report.
func (p *presence) note(testbed, node string, s job.Sighting) {
	if len(s.Boot) > maxBoot {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[key{testbed, node}] = s
}

func (h *Handler) watchReports(ctx context.Context, caughtUp func()) error {
	ready := false
	return h.conn.Watch(ctx, bus.WatchConfig{
		Stream: bus.StreamReports, LastPerSubject: true, CaughtUp: func() { ready = true; caughtUp() },
	}, func(m bus.Message) error {
		// Only nodes of the inventory: others could fill the memory.
		tb, ok := h.inv.Testbed(m.Address.Testbed)
		if !ok {
			return nil
		}
		if _, ok := tb.Node(m.Address.Node); !ok {
			return nil
		}
		h.nodes.take(m)
		if k := (key{m.Address.Testbed, m.Address.Node}); !ready && h.heldBy(k) != "" {
			h.nodes.mu.Lock()
			defer h.nodes.mu.Unlock()
			h.nodes.kept[k] = append(h.nodes.kept[k], m)
		}
		return nil
	})
}

// heldBy is the job that holds a node as far as this handler has read.
func (h *Handler) heldBy(node key) string {
	s, _ := h.book.lease(node.testbed)
	return s.Holder(node.job)
}

// replay takes the last reports of nodes that jobs hold once more. What they
// say and is known already is refused as repeated, what they say of the past
// as stale; what a handler had no time to write down becomes a fact now.
func (h *Handler) replay(ctx context.Context) error {
	h.nodes.mu.Lock()
	kept := h.nodes.kept
	h.nodes.kept = nil
	h.nodes.mu.Unlock()
	var nodes sync.WaitGroup
	defer nodes.Wait()
	room := make(chan struct{}, reportWorkers)
	for _, reports := range kept {
		slices.SortFunc(reports, func(a, b bus.Message) int { return cmp.Compare(a.Seq, b.Seq) })
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		nodes.Go(func() {
			defer func() { <-room }()
			for _, m := range reports {
				if err := h.report(ctx, m); err != nil {
					// The durable consumer has it as well, and tries again.
					h.log.Debug("kept report not taken", "subject", m.Subject, "seq", m.Seq, "err", err)
				}
			}
		})
	}
	return nil
}
