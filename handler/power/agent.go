package power

import (
	"context"
	"errors"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// agent asks the node's own agent: soft and reset, while its system runs. In
// the imaging system it obeys commands, on the node's own disk it is a
// resident.
type agent struct {
	requester Requester
	spec      inventory.Power
}

func newAgent(spec inventory.Power, deps Deps) (Driver, error) {
	if deps.Requester == nil {
		return nil, fmt.Errorf("power driver agent: %w: it is not connected to a bus", ErrDriver)
	}
	return &agent{deps.Requester, spec}, nil
}

// Repeatable: the agent acts once for each effect and for one boot only, but
// whether the boot that answers is still the one before is for the caller to
// see.
func (a *agent) Repeatable() bool { return false }

func (a *agent) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, a.spec.Timeout, "agent", a.do)
}

func (a *agent) do(ctx context.Context, r Request) (State, error) {
	verb := events.VerbHalt
	switch r.Action {
	case events.PowerSoft, events.PowerStatus:
	case events.PowerReset:
		verb = events.VerbReboot
	case events.PowerOff:
		return State{}, cannot("agent", r.Action, "it can only ask the system to shut down, which is soft")
	default:
		return State{}, cannot("agent", r.Action, "a machine that is off has no agent; redfish, ipmi, cmc, exec and wol can do it")
	}
	unknown := State{Power: Unknown, Cycles: -1}
	var reply events.CommandReply
	err := a.requester.Request(ctx, events.CommandSubject(r.Testbed, r.Node, events.VerbProbe), events.NodeRef{Node: r.Node}, &reply)
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return a.resident(ctx, r)
	case err != nil:
		return State{}, fmt.Errorf("probe: %w", err)
	case len(reply.Boot) > 256:
		return State{}, fmt.Errorf("probe: %w: boot id of %d bytes", ErrAnswer, len(reply.Boot))
	case r.Action == events.PowerStatus:
		return State{Power: On, Boot: reply.Boot, Cycles: -1}, nil
	}
	cmd := events.LeaveCommand{NodeRef: events.NodeRef{Node: r.Node, Boot: reply.Boot}, Effect: r.Effect}
	if err := a.requester.Request(ctx, events.CommandSubject(r.Testbed, r.Node, verb), cmd, &reply); err != nil {
		return State{}, fmt.Errorf("%s: %w", verb, err)
	}
	return unknown, nil
}

func (a *agent) resident(ctx context.Context, r Request) (State, error) {
	there := Resident{a.requester}
	boot, err := there.Running(ctx, r.Testbed, r.Node)
	switch {
	case errors.Is(err, bus.ErrNoResponders) && r.Action == events.PowerStatus:
		return State{Power: Unknown, Cycles: -1}, nil // off, starting, or cut off
	case errors.Is(err, bus.ErrNoResponders):
		return State{}, fmt.Errorf("no agent of the node is there to ask: %w", err)
	case err != nil:
		return State{}, err
	case r.Action == events.PowerStatus:
		return State{Power: On, Boot: boot, Cycles: -1}, nil
	}
	r.Boot = boot
	return State{Power: Unknown, Cycles: -1}, there.Leave(ctx, r)
}
