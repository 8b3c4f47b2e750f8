package handler

import (
	"context"
	"errors"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// An agent that loads or saves is looked at four times in the silence that it is
// allowed, within these bounds: 400 nodes are not to be asked all the time.
const (
	looksInSilence = 4
	leastPause     = time.Second
	mostPause      = 15 * time.Second
)

// watch is the memory of a DoProbe effect.
type watch struct {
	job.Vigil
	begun bool
	link  link
	signs *signs // as they were at the first look that was not answered
}

// signs are the newest messages of a node, other than answers, by their
// sequences: their times are those of another clock.
type signs struct{ telemetry, reports uint64 }

func (h *Handler) pause() time.Duration {
	return min(max(h.policy.Silence/looksInSilence, leastPause), mostPause)
}

var errWatching = errors.New("the agent is watched")

// watch looks once at the agent of an attempt. It goes on until the job asks
// no more for it.
func (k *keeper) watch(ctx context.Context, s job.State, e job.Effect, w *watch) (job.Input, error) {
	again := &later{after: k.h.pause(), err: errWatching}
	n, ok := s.Node(e.Node)
	if !ok {
		return nil, nil
	}
	e.Step = n.Step
	first := !w.begun
	if first {
		w.begun, w.link = true, k.h.link()
		if e.Step == job.Up {
			return nil, again // it is just being told
		}
	}
	l, err := k.look(ctx, e, w, first)
	if err != nil {
		return nil, err
	}
	var in job.Input
	if w.Vigil, in = w.See(k.key.job, e, l, k.h.policy.Silence); in == nil {
		return nil, again
	}
	return in, nil
}

// look asks the agent. The first time, and when it seems to know nothing of
// the attempt, it is asked about this attempt: then it reports once more what it
// reported last, which may have been lost with whoever was to write it down.
func (k *keeper) look(ctx context.Context, e job.Effect, w *watch, first bool) (job.Look, error) {
	h := k.h
	before := w.link
	ref := events.NodeRef{Node: e.Node}
	if first {
		ref = k.ref(e)
	}
	reply, err := h.command(ctx, k.key.testbed, e.Node, events.VerbProbe, ref)
	if err == nil && !first && e.Step.Works() && (reply.Job != k.key.job || reply.Attempt != e.Attempt || !working(reply.State)) {
		reply, err = h.command(ctx, k.key.testbed, e.Node, events.VerbProbe, k.ref(e))
	}
	if ctx.Err() != nil {
		return job.Look{}, ctx.Err()
	}
	now := h.clock.Now()
	w.link = h.link()
	l := job.Look{At: now}
	silent := errors.Is(err, bus.ErrNoResponders) || errors.Is(err, bus.ErrUnreachable)
	switch {
	case err == nil:
		l.Reply = &reply
	case remote(err) != nil:
		l.Word = true // it cannot tell; the deadline will
	case !silent, !before.up, before != w.link, now.Before(h.awakeAt(now)):
		l.Blind = true
	default:
		err := k.listen(ctx, e, w, &l)
		if err != nil {
			return l, err
		}
		l.Power = h.switched(ctx, k.key.testbed, e.Node).Power
		l.Disk, _ = h.askResident(ctx, k.key.testbed, e.Node) // nobody there is the usual answer
		return l, ctx.Err()
	}
	w.signs = nil
	return l, nil
}

// working reports whether an agent is still at the load or save that it names.
func working(state string) bool { return state == "loading" || state == "saving" }

// listen finds out whether an agent that does not answer has sent anything
// since it was first found silent.
func (k *keeper) listen(ctx context.Context, e job.Effect, w *watch, l *job.Look) error {
	now := signs{reports: k.h.nodes.newest(k.key.testbed, e.Node)}
	subject := events.ProgressSubject(k.key.testbed, k.key.job, e.Node)
	if e.Step == job.Saving {
		subject = events.SaveProgressSubject(k.key.testbed, k.key.job, e.Node)
	}
	m, err := k.h.conn.Last(ctx, bus.StreamTelemetry, subject)
	switch {
	case err == nil:
		now.telemetry = m.Seq
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.Is(err, bus.ErrNoMessage):
		w.signs, l.Blind = nil, true
		return nil
	}
	l.Word = w.signs != nil && *w.signs != now
	w.signs = &now
	return nil
}
