package handler

import (
	"context"

	"loadnode/events"
	"loadnode/handler/job"
)

// joinShare is the part of the time to join that the agent may use: it has to
// say why it did not succeed before the deadline of the job says that it is
// silent.
const joinShare = 2

// load tells the agent to load. The agent answers a repeated command with the
// running operation, so that to repeat is always harmless.
func (k *keeper) load(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	n, ok := s.Node(e.Node)
	if !ok || s.Served == nil {
		return nil, nil
	}
	b := s.Plan.Budgets
	_, err := k.h.command(ctx, k.key.testbed, e.Node, events.VerbLoad, events.LoadCommand{
		NodeRef: k.ref(e), Effect: e.ID, Image: s.Plan.Image, Session: s.Served.Session, Disk: n.Disk,
		Verify: s.Plan.Verify, Free: s.Plan.Free, Resize: s.Plan.Resize, Personalise: s.Plan.Personalise, Join: b.Join / joinShare, Stall: b.Stall, Deadline: lastMoment(s, e),
	})
	switch refusal := remote(err); {
	case err == nil:
		return nil, nil
	case refusal != nil && !passing(err):
		return job.NotLoaded{Node: e.Node, Attempt: e.Attempt, Error: *refusal}, nil
	}
	return nil, err
}
