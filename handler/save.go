package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
)

const (
	// placeTries and placeRetry bound how long one report of a save that is
	// done waits for the image service. After that the agent is asked about it
	// again (watch), and reports again.
	placeTries = 40
	placeRetry = 500 * time.Millisecond
)

// planSave resolves the node of a save, makes sure that the name of the image
// is free, and leases.
func (k *keeper) planSave(ctx context.Context, s job.State) (job.Input, error) {
	h, r := k.h, *s.Save
	tb, ok := h.inv.Testbed(k.key.testbed)
	if !ok {
		return job.Refuse{Error: *h.noTestbed(k.key.testbed)}, nil
	}
	n, refusal := h.one(tb, r.Node)
	if refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	name := r.Image
	if name == "" {
		name = events.SaveName(tb.Name, n.Name, n.X, n.Y, s.Requested)
	}
	if refusal, err := k.checkName(ctx, s, name); err != nil {
		return nil, err
	} else if refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	if refusal := k.unreachable(ctx, n); refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	if r.Then == "" {
		r.Then = n.Then
	}
	policy := h.policy.Policy
	policy.CheckIn = max(policy.CheckIn, n.Boot.Checkin)
	policy.Leave = cmp.Or(n.Power.Escalate, policy.Leave)
	plan, refusal := policy.PlanSave(k.key.job, job.SaveWish{
		Request: r, Requester: s.Requester, Node: h.planned(tb, n, r.Disk), Image: name, Now: h.clock.Now(),
	})
	if refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	return k.planWith(ctx, tb, plan, r.Wait)
}

// unreachable says why a node cannot send to the image service, nil if it can.
// A service that cannot say now is believed: it was just asked for the name.
func (k *keeper) unreachable(ctx context.Context, n *inventory.Node) *events.Error {
	var st events.FrisbeeState
	if err := k.h.ask(ctx, events.FrisbeeSubject(k.key.testbed, events.FrisbeeStatus), nil, &st); err != nil {
		return nil
	}
	switch legacy := n.Agent == inventory.AgentLegacy; {
	case legacy && n.Legacy.NFS != "" && !st.Directory:
		return &events.Error{Code: events.CodeUnsupported, Hint: "start omf serve with --save-dir",
			Message: fmt.Sprintf("%s saves to %s, and the image service of testbed %s was not told where it has that directory", n.Name, n.Legacy.NFS, k.key.testbed)}
	case !legacy && st.HTTP == "":
		return &events.Error{Code: events.CodeUnsupported, Hint: "start omf serve with --http",
			Message: fmt.Sprintf("the image service of testbed %s has no HTTP address that a node could send its image to", k.key.testbed)}
	}
	return nil
}

// shares reports whether a node saves to the directory that the image service
// shares with it.
func (h *Handler) shares(testbed, node string) bool {
	tb, ok := h.inv.Testbed(testbed)
	if !ok {
		return false
	}
	n, ok := tb.Node(node)
	return ok && n.Agent == inventory.AgentLegacy && n.Legacy.NFS != ""
}

// one is the only node that an expression means. More than one is a mistake,
// and which of them was meant cannot be known.
func (h *Handler) one(tb *inventory.Testbed, expr string) (*inventory.Node, *events.Error) {
	nodes, missing, refusal := h.resolve(tb, expr)
	switch {
	case refusal != nil:
		return nil, refusal
	case len(nodes) == 1 && len(missing) == 0:
		return nodes[0], nil
	}
	all := append(names(nodes), missing...)
	const shown = 8
	text := strings.Join(all[:min(len(all), shown)], ", ")
	if len(all) > shown {
		text += fmt.Sprintf(" and %d more", len(all)-shown)
	}
	return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("a save is of one node, and %.64q is %s", expr, text), Hint: "save one after the other"}
}

// checkName refuses the name of a new image that the catalogue does not allow,
// or has.
func (k *keeper) checkName(ctx context.Context, s job.State, name string) (*events.Error, error) {
	img, err := k.checkImage(ctx, s, name)
	switch {
	case err != nil:
		return nil, err
	case img.refusal != nil && img.refusal.Code == events.CodeImage:
		return nil, nil // there is none: that is what is wanted
	case img.refusal != nil && img.refusal.Code != events.CodeDamaged:
		return img.refusal, nil
	}
	return &events.Error{Code: events.CodeConflict, Message: fmt.Sprintf("there is an image %s already", name), Hint: "choose another name, or see: omf images ls"}, nil
}

