package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

func TestLegacyWords(t *testing.T) {
	for _, c := range []struct {
		args    []string
		flags   legacyLoad
		want    []string
		timeout time.Duration
		err     string
	}{
		{args: []string{"[1,1]", "wireless-2.6.ndz", "800", "sb1"}, want: []string{"[1,1]", "wireless-2.6.ndz"}, timeout: 800 * time.Second},
		{args: []string{"system:topo:circle", "x.ndz", "30"}, want: []string{"system:topo:circle", "x.ndz"}, timeout: 30 * time.Second},
		{flags: legacyLoad{topology: "system:topo:circle", image: "x.ndz"}, want: []string{"system:topo:circle", "x.ndz"}},
		{args: []string{"n1", "n2", "x.ndz"}, want: []string{"n1", "n2", "x.ndz"}},
		{args: []string{"[1,1]"}, err: "wants NODES and IMAGE"},
		{flags: legacyLoad{topology: "all"}, err: "add -i IMAGE"},
		{flags: legacyLoad{image: "x.ndz"}, err: "add -t NODES"},
		{args: []string{"y.ndz"}, flags: legacyLoad{topology: "all", image: "x.ndz"}, err: "no other words"},
	} {
		a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer))
		cfg, err := config.Load(config.Source{})
		require.NoError(t, err)
		a.cfg = cfg
		got, err := c.flags.words(a, c.args)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err, c.args)
		require.Equal(t, c.want, got)
		require.Equal(t, c.timeout, a.legacyTimeout)
		if len(c.args) == 4 {
			require.Equal(t, "sb1", a.testbed())
		}
	}
}

func TestLegacyProgress(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := display.NewJob("x")
	j.Apply(events.JobAccepted{Nodes: []events.PlannedNode{{Name: "n1-1"}, {Name: "n1-2"}, {Name: "n1-3"}}, Deadline: began.Add(670 * time.Second)})
	var out bytes.Buffer
	l := newLegacyScreen(&out)
	require.NoError(t, l.tick(began, j))
	require.Empty(t, out.String(), "nodes boot")
	for i, name := range []string{"n1-1", "n1-2", "n1-3"} {
		n := j.Node(name)
		n.State, n.Percent = "loading", []float64{50, 40.9, 50}[i]
	}
	require.NoError(t, l.tick(began.Add(58*time.Second), j))
	require.NoError(t, l.tick(began.Add(60*time.Second), j))
	require.Equal(t, " INFO exp: Progress(0/0/3): 40/46/50 min(n_1_2)/avg/max (58) - Timeout: 612 sec.\n", out.String())
	j.Node("n1-1").State, j.Node("n1-3").State = "done", "failed"
	require.Contains(t, l.line(began, j), "Progress(2/1/3): 40/63/100")
}

// TestLegacyLoad is a load as a script of OMF writes it.
func TestLegacyLoad(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "3x1", "--fault", "noboot:n3-1", "--checkin", "300ms", "--boot-attempts", "1")
	dir := t.TempDir()
	r := b.omf("load", "-t", "[1..3,1]", "-i", "small.ndz", "-o", "400", "--outpath", dir, "--outprefix", "tonight", "--legacy-output")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Equal(t, want, b.disk("n1-1"))
	good, err := os.ReadFile(filepath.Join(dir, "tonight-topo-success.rb"))
	require.NoError(t, err)
	require.Contains(t, string(good), "# Topology name: tonight-topo-success\n# \n")
	require.Contains(t, string(good), "defTopology('tonight-topo-success', [[1,1],[2,1]])")
	bad, err := os.ReadFile(filepath.Join(dir, "tonight-topo-checkinfailed.rb"))
	require.NoError(t, err)
	require.Contains(t, string(bad), "defTopology('tonight-topo-checkinfailed', [[3,1]])")
	require.Contains(t, r.stdout, " Imaging Process Done\n - 1 node(s) failed to check in - See the topology file: '"+filepath.Join(dir, "tonight-topo-checkinfailed.rb")+"'\n - 2 node(s) succesfully imaged")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 2)
	// And the topology can be used.
	r = b.omf("load", "@"+filepath.Join(dir, "tonight-topo-success.rb"), "small.ndz", "--dry-run")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, strings.Join(strings.Fields(r.stdout), " "), "n1-1")
}
