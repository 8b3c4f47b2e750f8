package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

const (
	// requestsDurable is the consumer that all handlers share.
	requestsDurable = "handler"
	requestWorkers  = 16
	// ackWait is how long a message that a dead handler had taken is lost to
	// the others; a living one extends it while it works.
	ackWait = 5 * time.Second
	// maxRequest is how long a request may be, so that the fact which holds it
	// fits on the bus with its envelope.
	maxRequest = 512 << 10
	// cancelPatience is how long a cancel waits for the job that it names: the
	// two may have been sent together, and are taken side by side.
	cancelPatience = 5 * time.Second
	cancelRetry    = 250 * time.Millisecond
)

func (h *Handler) consumeRequests(ctx context.Context) error {
	return h.conn.Consume(ctx, bus.ConsumeConfig{
		Stream: bus.StreamRequests, Durable: requestsDurable, AckWait: ackWait, Workers: requestWorkers,
	}, h.request)
}

// envelope is what a request says about itself, in any of its encodings.
type envelope struct {
	key         key
	correlation string
	requester   string
	at          time.Time // when it was made, as far as that is believed
}

// open reads the outside of a request. The job id is the same at each
// delivery.
func openRequest(m bus.Message) envelope {
	e := envelope{at: m.Time}
	e.key.testbed = m.Address.Testbed
	if m.Err == nil && m.Plain == nil {
		e.key.job = events.JobIDForEvent(m.Event.Source(), m.Event.ID())
		e.correlation, e.requester = m.Event.ID(), m.Event.Source()
		// A clock that is ahead does not make a request younger.
		if t := m.Event.Time(); !t.IsZero() && t.Before(e.at) {
			e.at = t
		}
		return e
	}
	e.key.job = events.JobIDForMessage(m.Stream, m.Seq)
	e.correlation = e.key.job
	return e
}

// request takes one request. Whatever it is, the answer is a fact.
func (h *Handler) request(ctx context.Context, m bus.Message) error {
	h.count.add(countRequests)
	if m.Address.Tree != "req" {
		return bus.Permanent(fmt.Errorf("subject %q is not that of a request", m.Subject))
	}
	e := openRequest(m)
	switch m.Address.Verb {
	case events.VerbLoad:
		return h.loadRequest(ctx, e, m)
	case events.VerbCancel:
		return h.cancelRequest(ctx, e, m)
	case events.VerbSave:
		return h.saveRequest(ctx, e, m)
	case events.VerbPower:
		return h.reject(ctx, e, m, &events.Error{Code: events.CodeUnsupported, Message: fmt.Sprintf("requests to %s are not served yet", m.Address.Verb)})
	}
	return h.reject(ctx, e, m, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("there are no requests to %q", m.Address.Verb), Hint: "load, save, cancel"})
}

// reject makes a job of a request that will not be carried out, so that
// whoever sent it sees why.
func (h *Handler) reject(ctx context.Context, e envelope, m bus.Message, why *events.Error) error {
	h.count.add(countRequestsBad)
	raw := m.Raw
	if m.Plain == nil && m.Err == nil {
		raw = m.Event.Data()
	}
	return h.begin(ctx, e, job.Request{
		Job: e.key.job, Requester: e.requester, Expires: e.at, Correlation: e.correlation,
		Raw: string(raw[:min(len(raw), maxRequest)]), Reject: why,
	})
}

// begin gives a request to its job. One that exists already is the same
// request delivered again.
func (h *Handler) begin(ctx context.Context, e envelope, r job.Request) error {
	err := h.submit(ctx, e.key, r)
	if errors.Is(err, job.ErrRefused) {
		return nil
	}
	return err
}

// decode reads the data of a request in any encoding.
func decode[T events.Data](m bus.Message) (T, error) {
	var v T
	if m.Err != nil {
		return v, m.Err
	}
	if m.Plain != nil {
		// A script has no version: a word that is not understood is more
		// likely misspelt than new, and might have said "dry_run".
		d := json.NewDecoder(bytes.NewReader(m.Plain))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return v, fmt.Errorf("plain request: %w", err)
		}
		return v, nil
	}
	data, err := events.Decode(m.Event)
	if err != nil {
		return v, err
	}
	v, ok := data.(T)
	if !ok {
		return v, fmt.Errorf("the event is a %s, want a %s", data.Kind(), v.Kind())
	}
	return v, nil
}

