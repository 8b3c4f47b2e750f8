package handler

import (
	"context"
	"errors"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// batch is how many facts one append takes at most. Decisions that make more
// are cut; the rest follows from the state (job.Decide).
const batch = 400

// source is what this handler's facts name as their producer.
func (h *Handler) source(testbed string) string { return events.Source(testbed, "handler", h.id) }

// append stores facts of a job behind seq and returns the new last sequence.
func (h *Handler) append(ctx context.Context, k key, correlation string, seq uint64, facts []job.Fact) (uint64, error) {
	recs := make([]bus.Record, 0, len(facts))
	for _, f := range facts {
		ev, err := events.New(events.Meta{
			ID: f.ID, Source: h.source(k.testbed), Subject: events.SubjectAttr(k.job, f.Node), Time: f.Time,
			Correlation: correlation, Causation: f.Causation,
		}, f.Data)
		if err != nil {
			return 0, err
		}
		recs = append(recs, bus.Record{Subject: f.Subject(k.testbed, k.job), Event: ev})
	}
	last, err := h.conn.Append(ctx, events.JobFacts(k.testbed, k.job), seq, recs...)
	if err != nil {
		return 0, err
	}
	h.book.own(k, last, correlation, facts)
	return last, nil
}

// behind reports whether the log holds facts of an aggregate beyond seq, and
// waits for them if so.
func (h *Handler) behind(ctx context.Context, filter string, seq uint64) (bool, error) {
	m, err := h.conn.Last(ctx, bus.StreamFacts, filter)
	if errors.Is(err, bus.ErrNoMessage) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if m.Seq <= seq {
		return false, nil
	}
	return true, h.book.awaitWatch(ctx, m.Seq)
}

// appendLeases decides on the leases of a testbed and stores the facts. It
// decides again when another handler was faster, and before it believes a
// refusal it makes sure that it has read everything.
func (h *Handler) appendLeases(ctx context.Context, testbed string, decide func() ([]events.Data, error)) error {
	filter := events.LeasesSubject(testbed)
	for {
		_, seq := h.book.lease(testbed)
		facts, err := decide()
		if err != nil {
			switch newer, behindErr := h.behind(ctx, filter, seq); {
			case behindErr != nil:
				return behindErr
			case newer:
				continue
			}
			return err
		}
		if len(facts) == 0 {
			return nil
		}
		recs := make([]bus.Record, 0, len(facts))
		for i, f := range facts {
			ev, err := events.New(events.Meta{
				// The place in the aggregate makes the id unique: nodes are
				// leased and released over and over.
				ID:     fmt.Sprintf("leases:%s:%d:%d", testbed, seq, i),
				Source: h.source(testbed), Time: h.clock.Now(),
			}, f)
			if err != nil {
				return err
			}
			recs = append(recs, bus.Record{Subject: filter, Event: ev})
		}
		last, err := h.conn.Append(ctx, filter, seq, recs...)
		if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrDuplicate) {
			h.count.add(countConflicts)
			if _, err := h.behind(ctx, filter, seq); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		h.book.ownLeases(testbed, last, facts)
		return nil
	}
}
