package power_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
	"loadnode/handler/power/powertest"
)

func make1(t *testing.T, spec inventory.Power, deps power.Deps) power.Driver {
	t.Helper()
	d, err := power.New(spec, deps)
	require.NoError(t, err)
	return d
}

func TestBusConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		nodes := []string{"n1-1", "n1-2", "omf.nicta.node1"}
		m := powertest.NewMachines("default", nodes...)
		spec := inventory.Power{Driver: inventory.PowerBus, Timeout: time.Minute}
		impatient := spec
		impatient.Timeout = 100 * time.Millisecond
		deps := power.Deps{Requester: m}
		return powertest.Rig{
			Driver: make1(t, spec, deps), Impatient: make1(t, impatient, deps),
			Testbed: "default", Nodes: nodes, Look: m.Look, Hang: m.Hang,
			Break:  func(node string) { m.Break(node, errors.New("fuse blown")) },
			Reason: "fuse blown",
		}
	})
}

// controller is a power controller as a script: one file for each machine.
const controller = `#!/bin/sh
set -e
node=$1 action=$2 tb=$3 dir=$4
cd "$dir"
test "$tb" = default
test -e "$node.power" || { echo "no machine $node" >&2; exit 4; }
if test -e "$node.hang"; then sleep 1000; fi
if test -e "$node.broken"; then echo "trying" >&2; echo "fuse blown" >&2; exit 3; fi
read power <"$node.power"
read cycles <"$node.cycles"
read acts <"$node.acts"
case $action in
status) echo "Chassis Power is $power"; exit;;
on) if test $power = off; then cycles=$((cycles+1)); fi; power=on;;
off|soft) power=off;;
reset) if test $power = on; then cycles=$((cycles+1)); fi;;
cycle) power=on; cycles=$((cycles+1));;
*) exit 5;;
esac
echo $power >"$node.power"; echo $cycles >"$node.cycles"; echo $((acts+1)) >"$node.acts"
echo "$node switched off and on, or so"
`

func writeScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "power.sh")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func TestExecConforms(t *testing.T) {
	powertest.Run(t, func(t *testing.T) powertest.Rig {
		nodes := []string{"n1-1", "n1-2"}
		dir := t.TempDir()
		set := func(file, text string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644))
		}
		for _, n := range nodes {
			set(n+".power", "off")
			set(n+".cycles", "0")
			set(n+".acts", "0")
		}
		get := func(file string) string {
			text, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			return strings.TrimSpace(string(text))
		}
		count := func(file string) int {
			n, err := strconv.Atoi(get(file))
			require.NoError(t, err)
			return n
		}
		spec := inventory.Power{
			Driver: inventory.PowerExec, Timeout: time.Minute,
			Command: []string{"/bin/sh", writeScript(t, controller), "{node}", "{action}", "{testbed}", dir},
		}
		impatient := spec
		impatient.Timeout = 100 * time.Millisecond
		return powertest.Rig{
			Driver: make1(t, spec, power.Deps{}), Impatient: make1(t, impatient, power.Deps{}),
			Testbed: "default", Nodes: nodes,
			Look: func(n string) powertest.Machine {
				return powertest.Machine{Power: get(n + ".power"), Cycles: count(n + ".cycles"), Acts: count(n + ".acts")}
			},
			Break:  func(n string) { set(n+".broken", "") },
			Hang:   func(n string) { set(n+".hang", "") },
			Reason: "exit code 3: trying / fuse blown",
		}
	})
}

var _ power.Addresses = (*inventory.Inventory)(nil).Addresses

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		spec inventory.Power
		want string
	}{
		{inventory.Power{Driver: "smoke", Timeout: time.Second}, `"smoke"; there are bus, exec`},
		{inventory.Power{Driver: "", Timeout: time.Second}, "there are bus, exec"},
		{inventory.Power{Driver: "bus", Timeout: time.Second}, "not connected to a bus"},
		{inventory.Power{Driver: "bus"}, "timeout is 0s"},
		{inventory.Power{Driver: "exec", Timeout: time.Second}, "command is missing"},
		{inventory.Power{Driver: "exec", Timeout: time.Second, Command: []string{"power", "{action}"}}, "not an absolute path"},
		{inventory.Power{Driver: "exec", Timeout: time.Second, Command: []string{"/bin/true", "{nodes}", "{action}"}}, "uses {nodes}"},
		{inventory.Power{Driver: "exec", Timeout: time.Second, Command: []string{"/bin/true", "{node}"}}, "does not use {action}"},
	} {
		_, err := power.New(c.spec, power.Deps{})
		require.ErrorIs(t, err, power.ErrDriver)
		require.ErrorContains(t, err, c.want)
	}
	require.Equal(t, inventory.PowerDrivers(), power.Drivers())
}

// answering is a bus with one answer.
type answering func(ctx context.Context, subject string, req, resp any) error

func (a answering) Request(ctx context.Context, subject string, req, resp any) error {
	return a(ctx, subject, req, resp)
}

func TestBusRequest(t *testing.T) {
	var subject string
	var sent any
	d := make1(t, inventory.Power{Driver: "bus", Timeout: time.Second}, power.Deps{Requester: answering(
		func(_ context.Context, s string, req, resp any) error {
			subject, sent = s, req
			resp.(*events.PowerState).Power = ""
			return nil
		})})
	req := power.Request{Testbed: "grid", Node: "omf.nicta.node1", Action: "reset", Effect: "j:n:reboot:1", Netboot: true}
	state, err := d.Do(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, "omf.v1.svc.grid.power.omf_2enicta_2enode1.reset", subject)
	require.Equal(t, req, sent)
	require.Equal(t, power.State{Power: "unknown", Cycles: -1}, state, "what was not said is unknown")
}

func TestBusAnswerChecked(t *testing.T) {
	for _, answer := range []events.PowerState{{Power: "ON"}, {Power: "maybe"}, {Power: "on", Boot: strings.Repeat("b", 300)}} {
		d := make1(t, inventory.Power{Driver: "bus", Timeout: time.Second}, power.Deps{Requester: answering(
			func(_ context.Context, _ string, _, resp any) error { *resp.(*events.PowerState) = answer; return nil })})
		state, err := d.Do(t.Context(), power.Request{Testbed: "t", Node: "n", Action: "status"})
		require.ErrorIs(t, err, power.ErrAnswer)
		require.Empty(t, state)
	}
}

// A refusal keeps its code, and a bus that has its own error for a timeout is
// still a deadline exceeded.
func TestBusErrors(t *testing.T) {
	refusal := &events.Error{Code: events.CodeUnavailable, Message: "nobody there"}
	d := make1(t, inventory.Power{Driver: "bus", Timeout: time.Second}, power.Deps{Requester: answering(
		func(context.Context, string, any, any) error { return refusal })})
	_, err := d.Do(t.Context(), power.Request{Testbed: "t", Node: "n1-1", Action: "on"})
	require.ErrorIs(t, err, refusal)
	require.EqualError(t, err, "power on n1-1: nobody there")

	synctest.Test(t, func(t *testing.T) {
		own := errors.New("bus: timeout")
		d := make1(t, inventory.Power{Driver: "bus", Timeout: 30 * time.Second}, power.Deps{Requester: answering(
			func(ctx context.Context, _ string, _, _ any) error { <-ctx.Done(); return own })})
		start := time.Now()
		_, err := d.Do(t.Context(), power.Request{Testbed: "t", Node: "n1-1", Action: "on"})
		require.Equal(t, 30*time.Second, time.Since(start))
		require.ErrorIs(t, err, own)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "power on n1-1: no answer within 30s")
	})
}
