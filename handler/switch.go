package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

// drivers finds the power driver of a node. Nodes with the same specification
// share one.
type drivers map[key]power.Driver

func newDrivers(inv *inventory.Inventory, req power.Requester, make_ func(inventory.Power, power.Deps) (power.Driver, error)) (drivers, error) {
	d := make(drivers)
	bySpec := make(map[string]power.Driver)
	deps := power.Deps{Requester: req, Addresses: inv.Addresses, Place: inv.Place}
	for _, tb := range inv.Testbeds() {
		for _, n := range tb.Nodes() {
			spec := fmt.Sprintf("%#v", n.Power)
			drv := bySpec[spec]
			if drv == nil {
				var err error
				if drv, err = make_(n.Power, deps); err != nil {
					return nil, fmt.Errorf("handler: node %s of testbed %s: %w", n.Name, tb.Name, err)
				}
				bySpec[spec] = drv
			}
			d[key{tb.Name, n.Name}] = drv
		}
	}
	return d, nil
}

func (d drivers) of(testbed, node string) (power.Driver, bool) {
	drv, ok := d[key{testbed, node}]
	return drv, ok
}

// switched reports what the controller knows: on, off or unknown.
func (h *Handler) switched(ctx context.Context, testbed, node string) power.State {
	drv, ok := h.drivers.of(testbed, node)
	if !ok {
		return power.State{Power: power.Unknown}
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	st, err := drv.Do(ctx, power.Request{Testbed: testbed, Node: node, Action: events.PowerStatus})
	if err != nil {
		return power.State{Power: power.Unknown}
	}
	return st
}

// reboot brings a node into its imaging system: through its agent if there is
// one and it was not forced before, otherwise through its power controller.
// A driver that remembers effects may be asked again; with any other, what
// may have happened already is looked at and never done twice.
func (k *keeper) reboot(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	h, tb := k.h, k.key.testbed
	n, _ := s.Node(e.Node)
	drv, ok := h.drivers.of(tb, e.Node)
	if n == nil || !ok {
		return job.NotBooted{Node: e.Node, Attempt: e.Attempt, Message: "the inventory has this node no more"}, nil
	}
	if err := k.flag(e); err != nil {
		if k.hopeless(err, e.Deadline, s.Plan.Budgets.CheckIn) {
			return job.NotBooted{Node: e.Node, Attempt: e.Attempt, Message: err.Error()}, nil
		}
		return nil, err
	}
	native := n.Agent != string(inventory.AgentLegacy)
	if !drv.Repeatable() || !e.Hard {
		agent, answers := h.findAgent(ctx, tb, e.Node)
		if answers && k.restarted(e, agent) {
			return nil, nil
		}
		if !drv.Repeatable() && !k.own.fresh(h.book.asked(k.key, e.ID)) && h.switched(ctx, tb, e.Node).Power != power.Off {
			// Another process may have acted. If it did, the node reports in
			// time; if not, the deadline leads to the next attempt.
			return nil, nil
		}
		// A driver that leads the next start into the network has to be asked
		// itself: the agent's reboot would lead to the disk.
		if answers && native && !e.Hard && !power.Netboots(drv) {
			if err := h.pace(ctx); err != nil {
				return nil, err
			}
			if err := agent.reboot(ctx, k.ref(e), e.ID); err == nil {
				return nil, nil
			}
		}
	}
	st := h.switched(ctx, tb, e.Node)
	if st.LastEffect == e.ID {
		return nil, nil
	}
	if err := h.pace(ctx); err != nil {
		return nil, err
	}
	action := events.PowerReset
	if st.Power == power.Off {
		action = events.PowerOn
	}
	req := power.Request{Testbed: tb, Node: e.Node, Action: action, Effect: e.ID, Netboot: true}
	_, err := drv.Do(ctx, req)
	if errors.Is(err, power.ErrUnsupported) && action == events.PowerReset && st.Power == power.Unknown {
		// Magic packets: nobody knows whether the node is on, and if it is off
		// this helps.
		req.Action = events.PowerOn
		if _, onErr := drv.Do(ctx, req); onErr == nil {
			err = nil
		}
	}
	if err != nil && k.hopeless(err, e.Deadline, s.Plan.Budgets.CheckIn) {
		return job.NotBooted{Node: e.Node, Attempt: e.Attempt, Message: fmt.Sprintf("power %s: %v", action, err)}, nil
	}
	return nil, err
}

// flag sets the boot flag of a node that is about to start.
func (k *keeper) flag(e job.Effect) error {
	if tb, ok := k.h.inv.Testbed(k.key.testbed); ok {
		if n, ok := tb.Node(e.Node); ok {
			return k.h.flags.set(tb.Name, n)
		}
	}
	return nil
}

// hopeless reports whether an effect that failed is to be given up: when the
// error says so of itself, or half of its time is over.
func (k *keeper) hopeless(err error, deadline time.Time, budget events.Duration) bool {
	return !bus.IsTransient(err) || k.h.clock.Now().After(deadline.Add(-time.Duration(budget)/2))
}

// depart has a loaded node shut down or reboot into its disk.
func (k *keeper) depart(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	if e.Hard {
		return k.force(ctx, s, e)
	}
	h, tb := k.h, k.key.testbed
	off := s.Plan.Then != events.ThenReboot
	if off && h.switched(ctx, tb, e.Node).Power == power.Off {
		return job.Left{Node: e.Node, Leave: e.Leave, Seen: job.SeenPower}, nil
	}
	verb := events.VerbHalt
	if !off {
		verb = events.VerbReboot
	}
	cmd := events.LeaveCommand{NodeRef: k.ref(e), Effect: e.ID}
	_, err := h.command(ctx, tb, e.Node, verb, cmd)
	switch refusal := remote(err); {
	case err == nil && off && h.switched(ctx, tb, e.Node).Power != power.Unknown:
		return nil, &later{err: fmt.Errorf("node %s is on its way", e.Node)}
	case err == nil:
		return nil, nil // its report tells
	case refusal != nil && refusal.Code == events.CodeStale && !off:
		// It runs another boot than the one that was to end.
		return job.Left{Node: e.Node, Leave: e.Leave, Seen: "up"}, nil
	case k.hopeless(err, e.Deadline, s.Plan.Budgets.Leave):
		return job.NotLeft{Node: e.Node, Leave: e.Leave, Message: fmt.Sprintf("the agent did not take %s: %v", verb, err)}, nil
	}
	return nil, err
}

// force uses the power controller on a node that does not leave by itself.
func (k *keeper) force(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	h, tb := k.h, k.key.testbed
	drv, ok := h.drivers.of(tb, e.Node)
	if !ok {
		return job.NotLeft{Node: e.Node, Leave: e.Leave, Message: "the inventory has this node no more"}, nil
	}
	req := power.Request{Testbed: tb, Node: e.Node, Action: events.PowerOff, Effect: e.ID}
	if s.Plan.Then == events.ThenReboot {
		req.Action = events.PowerReset
		if !drv.Repeatable() && !k.own.fresh(h.book.asked(k.key, e.ID)) {
			return nil, nil // it may have happened; never twice
		}
	}
	_, err := drv.Do(ctx, req)
	switch {
	case err != nil && k.hopeless(err, e.Deadline, s.Plan.Budgets.Leave):
		return job.NotLeft{Node: e.Node, Leave: e.Leave, Message: fmt.Sprintf("power %s: %v", req.Action, err)}, nil
	case err != nil:
		return nil, err
	case req.Action == events.PowerOff && h.switched(ctx, tb, e.Node).Power == power.On:
		return nil, &later{err: fmt.Errorf("node %s is still on", e.Node)}
	}
	return job.Left{Node: e.Node, Leave: e.Leave, Seen: job.SeenPower}, nil
}

// stop ends what a node does for a cancelled job. A node that would have been
// shut down is switched off; one that was to stay, or to boot a disk that is
// now only partly written, is left as it is.
func (k *keeper) stop(ctx context.Context, s job.State, e job.Effect) (job.Input, error) {
	h, tb := k.h, k.key.testbed
	said := "the agent confirmed that it stopped"
	ref := k.ref(e)
	ref.Attempt = 0 // any
	if _, err := h.command(ctx, tb, e.Node, events.VerbStop, events.StopCommand{NodeRef: ref, Effect: e.ID}); err != nil {
		said = fmt.Sprintf("the agent did not answer: %v", err)
	}
	if drv, ok := h.drivers.of(tb, e.Node); ok && s.Plan.Then == events.ThenShutdown {
		_, err := drv.Do(ctx, power.Request{Testbed: tb, Node: e.Node, Action: events.PowerOff, Effect: e.ID})
		switch {
		case err == nil:
			said += "; switched off"
		case k.hopeless(err, e.Deadline, s.Plan.Budgets.Leave):
			said += fmt.Sprintf("; not switched off: %v", err)
		default:
			return nil, err
		}
	}
	return job.Stopped{Node: e.Node, Message: said}, nil
}
