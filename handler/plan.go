package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/lease"
	"loadnode/handler/nodeset"
)

// waitRetry is how often a waiting request looks again by itself; a change of
// the leases wakes it at once.
const waitRetry = 5 * time.Second

// plan resolves the nodes of a request, checks the image, and leases.
func (k *keeper) plan(ctx context.Context, s job.State) (job.Input, error) {
	if s.Saves() {
		return k.planSave(ctx, s)
	}
	h, r := k.h, s.Request
	tb, ok := h.inv.Testbed(k.key.testbed)
	if !ok {
		return job.Refuse{Error: *h.noTestbed(k.key.testbed)}, nil
	}
	nodes, missing, refusal := h.resolve(tb, r.Nodes)
	if refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	img, err := k.checkImage(ctx, s, r.Image)
	if err != nil {
		return nil, err
	}
	if img.refusal != nil {
		return job.Refuse{Error: *img.refusal}, nil
	}
	wish := job.Wish{Request: r, Requester: s.Requester, Missing: missing, Image: img.Image, Now: h.clock.Now()}
	policy, leave := h.policy.Policy, time.Duration(0)
	then, agreed := events.Then(""), true
	for i, n := range nodes {
		policy.CheckIn = max(policy.CheckIn, n.Boot.Checkin)
		leave = max(leave, cmp.Or(n.Power.Escalate, policy.Leave))
		agreed = agreed && (i == 0 || n.Then == then)
		then = n.Then
		wish.Nodes = append(wish.Nodes, h.planned(tb, n, r.Disk))
	}
	if r.Then == "" && agreed {
		wish.Request.Then = then
	}
	policy.Leave = leave
	policy.CheckIn += h.policy.Stagger * time.Duration(min(len(nodes), policy.Window)-1)
	plan, refusal := policy.Plan(k.key.job, wish)
	if refusal != nil {
		return job.Refuse{Error: *refusal}, nil
	}
	return k.planWith(ctx, tb, plan, r.Wait)
}

// planned is a node as the plan of a job has it.
func (h *Handler) planned(tb *inventory.Testbed, n *inventory.Node, disk string) events.PlannedNode {
	p := events.PlannedNode{Name: n.Name, Disk: cmp.Or(disk, n.Disk), Agent: string(n.Agent), Power: n.Power.Driver}
	if d, ok := h.drivers.of(tb.Name, n.Name); ok {
		p.Repeatable = d.Repeatable()
	}
	return p
}

// planWith leases the nodes of a plan, which then stands.
func (k *keeper) planWith(ctx context.Context, tb *inventory.Testbed, plan events.JobAccepted, wait bool) (job.Input, error) {
	if plan.DryRun {
		return job.Planned{Plan: plan}, nil
	}
	_, seen := k.h.book.lease(tb.Name)
	refusal, err := k.h.lease(ctx, tb, k.key, plan.Nodes)
	switch {
	case err != nil:
		return nil, err
	case refusal != nil && refusal.Code == events.CodeLeased && wait:
		return nil, k.awaitLease(ctx, tb.Name, seen, refusal)
	case refusal != nil:
		return job.Refuse{Error: *refusal}, nil
	}
	return job.Planned{Plan: plan}, nil
}

