package power_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
	"loadnode/handler/power/powertest"
)

// rigOf makes the rig of machines in memory behind a driver.
func rigOf(t *testing.T, m *powertest.Machines, nodes []string, spec inventory.Power, deps power.Deps) powertest.Rig {
	t.Helper()
	spec.Timeout = time.Minute
	impatient := spec
	impatient.Timeout = 100 * time.Millisecond
	return powertest.Rig{
		Driver: make1(t, spec, deps), Impatient: make1(t, impatient, deps), Testbed: "default", Nodes: nodes,
		Look: m.Look, Hang: m.Hang, Break: func(node string) { m.Break(node, errors.New("fuse blown")) }, Reason: "fuse blown",
	}
}

func TestCMCConforms(t *testing.T) {
	for _, form := range []string{inventory.FormOrbit, inventory.FormOrbit5, inventory.FormCard} {
		t.Run(form, func(t *testing.T) {
			powertest.Run(t, func(t *testing.T) powertest.Rig {
				places := map[string][2]int{"n1-1": {1, 1}, "n1-2": {1, 2}}
				nodes := []string{"n1-1", "n1-2"}
				m := powertest.NewMachines("default", nodes...)
				spec := inventory.Power{Driver: "cmc", Form: form, URL: powertest.NewChassis(t, m, form, places).URL}
				if form == inventory.FormCard {
					spec.URL += "/{node}"
				}
				rig := rigOf(t, m, nodes, spec, power.Deps{Place: func(_, node string) (int, int) { p := places[node]; return p[0], p[1] }})
				if form == inventory.FormCard {
					rig.Cannot = []string{events.PowerSoft}
				}
				return rig
			})
		})
	}
}

func TestRedfishConforms(t *testing.T) {
	for _, auth := range []string{inventory.AuthBasic, inventory.AuthSession} {
		t.Run(auth, func(t *testing.T) {
			powertest.Run(t, func(t *testing.T) powertest.Rig {
				nodes := []string{"n1-1", "n1-2"}
				m := powertest.NewMachines("default", nodes...)
				srv := powertest.NewRedfish(t, m, nodes...)
				return rigOf(t, m, nodes, inventory.Power{
					Driver: "redfish", URL: srv.URL, System: "/redfish/v1/Systems/{node}", Fingerprint: srv.Fingerprint(), Auth: auth, User: "admin", PasswordEnv: "PW",
				}, power.Deps{Getenv: func(string) string { return "geheim" }})
			})
		})
	}
}

// tool is ipmitool with its machines as files; DIR stands for where they are.
const tool = `#!/bin/sh
set -e
test "$1 $2 $3" = "-I lanplus -H"
host=$4; shift 4
if test "$1" = -p; then shift 2; fi
test "$1 $2 $3" = "-U admin -E"
test "$IPMI_PASSWORD" = geheim || { echo "Error: Unable to establish IPMI v2 / RMCP+ session" >&2; exit 1; }
shift 3
node=${host#bmc-}
cd DIR
test -e $node.power || { echo "Address lookup for $host failed" >&2; exit 1; }
if test -e $node.hang; then sleep 1000; fi
if test -e $node.broken; then echo "fuse blown" >&2; exit 1; fi
read power <$node.power; read cycles <$node.cycles; read acts <$node.acts
case "$*" in
"chassis bootdev pxe") echo pxe >$node.bootdev; echo "Set Boot Device to pxe"; exit;;
"chassis power status") echo "Chassis Power is $power"; exit;;
"chassis power on") if test $power = off; then cycles=$((cycles+1)); fi; power=on;;
"chassis power off"|"chassis power soft") power=off;;
"chassis power reset"|"chassis power cycle")
	if test $power = off; then echo "Set Chassis Power Control to Reset failed: Command not supported in present state" >&2; exit 1; fi
	cycles=$((cycles+1));;
*) echo "Invalid command: $*" >&2; exit 1;;
esac
echo $power >$node.power; echo $cycles >$node.cycles; echo $((acts+1)) >$node.acts
echo "Chassis Power Control: done"
`

// ipmiBench is machines as files.
type ipmiBench struct {
	t    *testing.T
	dir  string
	spec inventory.Power
}

func newIPMIBench(t *testing.T, nodes ...string) *ipmiBench {
	b := &ipmiBench{t: t, dir: t.TempDir()}
	for _, n := range nodes {
		b.set(n+".power", "off")
		b.set(n+".cycles", "0")
		b.set(n+".acts", "0")
	}
	program := writeScript(t, strings.ReplaceAll(tool, "DIR", b.dir))
	require.NoError(t, os.Chmod(program, 0o755))
	b.spec = inventory.Power{Driver: "ipmi", Host: "bmc-{node}", User: "admin", Password: "geheim", Program: program, Timeout: time.Minute}
	return b
}

func (b *ipmiBench) set(file, text string) {
	require.NoError(b.t, os.WriteFile(filepath.Join(b.dir, file), []byte(text+"\n"), 0o644))
}

func (b *ipmiBench) get(file string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, file))
	require.NoError(b.t, err)
	return strings.TrimSpace(string(text))
}

func (b *ipmiBench) count(file string) int {
	n, err := strconv.Atoi(b.get(file))
	require.NoError(b.t, err)
	return n
}

func TestIPMIConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		nodes := []string{"n1-1", "n1-2"}
		b := newIPMIBench(t, nodes...)
		impatient := b.spec
		impatient.Timeout = 100 * time.Millisecond
		return powertest.Rig{
			Driver: make1(t, b.spec, power.Deps{}), Impatient: make1(t, impatient, power.Deps{}), Testbed: "default", Nodes: nodes,
			Look: func(n string) powertest.Machine {
				return powertest.Machine{Power: b.get(n + ".power"), Cycles: b.count(n + ".cycles"), Acts: b.count(n + ".acts")}
			},
			Break: func(n string) { b.set(n+".broken", "") }, Hang: func(n string) { b.set(n+".hang", "") }, Reason: "exit code 1: fuse blown",
		}
	})
}

