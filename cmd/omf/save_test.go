package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

func TestSaveWords(t *testing.T) {
	plain := saveFlags{then: "shutdown"}
	with := func(change func(*saveFlags)) saveFlags { f := plain; change(&f); return f }
	for _, c := range []struct {
		args    []string
		flags   saveFlags
		want    events.SaveRequest
		testbed string
		err     string
	}{
		{args: []string{"[1,2]"}, flags: plain, want: events.SaveRequest{Node: "[1,2]"}},
		{args: []string{"1,2"}, flags: plain, want: events.SaveRequest{Node: "[1,2]"}},
		{args: []string{"[1,2]", "sb8"}, flags: plain, want: events.SaveRequest{Node: "[1,2]"}, testbed: "sb8"},
		{args: []string{"n1-2", "mine/a.ndz"}, flags: plain, want: events.SaveRequest{Node: "n1-2", Image: "mine/a.ndz"}},
		{args: []string{"n1-2", "a.ndz", "sb8"}, flags: plain, want: events.SaveRequest{Node: "n1-2", Image: "a.ndz"}, testbed: "sb8"},
		{flags: with(func(f *saveFlags) { f.node, f.aggregate = "omf.nicta.node1", "sb8" }), want: events.SaveRequest{Node: "omf.nicta.node1"}, testbed: "sb8"},
		{args: []string{"a.ndz"}, flags: with(func(f *saveFlags) { f.node = "n1-2" }), want: events.SaveRequest{Node: "n1-2", Image: "a.ndz"}},
		{args: []string{"n1-2"}, flags: with(func(f *saveFlags) {
			f.image, f.level, f.disk, f.timeout, f.wait, f.dryRun = "golden", 9, "/dev/sdb", time.Minute, true, true
		}), want: events.SaveRequest{Node: "n1-2", Image: "golden", Level: 9, Disk: "/dev/sdb", Timeout: events.Duration(time.Minute), Wait: true, DryRun: true}},
		{flags: plain, err: "wants NODE"},
		{args: []string{"[1,1]", "[1,2]"}, flags: plain, err: "one NODE"},
		{args: []string{"n1-2", "a.ndz", "b.ndz"}, flags: plain, err: "the image is named twice: a.ndz and b.ndz"},
		{args: []string{"n1-2", "a.ndz"}, flags: with(func(f *saveFlags) { f.image = "b.ndz" }), err: "named twice"},
		{args: []string{"n1-2", "sb1", "sb8"}, flags: plain, err: "the testbed is named twice"},
		{args: []string{"n1-1"}, flags: with(func(f *saveFlags) { f.node = "n1-2" }), err: "one NODE"},
		{args: []string{"n1-1", "800"}, flags: plain, err: "one NODE"},
		{args: []string{"n1-1"}, flags: with(func(f *saveFlags) { f.resize = "0" }), err: "-r 0 cannot be served"},
		{args: []string{"n1-1"}, flags: with(func(f *saveFlags) { f.then = "fly" }), err: "--then"},
		{args: []string{"n1-1"}, flags: with(func(f *saveFlags) { f.level = 10 }), err: "--level 10"},
		{args: []string{"n1-1"}, flags: with(func(f *saveFlags) { f.ttl = -1 }), err: "negative"},
	} {
		a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer))
		cfg, err := config.Load(config.Source{})
		require.NoError(t, err)
		a.cfg = cfg
		before := a.testbed()
		got, err := a.saveRequest(c.args, c.flags)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			require.Equal(t, exitUsage, classify(err).code)
			continue
		}
		require.NoError(t, err, c.args)
		c.want.Then, c.want.Requester = events.ThenShutdown, who()
		require.Equal(t, c.want, got)
		if c.testbed == "" {
			c.testbed = before
		}
		require.Equal(t, c.testbed, a.testbed())
	}
}

func TestLegacySave(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 5, 59, 0, time.UTC)
	ref := events.NodeRef{Job: "x", Node: "n1-2", Attempt: 1}
	begin := func() (*legacySave, *display.Job, *bytes.Buffer) {
		out := new(bytes.Buffer)
		l, j := &legacySave{out: out, testbed: "sb8"}, display.NewJob("x")
		require.NoError(t, l.tick(at, j))
		require.Empty(t, out.String())
		j.Apply(events.JobAccepted{Image: events.Image{Name: "a.ndz"}, Save: &events.SavePlan{Image: "a.ndz"}, Nodes: []events.PlannedNode{{Name: "n1-2"}}})
		require.NoError(t, l.tick(at, j))
		require.NoError(t, l.tick(at, j))
		require.Equal(t, "- Saving disk image from node n_1_2 in the file 'a.ndz'\n  (disk images are located at: the catalogue of 'sb8', see omf images)\n", out.String())
		out.Reset()
		j.Apply(events.SaveStarted{NodeRef: ref})
		return l, j, out
	}
	l, j, out := begin()
	require.NoError(t, l.tick(at, j))
	require.NoError(t, l.tick(at, j))
	j.Apply(events.SaveDone{NodeRef: ref})
	j.Apply(events.JobFinished{Outcome: events.OutcomeOK, OK: 1, Results: []events.NodeResult{{Node: "n1-2", OK: true}}})
	l.finish(at.Add(time.Minute), j)
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, "- SAVE_IMAGE process started at: Mon Nov 23 14:05:59 +0000 2026", lines[0])
	require.Contains(t, lines[1], "  (this may take a while, e.g. 5min+")
	require.Equal(t, []string{"- Saving process finished correctly at: Mon Nov 23 14:06:59 +0000 2026", ""}, lines[2:])

	l, j, out = begin()
	j.Apply(events.JobFinished{Outcome: events.OutcomeFailed, Failed: 1, Results: []events.NodeResult{{Node: "n1-2", Class: events.ClassRead, Error: "bad sector"}}})
	l.finish(at, j)
	require.Equal(t, "- Saving process finished with ERRORS! at: Mon Nov 23 14:05:59 +0000 2026\n  read: bad sector\n", out.String())
}
