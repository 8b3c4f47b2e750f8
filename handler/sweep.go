package handler

import (
	"context"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// sweep looks for what was left behind, at the start and regularly: leases of
// jobs that ended or never were, sessions and places of ended jobs, old facts.
func (h *Handler) sweep(ctx context.Context) error {
	for {
		for _, tb := range h.book.leasedTestbeds() {
			if err := h.sweepLeases(ctx, tb); err != nil && ctx.Err() == nil {
				h.log.Warn("leases not swept", "testbed", tb, "err", err)
			}
		}
		for _, tb := range h.inv.Testbeds() {
			h.sweepSessions(ctx, tb.Name)
			h.sweepPlaces(ctx, tb.Name)
			h.archive(ctx, tb.Name)
		}
		select {
		case <-h.clock.After(h.policy.Sweep):
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *Handler) sweepLeases(ctx context.Context, testbed string) error {
	s, _ := h.book.lease(testbed)
	for _, j := range s.Jobs() {
		k := key{testbed, j}
		state, seq, _ := h.book.job(k)
		if state.Phase == job.Unknown {
			newer, err := h.behind(ctx, events.JobFacts(testbed, j), seq)
			if err != nil {
				return err
			}
			if newer {
				state, _, _ = h.book.job(k)
			}
		}
		if state.Phase != job.Unknown && !state.Over() {
			continue
		}
		h.log.Info("nodes of an ended job released", "job", j, "testbed", testbed)
		if err := h.free(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// sweepSessions gives back the sessions of ended jobs that a crash, or an
// image service that did not answer, has left.
func (h *Handler) sweepSessions(ctx context.Context, testbed string) {
	var st events.FrisbeeState
	if err := h.ask(ctx, events.FrisbeeSubject(testbed, events.FrisbeeStatus), nil, &st); err != nil {
		return // next time
	}
	for _, s := range st.Sessions {
		for _, l := range s.Leases {
			if state, _, _ := h.book.job(key{testbed, l}); state.Over() {
				h.releaseSession(ctx, key{testbed, l}, s.Image)
			}
		}
	}
}

// archive purges the facts of the nodes of jobs that ended long ago. The few
// facts of the job itself stay as they were written: job.finished has the
// results, job.requested the request, whose second delivery must find its job,
// and job.accepted the plan; omf job show needs them all. To have one record
// in place of three would take another form of it that every reader of facts
// understands, and save little: the facts of the nodes are most of a job.
func (h *Handler) archive(ctx context.Context, testbed string) {
	before := h.clock.Now().Add(-h.policy.ArchiveAfter)
	for _, s := range h.book.all(testbed) {
		if s.Phase != job.Finished || s.Plan.DryRun || !s.Ended.Before(before) || s.Archived() || ctx.Err() != nil {
			continue
		}
		if err := h.purge(ctx, testbed, s.Job); err != nil {
			h.log.Warn("job not archived", "job", s.Job, "err", err)
			return
		}
		h.count.add(countArchived)
		h.book.archived(key{testbed, s.Job})
	}
}

func (h *Handler) purge(ctx context.Context, testbed, job string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return h.conn.Purge(ctx, bus.StreamFacts, events.NodeFacts(testbed, job))
}
