package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestTellAndStat(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1")
	power := func(args ...string) []events.PowerResult {
		r := b.omf(append(args, "-o", "json")...)
		require.Zero(t, r.code, r.stderr)
		return decode[events.PowerReport](t, r.stdout).Nodes
	}
	require.Equal(t, []events.PowerResult{{Node: "n1-1", X: 1, Y: 1, Power: "on"}}, power("tell", "on", "[1,1]"))
	require.Equal(t, "on", power("stat", "1,1")[0].Power, "OMF 4 adds the brackets")
	require.Equal(t, "off", power("tell", "-a", "offh", "-t", "n1-1,n2-1")[0].Power)
	require.Equal(t, 2, len(power("stat")))
	b.ok("tell", "-on", "[2,1]")
	require.Equal(t, "Number of nodes in 'Power ON' state      : 1\nNumber of nodes in 'Power OFF' state     : 1\nNumber of nodes in 'Not Available' state : 0\n", b.ok("stat", "-c"))
	require.Equal(t, "Number of nodes in 'Power ON' state:\t1\nNumber of nodes in 'Power OFF' state:\t1\nNumber of nodes in 'Unknown' state:\t0\n", b.ok("stat", "-s"))
	require.Equal(t, []string{rule, " Testbed : default", " Node n_1_1 - State: POWEROFF", " Node n_2_1 - State: POWERON", rule, ""}, strings.Split(b.ok("stat", "--legacy-output"), "\n"))
	require.Contains(t, b.ok("tell", "on", "all", "default", "--legacy-output"), " Testbed : default - Command: on\n Node n_1_1 - Ok\n Node n_2_1 - Ok\n")
	for want, args := range map[string][]string{
		"Unknown command : 'explode'": {"tell", "explode"},
		"wants a command":             {"tell"},
		"named twice":                 {"stat", "[1,1]", "-t", "[2,1]"},
		"too many words":              {"stat", "a", "b", "c"},
	} {
		r := b.omf(args...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, want)
	}
	require.Equal(t, exitRefused, b.omf("tell", "on", "[9,9]").code)
	b.ok("nodes", "protect", "[1,1]")
	r := b.omf("tell", "offh", "all")
	require.Equal(t, exitRefused, r.code)
	require.Contains(t, r.stderr, "n1-1 is protected")
	require.Equal(t, "on", power("stat", "[2,1]")[0].Power, "none is switched")
}