// awaitLease returns when the leases have changed since seen, or after a
// while.
func (k *keeper) awaitLease(ctx context.Context, testbed string, seen uint64, refusal *events.Error) error {
	h := k.h
	k.h.log.Debug("waiting for nodes", "job", k.key.job, "err", refusal)
	// Others must not wait for a place because this one does.
	<-h.slots
	defer func() { h.slots <- struct{}{} }()
	ctx, cancel := context.WithTimeout(ctx, waitRetry)
	defer cancel()
	err := h.book.await(ctx, func() bool {
		_, seq := h.book.lease(testbed)
		return seq > seen
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	return &later{after: time.Millisecond, err: refusal}
}

// lease takes all nodes or none; the refusal tells the holder.
func (h *Handler) lease(ctx context.Context, tb *inventory.Testbed, k key, nodes []events.PlannedNode) (*events.Error, error) {
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	fixed := func(name string) bool {
		n, ok := tb.Node(name)
		return ok && n.Protected
	}
	err := h.appendLeases(ctx, k.testbed, func() ([]events.Data, error) {
		s, _ := h.book.lease(k.testbed)
		facts, refusal := lease.Take(s, k.job, names, fixed)
		if refusal != nil {
			return nil, &refused{refusal}
		}
		return facts, nil
	})
	var r *refused
	if errors.As(err, &r) {
		return r.e, nil
	}
	return nil, err
}

// refused keeps a decision of ours apart from errors of the bus.
type refused struct{ e *events.Error }

func (r *refused) Error() string { return r.e.Message }

// free releases everything that a job holds.
func (h *Handler) free(ctx context.Context, k key) error {
	return h.appendLeases(ctx, k.testbed, func() ([]events.Data, error) {
		s, _ := h.book.lease(k.testbed)
		return lease.Free(s, k.job), nil
	})
}

// resolve turns an expression into nodes of the inventory.
func (h *Handler) resolve(tb *inventory.Testbed, expr string) (nodes []*inventory.Node, missing []string, refusal *events.Error) {
	set, err := nodeset.Parse(expr)
	if err != nil {
		return nil, nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("nodes: %v", err)}
	}
	names, missing, err := set.Resolve(tb.View(func() []string { return h.active(tb.Name) }))
	if err != nil {
		return nil, nil, &events.Error{Code: events.CodeNode, Message: fmt.Sprintf("nodes: %v", err), Hint: "run: omf nodes ls"}
	}
	if len(missing) > job.MaxNodes {
		missing = append(missing[:job.MaxNodes:job.MaxNodes], "…")
	}
	for _, name := range names {
		if n, ok := tb.Node(name); ok {
			nodes = append(nodes, n)
		} else {
			missing = append(missing, name)
		}
	}
	if len(nodes) == 0 {
		what := "it names none"
		if len(missing) > 0 {
			what = "it does not have " + strings.Join(missing[:min(len(missing), 8)], ", ")
		}
		return nil, missing, &events.Error{Code: events.CodeNode, Message: fmt.Sprintf("no node of testbed %s is in the set: %s", tb.Name, what), Hint: "run: omf nodes ls"}
	}
	return nodes, missing, nil
}

// active lists the good nodes of the last load that had any.
func (h *Handler) active(testbed string) []string {
	for _, s := range h.book.all(testbed) {
		var out []string
		if s.Result != nil && !s.Saves() {
			for _, r := range s.Result.Results {
				if r.OK {
					out = append(out, r.Node)
				}
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func (h *Handler) noTestbed(name string) *events.Error {
	var names []string
	for _, tb := range h.inv.Testbeds() {
		names = append(names, tb.Name)
	}
	slices.Sort(names)
	return &events.Error{Code: events.CodeTestbed, Message: fmt.Sprintf("no testbed %q; there is %s", name, strings.Join(names, ", "))}
}

// checkedImage is what the image service says about an image.
type checkedImage struct {
	events.Image
	refusal *events.Error
}

// checkImage asks the image service. One that does not answer is waited for,
// within reason.
func (k *keeper) checkImage(ctx context.Context, s job.State, name string) (checkedImage, error) {
	h := k.h
	var out checkedImage
	err := h.ask(ctx, events.FrisbeeSubject(k.key.testbed, events.FrisbeeCheck), events.ImageQuery{Image: name}, &out.Image)
	switch e := remote(err); {
	case err == nil && (out.Digest == "" || out.Chunks <= 0):
		out.refusal = &events.Error{Code: events.CodeFailed, Message: fmt.Sprintf("the image service gave no digest for %s", name)}
	case err == nil:
	case e != nil && !bus.IsTransient(err):
		out.refusal = e
	case ctx.Err() != nil:
		return out, ctx.Err()
	case h.clock.Now().Before(s.Requested.Add(h.policy.Patience)):
		return out, err
	default:
		out.refusal = &events.Error{Code: events.CodeUnavailable, Retryable: true,
			Message: fmt.Sprintf("the image service of testbed %s does not answer: %v", k.key.testbed, err),
			Hint:    "is omf serve running with the role frisbee?"}
	}
	return out, nil
}