func (h *Handler) loadRequest(ctx context.Context, e envelope, m bus.Message) error {
	r, err := decode[events.LoadRequest](m)
	if refusal := unreadable(m, err, `a request is at least {"nodes":"[1,1]","image":"NAME"}`); refusal != nil {
		return h.reject(ctx, e, m, refusal)
	}
	return h.order(ctx, e, order{requester: r.Requester, ttl: r.TTL, timeout: r.Timeout, wait: r.Wait, refusal: job.Check(r)}, job.Request{Load: r})
}

func (h *Handler) saveRequest(ctx context.Context, e envelope, m bus.Message) error {
	r, err := decode[events.SaveRequest](m)
	if refusal := unreadable(m, err, `a request is at least {"node":"[1,1]"}`); refusal != nil {
		return h.reject(ctx, e, m, refusal)
	}
	return h.order(ctx, e, order{requester: r.Requester, ttl: r.TTL, timeout: r.Timeout, wait: r.Wait, refusal: job.CheckSave(r)}, job.Request{Save: &r})
}

// unreadable is the refusal of a request that was not decoded, or whose fact
// would be too large for the bus; nil for any other.
func unreadable(m bus.Message, err error, hint string) *events.Error {
	switch {
	case err != nil:
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("undecodable request: %v", err), Hint: hint}
	case len(m.Raw) > maxRequest:
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("the request has %d bytes, at most %d are possible", len(m.Raw), maxRequest)}
	}
	return nil
}

// order is what requests to load and to save have in common.
type order struct {
	requester    string
	ttl, timeout events.Duration
	wait         bool
	refusal      *events.Error // by its own fields
}

// order begins the job of a request.
func (h *Handler) order(ctx context.Context, e envelope, o order, in job.Request) error {
	if o.requester != "" {
		e.requester = o.requester
	}
	ttl := time.Duration(o.ttl)
	if ttl <= 0 {
		ttl = time.Duration(events.DefaultTTL)
	}
	in.Job, in.Requester, in.Expires, in.Correlation = e.key.job, e.requester, e.at.Add(ttl), e.correlation
	_, known := h.inv.Testbed(e.key.testbed)
	switch {
	case !known:
		in.Reject = h.noTestbed(e.key.testbed)
	case o.refusal != nil:
		in.Reject = o.refusal
	case h.clock.Now().After(in.Expires):
		expired := job.Expired(false, e.at, in.Expires)
		in.Reject = &expired
	case o.wait:
		wait := time.Duration(o.timeout)
		if wait <= 0 {
			wait = h.policy.Wait
		}
		in.Expires = e.at.Add(max(wait, ttl))
	}
	if in.Reject != nil {
		h.count.add(countRequestsBad)
	}
	return h.begin(ctx, e, in)
}

func (h *Handler) cancelRequest(ctx context.Context, e envelope, m bus.Message) error {
	r, err := decode[events.CancelRequest](m)
	if err != nil || r.Job == "" {
		text := "the request names no job"
		if err != nil {
			text = fmt.Sprintf("undecodable request: %v", err)
		}
		return h.reject(ctx, e, m, &events.Error{Code: events.CodeBadRequest, Message: text, Hint: `a request is {"job":"ID"}`})
	}
	if events.CheckName(r.Job) != nil {
		return h.reject(ctx, e, m, &events.Error{Code: events.CodeBadRequest, Message: "the name of the job is too long"})
	}
	if r.Requester == "" {
		r.Requester = e.requester
	}
	k := key{e.key.testbed, r.Job}
	err = h.submit(ctx, k, job.Cancel{Reason: r.Reason, Requester: r.Requester})
	var refusal *job.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	if refusal.Reason != job.ReasonJob {
		h.log.Info("cancel without effect", "job", r.Job, "err", refusal)
		return nil
	}
	// No such job: it may not be read yet, or not be taken yet.
	if newer, err := h.behind(ctx, events.JobFacts(k.testbed, k.job), 0); err != nil || newer {
		return bus.Retry(cancelRetry, errors.Join(err, refusal))
	}
	if h.clock.Now().Before(m.Time.Add(cancelPatience)) {
		return bus.Retry(cancelRetry, refusal)
	}
	return h.reject(ctx, e, m, &events.Error{Code: events.CodeNotFound, Message: fmt.Sprintf("no job %s in testbed %s", r.Job, k.testbed), Hint: "run: omf jobs"})
}
