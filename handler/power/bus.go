package power

import (
	"context"
	"fmt"

	"loadnode/events"
	"loadnode/handler/inventory"
)

// service asks whoever serves the node's power on the bus.
type service struct {
	requester Requester
	spec      inventory.Power
}

func newBus(spec inventory.Power, deps Deps) (Driver, error) {
	if deps.Requester == nil {
		return nil, fmt.Errorf("power driver bus: %w: it is not connected to a bus", ErrDriver)
	}
	return &service{deps.Requester, spec}, nil
}

// Repeatable: the service acts once for each effect.
func (b *service) Repeatable() bool { return true }

func (b *service) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, b.spec.Timeout, "", b.do)
}

func (b *service) do(ctx context.Context, r Request) (State, error) {
	state := State{Cycles: -1} // what an answer does not say stays unknown
	if err := b.requester.Request(ctx, events.PowerSubject(r.Testbed, r.Node, r.Action), r, &state); err != nil {
		return State{}, err
	}
	err := settle(&state)
	return state, err
}
