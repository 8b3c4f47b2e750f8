package netboot

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

// stages remembers what was seen of the nodes that are being booted.
type stages struct {
	mu      sync.Mutex
	seen    map[key]*way
	telling sync.Mutex // from the noting of a stage until it is told: the last that is told is all that was seen
}

// way is how far a node has come for one attempt.
type way struct {
	job           string
	attempt       int
	mac, ip, arch string
	detail        string
	at            map[string]time.Time // when each stage was first seen
}

// saw notes a stage of a node that is being booted, and returns what is to be
// told: nil if nothing is new.
func (s *stages) saw(n *node, b boot, stage, arch, detail string, now time.Time) *events.BootStage {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.seen[n.key]
	if w == nil || w.job != b.job || w.attempt != b.attempt {
		w = &way{job: b.job, attempt: b.attempt, mac: n.MAC, ip: n.IP.String(), at: map[string]time.Time{}}
		s.seen[n.key] = w
	}
	if _, again := w.at[stage]; again {
		return nil
	}
	w.at[stage] = now
	if arch != "" {
		w.arch = arch
	}
	w.detail = detail
	m := w.message(n.node)
	return &m
}

// message is the whole way, in the order of the stages.
func (w *way) message(node string) events.BootStage {
	m := events.BootStage{
		NodeRef: events.NodeRef{Job: w.job, Node: node, Attempt: w.attempt},
		MAC:     w.mac, Address: w.ip, Arch: w.arch, Detail: w.detail,
	}
	for _, stage := range events.BootStages() {
		if at, ok := w.at[stage]; ok {
			m.Stage, m.Time = stage, at
			m.Seen = append(m.Seen, events.BootSeen{Stage: stage, Time: at})
		}
	}
	return m
}

// restore takes up what was told before a restart.
func (s *stages) restore(k key, b boot, m events.BootStage) bool {
	if m.Job != b.job || m.Attempt != b.attempt || m.Node != k.node {
		return false
	}
	w := &way{job: b.job, attempt: b.attempt, mac: m.MAC, ip: m.Address, arch: m.Arch, detail: m.Detail, at: map[string]time.Time{}}
	for _, x := range m.Seen {
		if slices.Contains(events.BootStages(), x.Stage) {
			w.at[x.Stage] = x.Time
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[k] = w
	return true
}

// forget drops the nodes that are not being booted any more.
func (s *stages) forget(keep func(key) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.seen {
		if !keep(k) {
			delete(s.seen, k)
		}
	}
}

// saw notes a stage of a node and tells it on the bus, if the node is being
// booted for a job.
func (r *Role) saw(n *node, stage, arch, detail string) {
	b, ok := r.state.of(n.key)
	if !ok {
		return
	}
	r.stages.telling.Lock()
	defer r.stages.telling.Unlock()
	m := r.stages.saw(n, b, stage, arch, detail, r.clock())
	if m == nil {
		return
	}
	r.log.Info("boot stage", "node", n.node, "job", b.job, "attempt", b.attempt, "stage", stage, "detail", detail)
	ev, err := events.New(events.Meta{
		ID: fmt.Sprintf("%s:%s:boot:%d:%s", b.job, n.node, b.attempt, stage), Source: events.Source(n.testbed, "netboot", "boot"), Subject: events.SubjectAttr(b.job, n.node), Time: r.clock(),
	}, *m)
	if err == nil {
		err = r.conn.Emit(context.Background(), events.BootSubject(n.testbed, n.node), ev)
	}
	if err != nil {
		r.log.Debug("boot stage not told", "node", n.node, "err", err) // telemetry may be lost
	}
}

// resume takes up the stages of the nodes that were being booted when the role
// started.
func (r *Role) resume(ctx context.Context, boots map[key]boot) {
	for k, b := range boots {
		n := r.node(k)
		if n == nil {
			continue
		}
		m, err := r.conn.Last(ctx, bus.StreamTelemetry, events.BootSubject(k.testbed, k.node))
		if err == nil && m.Err == nil {
			if d, err := events.Decode(m.Event); err == nil {
				if before, ok := d.(events.BootStage); ok && r.stages.restore(k, b, before) {
					continue
				}
			}
		}
		r.saw(n, events.StageArmed, "", "")
	}
}
