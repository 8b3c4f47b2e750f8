package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

const (
	// reportsDurable is the consumer that all handlers share.
	reportsDurable = "handler"
	// reportWorkers is how many nodes may be waited for at once: reports that
	// arrive together are stored together.
	reportWorkers = 128
	// confirmTries and confirmRetry bound how long an agent is asked whether
	// its machine has restarted during a load.
	confirmTries = 10
	confirmRetry = 500 * time.Millisecond
	// earlyTries and earlyRetry bound how long load.done or save.done waits for
	// the report before it, which another handler may be writing down.
	earlyTries = 20
	earlyRetry = 50 * time.Millisecond
)

func (h *Handler) consumeReports(ctx context.Context) error {
	return h.conn.Consume(ctx, bus.ConsumeConfig{
		Stream: bus.StreamReports, Durable: reportsDurable, AckWait: ackWait, Workers: reportWorkers,
		Key: func(m bus.Message) string { return m.Address.Testbed + "/" + m.Address.Node },
	}, h.report)
}

// report takes what a node said. It is acknowledged when its fact is stored,
// or when it is certain that it makes none.
func (h *Handler) report(ctx context.Context, m bus.Message) error {
	h.count.add(countReports)
	if m.Err != nil {
		h.count.add(countReportsUndecodable)
		return m.Err
	}
	data, err := events.Decode(m.Event)
	if errors.Is(err, events.ErrUnknownType) {
		h.count.add(countReportsUnknown) // of a later version, or not for us
		return nil
	}
	if err != nil {
		h.count.add(countReportsUndecodable)
		return bus.Permanent(err)
	}
	a := m.Address
	ref, ok := job.Ref(data)
	if a.Tree != "rpt" || a.Kind != data.Kind() || !ok || ref.Node != a.Node {
		h.refuse(m, &job.Refusal{Reason: job.ReasonForged, Text: fmt.Sprintf("a %s about node %q on subject %s", data.Kind(), ref.Node, m.Subject)})
		return nil
	}
	if misused, ok := data.(events.CredentialMisused); ok {
		h.alarmed(a.Testbed, misused)
	}
	k := key{a.Testbed, ref.Job}
	if ref.Job == "" {
		if k.job, err = h.holder(ctx, a.Testbed, a.Node); err != nil {
			return err
		}
		if k.job == "" {
			return nil // a node of nobody is up: the presence table knows
		}
	}
	return h.reportTo(ctx, k, m, job.Report{ID: m.Event.ID(), Node: a.Node, Data: data, Stored: m.Time})
}

// holder is the job that holds a node. Nobody is only believed with the
// newest facts.
func (h *Handler) holder(ctx context.Context, testbed, node string) (string, error) {
	s, seq := h.book.lease(testbed)
	if s.Holder(node) == "" {
		if _, err := h.behind(ctx, events.LeasesSubject(testbed), seq); err != nil {
			return "", err
		}
		s, _ = h.book.lease(testbed)
	}
	return s.Holder(node), nil
}

func (h *Handler) reportTo(ctx context.Context, k key, m bus.Message, r job.Report) error {
	seen := power.Unknown
	if _, leaving := r.Data.(events.Leaving); leaving {
		seen = h.switched(ctx, k.testbed, r.Node).Power
		r.Observable = seen != power.Unknown
	}
	err := h.submit(ctx, k, r)
	var refusal *job.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	switch {
	case refusal.Reason == job.ReasonJob && refusal.Text != "" && h.unread(ctx, k):
		return bus.Retry(confirmRetry, refusal)
	case refusal.Reason == job.ReasonEarly:
		if m.Delivered < earlyTries {
			return bus.Retry(earlyRetry, refusal)
		}
		r.Overtaken = true
		if r.Data.Kind() == events.KindSaveDone {
			return h.confirmSave(ctx, k, m, r, refusal)
		}
		if err := h.submit(ctx, k, r); !errors.As(err, &refusal) {
			return err
		}
	case refusal.Reason == job.ReasonUnconfirmed && r.Data.Kind() == events.KindSaveDone:
		return h.confirmSave(ctx, k, m, r, refusal)
	case refusal.Reason == job.ReasonUnconfirmed:
		return h.confirm(ctx, k, m, r, refusal)
	case refusal.Reason == job.ReasonRepeated && r.Observable && seen == power.Off:
		s, _, _ := h.book.job(k)
		if n, ok := s.Node(r.Node); ok {
			if err := h.submit(ctx, k, job.Left{Node: r.Node, Leave: n.Leaves, Seen: job.SeenPower}); !errors.Is(err, job.ErrRefused) {
				return err
			}
		}
		return nil
	}
	h.refuse(m, refusal)
	return nil
}

// unread reports whether the log knows a job that the projection does not
// have yet.
func (h *Handler) unread(ctx context.Context, k key) bool {
	_, seq, _ := h.book.job(k)
	newer, err := h.behind(ctx, events.JobFacts(k.testbed, k.job), seq)
	return err != nil || newer
}

// confirm asks the agent whether the machine restarted during a load. Only
// then the load is given up; an old report delivered late changes nothing.
func (h *Handler) confirm(ctx context.Context, k key, m bus.Message, r job.Report, refusal *job.Refusal) error {
	reply, err := h.command(ctx, k.testbed, r.Node, events.VerbProbe, events.NodeRef{Node: r.Node})
	up, _ := r.Data.(events.Up)
	switch {
	case err != nil && m.Delivered < confirmTries:
		return bus.Retry(confirmRetry, err)
	case err != nil || reply.Boot != up.Boot:
		h.refuse(m, refusal)
		return nil
	}
	r.Confirmed = true
	if err := h.submit(ctx, k, r); !errors.As(err, &refusal) {
		return err
	}
	h.refuse(m, refusal)
	return nil
}

// refuse counts a report that makes no fact, and shows it unless it only says
// what is known.
func (h *Handler) refuse(m bus.Message, r *job.Refusal) {
	h.count.refused(r.Reason)
	if r.Reason == job.ReasonRepeated {
		return
	}
	h.log.Info("report refused", "node", m.Address.Node, "subject", m.Subject, "seq", m.Seq, "reason", string(r.Reason), "err", r)
}
