package power

import (
	"context"
	"errors"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
)

// Resident asks the agent on a node's own disk, which answers requests for the
// power of the node as far as a running system can. Whoever is root there can
// answer in its place, so what it says is good for asking it, and for telling
// people; it decides nothing else.
type Resident struct{ Requester Requester }

// Running is the boot that runs. The error wraps bus.ErrNoResponders where
// nobody is there.
func (a Resident) Running(ctx context.Context, testbed, node string) (boot string, err error) {
	state := State{Cycles: -1}
	q := Request{Testbed: testbed, Node: node, Action: events.PowerStatus}
	err = a.Requester.Request(ctx, events.PowerSubject(testbed, node, q.Action), q, &state)
	if err == nil {
		err = settle(&state)
	}
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return "", err
	case err != nil:
		return "", fmt.Errorf("resident agent: %w", err)
	case state.Power != On || state.Boot == "":
		return "", fmt.Errorf("resident agent: %w: power %q, boot %q of a system that answers", ErrAnswer, state.Power, clip(state.Boot))
	}
	return state.Boot, nil
}

// Leave has a boot end: Action is soft or reset, and Boot is set.
func (a Resident) Leave(ctx context.Context, r Request) error {
	var state State
	if err := a.Requester.Request(ctx, events.PowerSubject(r.Testbed, r.Node, r.Action), r, &state); err != nil {
		return fmt.Errorf("resident agent: %w", err)
	}
	return nil
}
