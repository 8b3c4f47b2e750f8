package handler

import (
	"context"
	"errors"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// bootStages asks how far those nodes came that a boot service leads and whose
// time to report is over. What it cannot find out is not known: the job goes
// on without it.
func (h *Handler) bootStages(ctx context.Context, testbed string, s job.State, at job.Moment) func(string) (events.BootStage, bool) {
	var found map[string]events.BootStage
	for _, n := range s.Nodes() {
		if !n.Late(at) {
			continue
		}
		m, err := h.conn.Last(ctx, bus.StreamTelemetry, events.BootSubject(testbed, n.Name))
		switch {
		case errors.Is(err, bus.ErrNoMessage):
			continue
		case err != nil:
			h.log.Debug("boot stages not asked for", "node", n.Name, "err", err)
			return nil // one failed question is enough: the decision is not to wait
		case m.Err != nil:
			continue
		}
		d, err := events.Decode(m.Event)
		if b, ok := d.(events.BootStage); ok && err == nil {
			if found == nil {
				found = make(map[string]events.BootStage)
			}
			found[n.Name] = b
		}
	}
	return func(node string) (events.BootStage, bool) {
		b, ok := found[node]
		return b, ok
	}
}
