package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// sweep looks for what was left behind, at the start and regularly: leases of
// jobs that ended or never were, sessions of ended jobs, old facts.
func (h *Handler) sweep(ctx context.Context) error {
	for {
		for _, tb := range h.book.leasedTestbeds() {
			if err := h.sweepLeases(ctx, tb); err != nil && ctx.Err() == nil {
				h.log.Warn("leases not swept", "testbed", tb, "err", err)
			}
		}
		for _, tb := range h.inv.Testbeds() {
			h.sweepSessions(ctx, tb.Name)
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

// archive purges the facts of the nodes of jobs that ended long ago. The facts
// of the job itself stay, with the request, the plan and the results.
func (h *Handler) archive(ctx context.Context, testbed string) {
	before := h.clock.Now().Add(-h.policy.ArchiveAfter)
	for _, s := range h.book.all(testbed) {
		if s.Phase != job.Finished || s.Plan.DryRun || !s.Ended.Before(before) || s.Archived() || ctx.Err() != nil {
			continue
		}
		if err := h.purgeNodes(ctx, key{testbed, s.Job}); err != nil {
			h.log.Warn("job not archived", "job", s.Job, "err", err)
			return
		}
		h.count.add(countArchived)
		h.book.archived(key{testbed, s.Job})
	}
}

// purgeNodes removes the facts of the nodes of a job from the log, by the API
// of the server: the bus, which only ever appends, has no way to.
func (h *Handler) purgeNodes(ctx context.Context, k key) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	nodes := strings.TrimSuffix(events.JobFacts(k.testbed, k.job), ">") + "node.>"
	req, err := json.Marshal(map[string]string{"filter": nodes})
	if err != nil {
		return err
	}
	m, err := h.conn.NATS().RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+bus.StreamFacts, req)
	if err != nil {
		return err
	}
	var answer struct {
		Success bool `json:"success"`
		Error   struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if !answer.Success {
		return fmt.Errorf("purge %s: %s", nodes, answer.Error.Description)
	}
	return nil
}