// cards are network cards that listen for magic packets.
type cards struct {
	*powertest.Machines
	macs map[string]string // by node

	mu     sync.Mutex
	broken map[string]bool
}

// listen wakes machines until the test ends, and returns where.
func (c *cards) listen(t *testing.T) string {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for node, text := range c.macs {
				mac, _ := net.ParseMAC(text)
				want := strings.Repeat("\xff", 6) + strings.Repeat(string(mac), 16)
				if string(buf[:n]) == want && c.Look(node).Power == power.Off { // who is awake does not listen
					_, _ = c.Do(context.Background(), node, events.PowerOn)
				}
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func (c *cards) addresses(_, node string) (mac, ip string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken[node] {
		return "", ""
	}
	return c.macs[node], ""
}

func TestWOLConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		nodes := []string{"n1-1", "n1-2"}
		c := &cards{Machines: powertest.NewMachines("default", nodes...), macs: map[string]string{"n1-1": "02:11:22:33:44:01", "n1-2": "02:11:22:33:44:02"}, broken: map[string]bool{}}
		rig := rigOf(t, c.Machines, nodes, inventory.Power{Driver: "wol", Broadcast: c.listen(t), Interface: "lo"}, power.Deps{Addresses: c.addresses})
		rig.Hang, rig.Blind, rig.Reason = nil, true, "the inventory does not know the mac of"
		rig.Cannot = []string{events.PowerOff, events.PowerSoft, events.PowerReset, events.PowerCycle}
		rig.Break = func(node string) { c.mu.Lock(); defer c.mu.Unlock(); c.broken[node] = true }
		rig.Settle = func(node string, want powertest.Machine) {
			require.Eventually(t, func() bool {
				seen := c.Look(node)
				return seen.Power == want.Power && seen.Cycles == want.Cycles
			}, 10*time.Second, time.Millisecond)
		}
		return rig
	})
}

// agents answer on the bus for the machines that run.
type agents struct{ *powertest.Machines }

func (a agents) Request(ctx context.Context, subject string, req, resp any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, node := range []string{"n1-1", "n1-2"} {
		for verb, action := range map[events.Verb]string{events.VerbProbe: events.PowerStatus, events.VerbHalt: events.PowerSoft, events.VerbReboot: events.PowerReset} {
			if subject != events.CommandSubject("default", node, verb) {
				continue
			}
			m, err := a.Do(ctx, node, events.PowerStatus)
			if err != nil {
				return err
			}
			if m.Power == power.Off {
				return bus.ErrNoResponders
			}
			boot := strconv.Itoa(m.Cycles)
			if cmd, ok := req.(events.LeaveCommand); ok && cmd.Boot != boot {
				return &events.Error{Code: events.CodeStale, Message: "another boot"}
			}
			resp.(*events.CommandReply).Boot = boot
			_, err = a.Do(ctx, node, action)
			return err
		}
	}
	return bus.ErrNoResponders
}

func TestAgentConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		return rigOfAgents(t, func(m *powertest.Machines) power.Requester { return agents{m} })
	})
}

// rigOfAgents are machines that only somebody who runs on them can switch.
func rigOfAgents(t *testing.T, found func(*powertest.Machines) power.Requester) powertest.Rig {
	nodes := []string{"n1-1", "n1-2"}
	m := powertest.NewMachines("default", nodes...)
	rig := rigOf(t, m, nodes, inventory.Power{Driver: "agent"}, power.Deps{Requester: found(m)})
	rig.Cannot, rig.Asleep = []string{events.PowerOn, events.PowerOff, events.PowerCycle}, true
	rig.Start = func(node string) {
		_, err := m.Do(context.Background(), node, events.PowerOn)
		require.NoError(t, err)
	}
	return rig
}

// residents answer on the bus for the machines that run, from their own disks.
type residents struct{ *powertest.Machines }

func (a residents) Request(ctx context.Context, subject string, req, resp any) error {
	q, ok := req.(events.PowerRequest)
	if !ok || subject != events.PowerSubject("default", q.Node, q.Action) {
		return bus.ErrNoResponders
	}
	m, err := a.Do(ctx, q.Node, events.PowerStatus)
	if err != nil {
		return err
	}
	if m.Power == power.Off {
		return bus.ErrNoResponders
	}
	boot := "boot-" + strconv.Itoa(m.Cycles)
	if q.Action != events.PowerStatus && q.Boot != boot {
		return &events.Error{Code: events.CodeStale, Message: "another boot"}
	}
	*resp.(*events.PowerState) = events.PowerState{Power: events.PowerOn, Boot: boot, Cycles: -1}
	_, err = a.Do(ctx, q.Node, q.Action)
	return err
}

// TestResidentConforms: the driver agent finds the agent on the disk as well.
func TestResidentConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		return rigOfAgents(t, func(m *powertest.Machines) power.Requester { return residents{m} })
	})
}

// TestResidentLies: an answer that no running system gives is an error, not a
// state.
func TestResidentLies(t *testing.T) {
	for name, state := range map[string]events.PowerState{
		"off": {Power: events.PowerOff, Boot: "b"}, "no boot": {Power: events.PowerOn}, "another word": {Power: "burning", Boot: "b"},
	} {
		_, err := power.Resident{Requester: answering(func(_ context.Context, _ string, _, resp any) error {
			*resp.(*events.PowerState) = state
			return nil
		})}.Running(t.Context(), "default", "n1-1")
		require.ErrorIs(t, err, power.ErrAnswer, name)
	}
}