// save gets a place for the image and tells the agent to save there. Both
// answer a repeated question with what has become of the first one.
func (k *keeper) save(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	h, tb := k.h, k.key.testbed
	n, ok := s.Node(e.Node)
	if !ok || !s.Saves() {
		return nil, nil
	}
	for earlier := 1; earlier < e.Attempt; earlier++ {
		if err := h.abandon(ctx, k.key, s.Image(), earlier); err != nil {
			return k.placeless(s, e, err)
		}
	}
	place, err := h.place(ctx, k.key, s, n, e.Attempt, false)
	if refusal := remote(err); refusal != nil && refusal.Code == events.CodeConflict {
		// The image may be that of an earlier attempt, whose agent was lost
		// when all was done.
		for earlier := 1; earlier < e.Attempt; earlier++ {
			if p, err := h.place(ctx, k.key, s, n, earlier, false); err == nil && p.State == events.PlaceStored {
				return job.Placed{Node: e.Node, Attempt: e.Attempt, Place: p}, nil
			}
		}
	}
	if err != nil {
		return k.placeless(s, e, err)
	}
	if place.State != events.PlaceOpen {
		return k.afterwards(ctx, s, e, place)
	}
	_, err = h.command(ctx, tb, e.Node, events.VerbSave, events.SaveCommand{
		NodeRef: k.ref(e), Effect: e.ID, Image: s.Image(), Place: place, Disk: n.Disk, Level: s.Plan.Save.Level, Deadline: lastMoment(s, e),
	})
	switch refusal := remote(err); {
	case err == nil:
		return nil, nil
	case refusal != nil && !passing(err):
		return job.NotLoaded{Node: e.Node, Attempt: e.Attempt, Error: *refusal}, nil
	}
	return nil, err
}

// afterwards looks after an attempt whose place is used already: its agent is
// at work or has ended, or it was started anew and cannot begin there again.
func (k *keeper) afterwards(ctx context.Context, s job.State, e job.Effect, place events.Place) (job.Input, error) {
	reply, err := k.h.command(ctx, k.key.testbed, e.Node, events.VerbProbe, k.ref(e))
	switch {
	case err != nil:
		return nil, err
	case reply.Job == k.key.job && reply.Attempt == e.Attempt:
		return nil, nil // it tells, now that it was asked
	case place.State == events.PlaceReceiving:
		// What comes there has lost its sender, or is of somebody else.
		if err := k.h.abandon(ctx, k.key, s.Image(), e.Attempt); err != nil {
			return nil, err
		}
		return nil, &later{err: fmt.Errorf("the place of %s is given up", e.ID)}
	}
	return job.Placed{Node: e.Node, Attempt: e.Attempt, Place: place}, nil
}

// lastMoment is when an attempt that is to begin by the deadline of the effect
// ends at the latest.
func lastMoment(s job.State, e job.Effect) time.Time {
	deadline := e.Deadline.Add(time.Duration(s.Plan.Budgets.Load))
	if s.Plan.Deadline.Before(deadline) {
		return s.Plan.Deadline
	}
	return deadline
}

// placeless says what follows when the image service gives no place: it is
// asked again until the time to begin is nearly over.
func (k *keeper) placeless(s job.State, e job.Effect, err error) (job.Input, error) {
	const last = 10 // of the time to join, which part is left to say why
	refusal := remote(err)
	nearly := e.Deadline.Add(-time.Duration(s.Plan.Budgets.Join) / last)
	switch {
	case refusal != nil && !bus.IsTransient(err):
	case k.h.clock.Now().After(nearly):
		refusal = &events.Error{Code: events.CodeUnavailable, Message: fmt.Sprintf("it does not answer: %v", err)}
	default:
		return nil, err
	}
	return job.NoPlace{Node: e.Node, Attempt: e.Attempt, Error: *refusal}, nil
}

