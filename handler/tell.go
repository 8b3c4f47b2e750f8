package handler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
)

// switchedAtOnce is how many nodes are switched or asked side by side for
// people: a cabinet does not like 400 machines that start in one moment.
const switchedAtOnce = 32

// answerPower switches nodes by hand, or asks for their power. Nodes that a
// job holds, and protected ones, are not switched: then none is.
func (h *Handler) answerPower(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	var q events.PowerQuery
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	if !slices.Contains(power.Actions(), q.Action) {
		return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("power: no action %q; there are %s", q.Action, strings.Join(power.Actions(), ", "))}
	}
	nodes, missing, refusal := h.resolve(tb, q.Nodes)
	if refusal != nil {
		return nil, refusal
	}
	h.newest(ctx)
	if q.Action != events.PowerStatus {
		if err := h.switchable(tb, nodes); err != nil {
			return nil, err
		}
		h.log.Info("power by hand", "testbed", tb.Name, "action", q.Action, "nodes", q.Nodes, "by", q.By)
	}
	out := events.PowerReport{Nodes: make([]events.PowerResult, len(nodes)), Missing: missing}
	var all sync.WaitGroup
	places := make(chan struct{}, switchedAtOnce)
	for i, n := range nodes {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			out.Nodes[i] = h.tell(ctx, tb.Name, n, q.Action)
		})
	}
	all.Wait()
	return out, nil
}

// switchable refuses when a node may not be switched.
func (h *Handler) switchable(tb *inventory.Testbed, nodes []*inventory.Node) error {
	held, _ := h.book.lease(tb.Name)
	for _, n := range nodes {
		_, protected := held.Protected(n.Name)
		switch holder := held.Holder(n.Name); {
		case holder != "":
			return &events.Error{Code: events.CodeLeased, Job: holder, Message: fmt.Sprintf("node %s is held by job %s", n.Name, holder),
				Hint: "wait for it, or cancel it: omf job cancel " + holder}
		case protected || n.Protected:
			return &events.Error{Code: events.CodeProtected, Message: fmt.Sprintf("node %s is protected", n.Name)}
		}
	}
	return nil
}

// tell has the controller of one node act.
func (h *Handler) tell(ctx context.Context, testbed string, n *inventory.Node, action string) events.PowerResult {
	out := events.PowerResult{Node: n.Name, X: n.X, Y: n.Y, Power: power.Unknown}
	drv, ok := h.drivers.of(testbed, n.Name)
	if !ok {
		out.Error = &events.Error{Code: events.CodeUnsupported, Message: "the node has no power driver"}
		return out
	}
	st, err := drv.Do(ctx, power.Request{Testbed: testbed, Node: n.Name, Action: action})
	if err != nil {
		if out.Error = events.AsError(err); errors.Is(err, bus.ErrNoResponders) {
			out.Error = &events.Error{Code: events.CodeUnavailable, Message: "nobody answers for the power of " + n.Name}
		}
		return out
	}
	out.Power = st.Power
	return out
}
