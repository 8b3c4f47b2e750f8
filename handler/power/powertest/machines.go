package powertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"loadnode/events"
	"loadnode/handler/power"
)

// Machine is what is seen of a machine from outside.
type Machine struct {
	Power  string // on or off
	Cycles int    // starts since it was made
	Acts   int    // actions taken, status not counted
}

// Machines is a set of machines in memory. It is a power.Requester: every
// request goes through JSON and by the subject to its machine, which acts on
// an effect once.
type Machines struct {
	testbed string
	mu      sync.Mutex
	nodes   map[string]*machine
	broken  map[string]error
	hanging map[string]bool
}

type machine struct {
	Machine
	effects map[string]bool
	last    string
}

// NewMachines makes machines that are off.
func NewMachines(testbed string, nodes ...string) *Machines {
	m := &Machines{testbed: testbed, nodes: map[string]*machine{}, broken: map[string]error{}, hanging: map[string]bool{}}
	for _, n := range nodes {
		m.nodes[n] = &machine{Machine: Machine{Power: power.Off}, effects: map[string]bool{}}
	}
	return m
}

// Look returns a machine.
func (m *Machines) Look(node string) Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.nodes[node]; ok {
		return n.Machine
	}
	return Machine{}
}

// Do acts on a machine from outside, as a controller of its own does. It ends
// with the error of a broken one, and waits with the caller for one that hangs.
func (m *Machines) Do(ctx context.Context, node, action string) (Machine, error) {
	m.mu.Lock()
	hangs := m.hanging[node]
	m.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return Machine{}, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[node]
	if !ok {
		return Machine{}, fmt.Errorf("no machine %s", node)
	}
	if err := m.broken[node]; err != nil {
		return Machine{}, err
	}
	if action != events.PowerStatus {
		n.do(action)
	}
	return n.Machine, nil
}

// Break makes every request for the node end with err; nil repairs it.
func (m *Machines) Break(node string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken[node] = err
}

// Hang makes requests for the node last until their context ends.
func (m *Machines) Hang(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hanging[node] = true
}

// Request implements power.Requester.
func (m *Machines) Request(ctx context.Context, subject string, req, resp any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sent, err := json.Marshal(req)
	if err != nil {
		return err
	}
	var r events.PowerRequest
	if err := json.Unmarshal(sent, &r); err != nil {
		return err
	}
	m.mu.Lock()
	hangs := m.hanging[r.Node]
	m.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	state, err := m.act(subject, r)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, resp)
}

func (m *Machines) act(subject string, r events.PowerRequest) (events.PowerState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[r.Node]
	if !ok || subject != events.PowerSubject(m.testbed, r.Node, r.Action) {
		return events.PowerState{}, &events.Error{
			Code: events.CodeUnavailable, Message: fmt.Sprintf("nobody answers on %s", subject), Retryable: true,
		}
	}
	if err := m.broken[r.Node]; err != nil {
		return events.PowerState{}, err
	}
	if r.Action != events.PowerStatus && (r.Effect == "" || !n.effects[r.Effect]) {
		if r.Effect != "" {
			n.effects[r.Effect], n.last = true, r.Effect
		}
		n.do(r.Action)
	}
	return events.PowerState{
		Power: n.Power, Boot: fmt.Sprintf("boot-%d", n.Cycles), LastEffect: n.last, Cycles: n.Cycles,
	}, nil
}

func (n *machine) do(action string) {
	n.Acts++
	switch action {
	case events.PowerOn:
		if n.Power == power.Off {
			n.Cycles++
		}
		n.Power = power.On
	case events.PowerOff, events.PowerSoft:
		n.Power = power.Off
	case events.PowerReset, events.PowerCycle:
		if n.Power == power.On || action == events.PowerCycle {
			n.Power = power.On
			n.Cycles++
		}
	}
}
