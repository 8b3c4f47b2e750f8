package sim

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/events"
)

// effectMemory is how many effect ids a node remembers.
const effectMemory = 4096

// node is a machine: its power, its disk, and the boot it is in.
type node struct {
	sim     *Sim
	name    string
	addr    netip.Addr
	seed    uint64
	faults  faults
	log     *slog.Logger
	mu      sync.Mutex
	on      bool
	run     *boot // nil when off
	last    *boot // the last one begun, running or over
	cycles  int
	effects map[string]bool
	order   []string // effects, oldest first
	effect  string   // the last one
	died    bool
	cut     bool       // a save was
	random  *rand.Rand // boot times
}

func newNode(s *Sim, index int, name string) *node {
	seed := seedOf(s.cfg.Seed, name)
	return &node{
		sim: s, name: name, addr: addressOf(index), seed: seed,
		faults: faultsOf(s.cfg.Faults, name), log: s.log.With("node", name),
		effects: map[string]bool{}, random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// addressOf is the address of the index-th node: 127.77.1.1 and on.
func addressOf(index int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 77, byte(1 + index/250), byte(1 + index%250)})
}

// answer is one request to the power controller.
func (n *node) answer(r bus.Request, verb string) (any, error) {
	var req events.PowerRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Node != "" && req.Node != n.name || req.Action != "" && req.Action != verb {
		return nil, &events.Error{Code: events.CodeBadRequest,
			Message: fmt.Sprintf("power %s of %s: the request asks for %q of %q", verb, n.name, req.Action, req.Node)}
	}
	return n.power(req, verb)
}

// power does what a verb asks for and returns the state after it.
func (n *node) power(r events.PowerRequest, verb string) (events.PowerState, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if verb == events.PowerStatus {
		return n.state(), nil
	}
	if r.Effect != "" && n.effects[r.Effect] {
		return n.state(), nil
	}
	if r.Boot != "" && (!n.on || r.Boot != n.run.id) {
		return n.state(), &events.Error{Code: events.CodeStale, Message: fmt.Sprintf("power %s of %s: boot %s does not run any more", verb, n.name, r.Boot)}
	}
	switch verb {
	case events.PowerOn:
		if !n.on {
			if err := n.start(r.Netboot); err != nil {
				return n.state(), err
			}
		}
	case events.PowerOff:
		n.switchOff()
	case events.PowerSoft:
		if n.on && !n.run.shutDown() {
			n.switchOff()
		}
	case events.PowerReset, events.PowerCycle:
		if verb == events.PowerReset && !n.on {
			break // as real ones do: there is nothing to reset
		}
		n.switchOff()
		if err := n.start(r.Netboot); err != nil {
			return n.state(), err
		}
	default:
		return n.state(), &events.Error{Code: events.CodeUnsupported, Message: fmt.Sprintf("power of %s: no verb %q", n.name, verb)}
	}
	if r.Effect != "" {
		n.remember(r.Effect)
	}
	n.log.Info("power", "verb", verb, "effect", r.Effect, "netboot", r.Netboot, "on", n.on, "cycles", n.cycles)
	return n.state(), nil
}

func (n *node) remember(effect string) {
	n.effects[effect], n.effect = true, effect
	n.order = append(n.order, effect)
	if len(n.order) > effectMemory {
		delete(n.effects, n.order[0])
		n.order = n.order[1:]
	}
}

// state is what the power controller answers. n.mu is held.
func (n *node) state() events.PowerState {
	s := events.PowerState{Power: "off", LastEffect: n.effect, Cycles: n.cycles}
	if n.on {
		s.Power, s.Boot = "on", n.run.id
	}
	return s
}

// start starts the machine and counts it. n.mu is held and the machine is off.
func (n *node) start(netboot bool) error {
	if err := n.switchOn(netboot); err != nil {
		return err
	}
	n.cycles++
	return nil
}

// switchOn starts the machine. n.mu is held and the machine is off.
func (n *node) switchOn(netboot bool) error {
	b, err := newBoot(n, netboot)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	if !n.sim.begin(b.live) {
		return &events.Error{Code: events.CodeUnavailable, Message: "the simulator is ending"}
	}
	n.on, n.run, n.last = true, b, b
	return nil
}

// switchOff cuts the power. n.mu is held.
func (n *node) switchOff() {
	if !n.on {
		return
	}
	b := n.run
	n.on, n.run = false, nil
	b.kill()
}

// left does what the system of a boot asked for as its last act.
func (n *node) left(b *boot, how events.Verb) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run != b {
		return
	}
	n.switchOff()
	if how == events.VerbReboot {
		if err := n.start(false); err != nil {
			n.log.Warn("does not come back", "err", err)
		}
	}
	n.log.Info("left", "how", string(how), "on", n.on)
}

// die cuts the power from within, once in the life of a node.
func (n *node) die(b *boot) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.died || n.run != b {
		return
	}
	n.died = true
	n.log.Info("the power fails")
	n.switchOff()
}

var _ agent.Machine = (*machine)(nil)
