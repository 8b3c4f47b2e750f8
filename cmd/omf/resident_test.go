package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/events"
)

// twoSystems is a machine whose reboots lead from the system on its disk, with
// a resident agent, into the imaging system, and back.
type twoSystems struct {
	t        *testing.T
	nats     string
	imaging  events.Credential // of an imaging system that asks no boot service
	resident events.Credential

	mu    sync.Mutex
	boots int
	end   func() // of the system that runs
}

// Leave implements agent.Leaver. The system that runs waits for its end, so
// that another goroutine has to bring it.
func (m *twoSystems) Leave(context.Context, events.Verb) error {
	go func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.end != nil {
			m.end()
			m.start()
		}
	}()
	return nil
}

// start starts the other system; m.mu is held.
func (m *twoSystems) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	imaging, boot := m.boots%2 == 1, fmt.Sprint("boot-", m.boots)
	m.boots++
	m.end = func() { cancel(); <-done }
	go func() {
		defer close(done)
		if err := m.run(ctx, imaging, boot); err != nil && ctx.Err() == nil {
			m.t.Error(err)
		}
	}()
}

func (m *twoSystems) run(ctx context.Context, imaging bool, boot string) error {
	cred := &m.resident
	if imaging {
		cred = &m.imaging
	}
	conn, err := bus.Connect(ctx, bus.Config{URLs: []string{m.nats}, Name: "n2-1", Credential: cred})
	if err != nil {
		return err
	}
	defer conn.Close()
	if !imaging {
		a, err := agent.NewResident(agent.ResidentConfig{Testbed: "default", Node: "n2-1", Boot: boot, Conn: conn, Machine: m})
		if err != nil {
			return err
		}
		return a.Run(ctx)
	}
	a, err := agent.New(agent.Config{Testbed: "default", Node: "n2-1", Boot: boot, Conn: conn, Machine: &imagingMachine{
		LinuxMachine: &agent.LinuxMachine{RAMSystem: true, AllowRegular: true, Local: netip.MustParseAddr("127.0.0.1")}, whole: m,
	}})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// imagingMachine is the machine as the agent of the imaging system has it.
type imagingMachine struct {
	*agent.LinuxMachine
	whole *twoSystems
}

func (m *imagingMachine) Leave(ctx context.Context, how events.Verb) error {
	return m.whole.Leave(ctx, how)
}

// TestResidentNode: a node without a power controller is loaded again and
// again, because the agent on its disk reboots it when it is asked to.
func TestResidentNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk, list := filepath.Join(dir, "disk"), filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(list, fmt.Appendf(nil, `
version: 1
testbeds:
  default:
    nodes:
      n1-1: {}
      n2-1: {x: 2, y: 1, power: {driver: agent}, disk: %s}
    grid: {x: 2, y: 1}
`, disk), 0o644))
	b, want := newBench(t, "1x1", "--inventory", list)
	m := &twoSystems{
		t: t, nats: b.nats, resident: decode[events.Credential](t, b.ok("nodes", "credential", "n2-1")),
		imaging: decode[events.Credential](t, b.ok("nodes", "credential", "n2-1", "--imaging")),
	}
	m.mu.Lock()
	m.start()
	m.mu.Unlock()
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.end()
		m.end = nil
	})
	for round := range 2 {
		require.NoError(t, os.WriteFile(disk, make([]byte, len(want)), 0o600))
		b.ok("wait", "n2-1", "--for", "agent", "--every", "20ms", "-q")
		o := decode[outcome](t, b.ok("load", "n2-1", "small.ndz", "--then", "reboot", "-o", "json"))
		require.Equal(t, 1, o.Results[0].Attempts, "round %d", round)
		got, err := os.ReadFile(disk)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}
