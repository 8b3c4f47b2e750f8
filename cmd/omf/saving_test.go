package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/cmd/omf/internal/demo"
	"loadnode/events"
)

// block is the size of the blocks of the demonstration's filesystem.
const block = 4096

// randomBlock finds a block of a filesystem that looks random: the contents of
// a file, which may be changed without harm.
func randomBlock(t *testing.T, path string) int64 {
	t.Helper()
	fs, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := 0; at+block <= len(fs); at += block {
		seen := map[byte]bool{}
		for _, c := range fs[at : at+64] { // most blocks are told by their beginnings
			seen[c] = true
		}
		if len(seen) < 32 {
			continue
		}
		for _, c := range fs[at : at+block] {
			seen[c] = true
		}
		if len(seen) > 200 {
			return int64(at)
		}
	}
	require.Fail(t, "the filesystem has no random file")
	return 0
}

// same compares what an image holds of two disks, and returns how much that is.
func (b *bench) same(image, from, to string) int64 {
	b.t.Helper()
	restored := filepath.Join(b.t.TempDir(), "restored")
	regions, err := demo.Restore(filepath.Join(b.state, "images", image), restored)
	require.NoError(b.t, err)
	path := func(node string) string { return sim.DiskPath(filepath.Join(b.state, roleSim), node) }
	n, err := demo.Compare(path(to), path(from), restored, regions)
	require.NoError(b.t, err)
	return n
}

// TestSaveAndLoad: what somebody wrote on the disk of one node is on another
// once that was loaded with the image of the first.
func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1")
	fs := filepath.Join(t.TempDir(), "fs.ext4")
	_, err := demo.Filesystem(t.Context(), fs, demo.Options{Embedded: true})
	require.NoError(t, err)
	require.NoError(t, capture(t.Context(), fs, filepath.Join(b.state, "images", "fs.ndz")))
	file := randomBlock(t, fs)
	b.ok("load", "n1-1", "fs.ndz", "-q")
	text := bytes.Repeat([]byte("written by hand "), block/16)
	disk, err := os.OpenFile(sim.DiskPath(filepath.Join(b.state, roleSim), "n1-1"), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = disk.WriteAt(text, file)
	require.NoError(t, err)
	require.NoError(t, disk.Close())

	jsonl := b.ok("save", "n1-1", "saved.ndz", "-o", "jsonl")
	require.Equal(t, []string{"reboot.requested", "pxe.up", "save.started", "save.done", "shutdown.requested", "shutdown.done"}, kinds(t, jsonl, "n1-1"))
	require.Equal(t, []string{"job.requested", "job.accepted", "job.finished"}, kinds(t, jsonl, ""))
	b.ok("load", "n2-1", "saved.ndz", "-q")
	require.Equal(t, text, b.disk("n2-1")[file:file+block])
	require.Greater(t, b.same("saved.ndz", "n1-1", "n2-1"), int64(6<<20), "all that is in use")

	// The catalogue knows it, and so do jobs and facts.
	image := decode[events.ImageDetail](t, b.ok("images", "inspect", "saved.ndz", "-o", "json"))
	list := decode[events.JobList](t, b.ok("jobs", "-o", "json"))
	var id string
	for _, j := range list.Jobs {
		if j.Save {
			id = j.Job
			require.Equal(t, "saved.ndz", j.Image)
		}
	}
	require.Regexp(t, `(?m)^`+id+` +ok +saved.ndz \(save\) +1 +1 +0 `, b.ok("jobs"))
	require.Regexp(t, `(?m)^saves +n1-1\nas +saved.ndz$`, b.ok("job", "show", id))
	human := b.ok("watch", id)
	require.Regexp(t, `n1-1 +save.done +saved.ndz, \S+ MiB of \S+ MiB of disk in \S+`, human)
	require.Contains(t, human, "job "+id+" ok: 1 ok, 0 failed")
	require.Contains(t, human, "digest "+image.Digest)
	require.Equal(t, who(), image.Owner)
}

// TestSaveRefused: what is refused is refused before any node is touched.
func TestSaveRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1")
	for _, tt := range []struct {
		args []string
		text string
	}{
		{[]string{"n1-1", "small.ndz"}, "there is an image small.ndz already"},
		{[]string{"all"}, "is n1-1, n2-1"},
		{[]string{"[7,7]"}, "n7-7"},
		{[]string{"n1-1", "../../etc/passwd.ndz"}, "passwd.ndz"},
		{[]string{"n1-1", "-i", "x.ndz.manifest.json"}, "manifest"},
	} {
		r := b.omf(append([]string{"save"}, tt.args...)...)
		require.Equal(t, exitRefused, r.code, "%v: %s", tt.args, r.stderr)
		require.Contains(t, r.stdout, tt.text)
	}
	r := b.omf("save", "n1-1", "-r", "0")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "-r 0 cannot be served")
	r = b.omf("save", "n1-1", "elsewhere")
	require.Equal(t, exitUnreachable, r.code, "the second word is a testbed")
	require.Contains(t, b.ok("save", "n1-1", "new.ndz", "--dry-run"), "planned: save n1-1 as new.ndz")
	b.ok("nodes", "protect", "n1-1")
	r = b.omf("save", "n1-1", "new.ndz")
	require.Equal(t, exitRefused, r.code)
	require.Contains(t, r.stdout, "protected")
	require.NotContains(t, b.ok("images", "ls"), "new.ndz")
	for _, n := range decode[events.NodeList](t, b.ok("nodes", "ls", "-o", "json")).Nodes {
		require.Empty(t, n.Boot, "no node was started")
	}
}