// place asks for the place of an attempt, or for what has become of it.
// Complete says that the node has written all of the image.
func (h *Handler) place(ctx context.Context, k key, s job.State, n *job.Node, attempt int, complete bool) (events.Place, error) {
	var place events.Place
	now := h.clock.Now()
	// Longer than the agent may work, so that it has its say first.
	life := s.Plan.Budgets.Join + s.Plan.Budgets.Load + s.Plan.Budgets.Join
	shared := h.shares(k.testbed, n.Name)
	err := h.ask(ctx, events.FrisbeeSubject(k.testbed, events.FrisbeeReceive), events.ReceiveRequest{
		Image: s.Image(), Lease: job.Lease(k.job, attempt), Plain: n.Agent == string(inventory.AgentLegacy) && !shared, Life: life,
		Directory: shared, Complete: complete,
		Provenance: events.Provenance{Testbed: k.testbed, Job: k.job, Node: n.Name, Disk: n.Disk, Requester: printable(s.Plan.Requester), Time: now.UTC()},
	}, &place)
	return place, err
}

// printable is a text without control characters, which whoever made the
// request may have put into it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return -1
	}, s)
}

// confirmSave asks the image service whether what an agent claims to have
// saved is stored. A node may say what it likes: the answer of the image
// service makes the fact.
func (h *Handler) confirmSave(ctx context.Context, k key, m bus.Message, r job.Report, refusal *job.Refusal) error {
	s, _, _ := h.book.job(k)
	n, ok := s.Node(r.Node)
	ref, _ := job.Ref(r.Data)
	if !ok || !s.Saves() || ref.Attempt != n.Attempt {
		h.refuse(m, refusal)
		return nil
	}
	place, err := h.place(ctx, k, s, n, ref.Attempt, true)
	silent := err != nil && (remote(err) == nil || bus.IsTransient(err))
	if silent || err == nil && place.State == events.PlaceReceiving {
		if m.Delivered < placeTries {
			return bus.Retry(placeRetry, fmt.Errorf("place of %s is %q: %w", job.Lease(k.job, ref.Attempt), place.State, errors.Join(err, refusal)))
		}
		h.refuse(m, refusal)
		return nil
	}
	// A place that is refused is one that was never there.
	r.Place = &place
	if err := h.submit(ctx, k, r); !errors.As(err, &refusal) {
		return err
	}
	h.refuse(m, refusal)
	return nil
}

// abandon gives the place of an attempt up, and what has come to it.
func (h *Handler) abandon(ctx context.Context, k key, image string, attempt int) error {
	return h.ask(ctx, events.FrisbeeSubject(k.testbed, events.FrisbeeAbandon), events.LeaseRelease{Image: image, Lease: job.Lease(k.job, attempt)}, nil)
}

// abandonPlaces gives up the places of a job that has not stored its image.
// What it misses the sweep finds, or the end of the place's life.
func (h *Handler) abandonPlaces(ctx context.Context, k key, s job.State) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for _, n := range s.Nodes() {
		attempts := n.Attempt
		if s.Result != nil && len(s.Result.Results) == 1 { // archived, the node knows nothing
			attempts = s.Result.Results[0].Attempts
		}
		for a := 1; a <= attempts && n.Save == nil; a++ {
			if err := h.abandon(ctx, k, s.Image(), a); err != nil && ctx.Err() == nil {
				h.log.Info("place of a save not given up yet", "job", k.job, "image", s.Image(), "attempt", a, "err", err)
			}
		}
	}
}

// sweepPlaces gives up the places of ended jobs that a crash, or an image
// service that did not answer, has left. The image is what the two have in
// common; the lease says whose place it is.
func (h *Handler) sweepPlaces(ctx context.Context, testbed string) {
	var l events.PlaceList
	if err := h.ask(ctx, events.FrisbeeSubject(testbed, events.FrisbeePlaces), nil, &l); err != nil {
		return // next time
	}
	waiting := make(map[string]bool)
	for _, p := range l.Places {
		if p.State == events.PlaceOpen || p.State == events.PlaceReceiving {
			waiting[p.Image] = true
		}
	}
	if len(waiting) == 0 {
		return
	}
	for _, s := range h.book.all(testbed) {
		if s.Saves() && s.Plan != nil && s.Over() && waiting[s.Image()] && (s.Result == nil || s.Result.OK == 0) {
			h.abandonPlaces(ctx, key{testbed, s.Job}, s)
		}
	}
}
