package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

const (
	// askedAtOnce is how many agents are asked side by side for people.
	askedAtOnce = 64
	// agentTimeout is how long an agent may take to say that it is there: with
	// askedAtOnce, events.MaxAgents silent ones take less time than who asks has.
	agentTimeout = 2 * time.Second
)

// residentState is what an agent on a node's own disk is said to do.
const residentState = "resident"

// answerAgents asks agents whether they are there, for those who may not ask
// them. It disturbs nothing and asks nodes that jobs hold as well.
func (h *Handler) answerAgents(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	var q events.NodesQuery
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	nodes, missing, refusal := h.resolve(tb, q.Nodes)
	if refusal != nil {
		return nil, refusal
	}
	if len(nodes) > events.MaxAgents {
		return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("agents: %d nodes, allowed are %d at once; ask for some after the others", len(nodes), events.MaxAgents)}
	}
	out := events.AgentReport{Nodes: make([]events.AgentState, len(nodes)), Missing: missing}
	var all sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for i, n := range nodes {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			out.Nodes[i] = h.askAgent(ctx, tb.Name, n.Name)
		})
	}
	all.Wait()
	return out, nil
}

// askAgent asks one agent. That nobody is there is no error, it is the answer.
func (h *Handler) askAgent(ctx context.Context, testbed, node string) events.AgentState {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	out := events.AgentState{Node: node}
	reply, err := h.command(ctx, testbed, node, events.VerbProbe, nil)
	if errors.Is(err, bus.ErrNoResponders) {
		reply.State = residentState
		reply.Boot, err = h.askResident(ctx, testbed, node)
	}
	switch {
	case err == nil:
		out.Answers, out.Boot, out.State, out.Imaging = true, reply.Boot, reply.State, reply.Imaging
	case !errors.Is(err, bus.ErrNoResponders):
		out.Error = events.AsError(err)
	}
	return out
}