// TestSaveIsCut: half an image is none, and the next attempt brings it whole.
func TestSaveIsCut(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "2x1", "--fault", "cut=50", "--load-attempts", "1")
	b.ok("load", "n1-1", "small.ndz", "-q")
	r := b.omf("save", "n1-1", "saved.ndz", "-o", "json")
	require.Equal(t, exitFailed, r.code, r.stderr)
	o := decode[outcome](t, r.stdout)
	require.Equal(t, events.ClassStore, o.Results[0].Class, "%+v", o.Results)
	require.NotContains(t, b.ok("images", "ls"), "saved")
	left, err := filepath.Glob(filepath.Join(b.state, "images", "*saved*"))
	require.NoError(t, err)
	hidden, err := filepath.Glob(filepath.Join(b.state, "images", ".*saved*"))
	require.NoError(t, err)
	require.Empty(t, append(left, hidden...), "nothing is left of it")

	require.Contains(t, b.ok("save", "n1-1", "saved.ndz"), "1 ok, 0 failed")
	b.ok("load", "n2-1", "saved.ndz", "-q")
	require.Equal(t, want, b.disk("n2-1"))
}

// TestSaveIsTriedAgain: the job itself makes the next attempt. The name of an
// image is made where none is given, and the node is left as asked.
func TestSaveIsTriedAgain(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1", "--fault", "cut=50")
	b.ok("load", "all", "small.ndz", "-q")
	jsonl := b.ok("save", "n1-1", "saved.ndz", "-o", "jsonl")
	require.Equal(t, "reboot.requested pxe.up save.started save.failed save.started save.done shutdown.requested shutdown.done", strings.Join(kinds(t, jsonl, "n1-1"), " "))

	o := decode[outcome](t, b.ok("save", "[1,1]", "--then", "stay", "--level", "1", "-o", "json"))
	require.True(t, o.Save)
	require.Equal(t, 1, o.OK)
	require.Regexp(t, `^node-1-1-default-[0-9-]{19}\.ndz$`, o.Image.Name)
	require.Len(t, o.Image.Digest, 64)
	require.Contains(t, b.ok("images", "ls"), o.Image.Name)
	require.Contains(t, b.ok("save", "n1-1", "old.ndz", "--legacy-output"), "- Saving process finished correctly at: ")
}

// TestKillDuringSave kills the whole server with SIGKILL when a fact of a save
// stands and starts it again: the job goes on, and there is one whole image.
// What was on its way when the image service died comes once more.
func TestKillDuringSave(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	t.Parallel()
	_, err := binary()
	require.NoError(t, err)
	c := newCluster(t, "server")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	omf := func(args ...string) result { return omfContext(ctx, t, "", append(args, "--server", c.nats)...) }
	r := omf("load", "n1-1", "small.ndz", "-q")
	require.Zero(t, r.code, r.stderr)
	for i, kind := range []events.Kind{events.KindJobAccepted, events.KindSaveStarted, events.KindSaveDone} {
		name := fmt.Sprintf("saved%d.ndz", i)
		facts := make(chan events.Kind, 64)
		watched, watching := make(chan error, 1), make(chan struct{})
		go func() {
			watched <- c.conn.Watch(ctx, bus.WatchConfig{
				Stream: bus.StreamFacts, Filters: []string{events.AllJobFacts}, From: c.next(ctx), CaughtUp: func() { close(watching) },
			}, func(m bus.Message) error {
				facts <- m.Address.Kind
				if m.Address.Kind == events.KindJobFinished {
					return bus.ErrStop
				}
				return nil
			})
		}()
		<-watching
		client := make(chan result, 1)
		go func() { client <- omf("save", "n1-1", name, "-o", "json") }()
		for k := range facts {
			if k == kind {
				break
			}
			require.NotEqual(t, events.KindJobFinished, k)
		}
		c.victim.Kill()
		c.victim.Begin()
		c.victim.Ready()
		require.NoError(t, <-watched)
		r := <-client
		require.Zero(t, r.code, "%s killed at %s\n%s", r.stdout, kind, r.stderr)
		o := decode[outcome](t, r.stdout)
		require.Equal(t, name, o.Image.Name)
		t.Logf("killed at %s: %d attempts, %.1fs", kind, o.Results[0].Attempts, o.Seconds)
		restored := filepath.Join(t.TempDir(), "restored")
		_, err := demo.Restore(filepath.Join(c.dir, "images", name), restored)
		require.NoError(t, err)
		got, err := os.ReadFile(restored)
		require.NoError(t, err)
		require.True(t, bytes.Equal(c.want, got), "the image is not that of the disk")
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "images", ".*"))
	require.NoError(t, err)
	require.NotContains(t, strings.Join(left, " "), "saved", "what was cut off is cleared away")
}
