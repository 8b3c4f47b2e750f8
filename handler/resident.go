package handler

import (
	"context"
	"errors"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

// residentTimeout bounds the question to all agents on disks whose nodes were
// expected in the imaging system: a decision waits for it.
const residentTimeout = time.Second

// found is the agent of a node that answers: in the imaging system, or on the
// node's own disk.
type found struct {
	h        *Handler
	testbed  string
	boot     string
	resident bool
}

// findAgent looks for whoever can reboot a node from within.
func (h *Handler) findAgent(ctx context.Context, testbed, node string) (found, bool) {
	reply, err := h.command(ctx, testbed, node, events.VerbProbe, events.NodeRef{Node: node})
	if err == nil {
		return found{h: h, testbed: testbed, boot: reply.Boot}, true
	}
	if !errors.Is(err, bus.ErrNoResponders) {
		return found{}, false
	}
	boot, err := h.askResident(ctx, testbed, node)
	return found{h: h, testbed: testbed, boot: boot, resident: true}, err == nil
}

// askResident is the boot that the agent on a node's own disk runs in. Where
// the power of the node is served on the bus, that service has its place.
func (h *Handler) askResident(ctx context.Context, testbed, node string) (boot string, err error) {
	if tb, ok := h.inv.Testbed(testbed); ok {
		if n, ok := tb.Node(node); !ok || n.Power.Driver == inventory.PowerBus {
			return "", bus.ErrNoResponders
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return power.Resident{Requester: h.conn}.Running(ctx, testbed, node)
}

// restarted reports whether a node runs another boot than the one that an
// effect is to end. An agent in the imaging system has reported its boot, and
// will report the new one. A resident reports nothing: what it was found to
// run first is the boot to end.
func (k *keeper) restarted(e job.Effect, agent found) bool {
	if !agent.resident {
		return e.Boot != "" && agent.boot != e.Boot
	}
	first, _ := k.residents.LoadOrStore(e.ID, agent.boot)
	return first != agent.boot
}

// reboot has the agent reboot its machine, for an attempt.
func (f found) reboot(ctx context.Context, ref events.NodeRef, effect string) error {
	ref.Boot = f.boot
	if !f.resident {
		_, err := f.h.command(ctx, f.testbed, ref.Node, events.VerbReboot, events.LeaveCommand{NodeRef: ref, Effect: effect})
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return power.Resident{Requester: f.h.conn}.Leave(ctx, power.Request{Testbed: f.testbed, Node: ref.Node, Action: events.PowerReset, Effect: effect, Boot: f.boot})
}

// ownDisks looks whether nodes that are late for the imaging system run their
// own disk instead: those who read why a node failed want to know.
func (h *Handler) ownDisks(ctx context.Context, testbed string, s job.State, at job.Moment) {
	ctx, cancel := context.WithTimeout(ctx, residentTimeout)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, askedAtOnce)
	for _, n := range s.Nodes() {
		if !n.Late(at) {
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			defer func() { <-places }()
			if boot, err := h.askResident(ctx, testbed, n.Name); err == nil {
				h.nodes.note(testbed, n.Name, job.Sighting{Boot: boot, Time: at.Now})
			}
		})
	}
}
