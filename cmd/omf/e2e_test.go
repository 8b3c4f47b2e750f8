package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/events"
	"loadnode/internal/process"
)

// bench is a server with simulated nodes in this process.
type bench struct {
	t     *testing.T
	state string
	nats  string
	http  string
	serve *background
}

// newBench serves a grid and one image, small.ndz, and returns what disks
// must hold.
func newBench(t *testing.T, grid string, args ...string) (*bench, []byte) {
	t.Helper()
	b := &bench{t: t, state: t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(b.state, "images"), 0o755))
	want := smallImage(t, filepath.Join(b.state, "images", "small.ndz"), 1)
	args = append([]string{
		"serve", "--state", b.state, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn",
		"--sim", grid, "--boot", "10ms-50ms",
	}, append(ownSessions(t), args...)...)
	b.serve = omfBackground(t, "ready: ", args...)
	words := strings.Fields(b.serve.ready)
	require.Len(t, words, 3, b.serve.ready)
	b.nats, b.http = words[1], words[2]
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("== server\n%s", b.serve.err)
		}
	})
	return b, want
}

func (b *bench) omf(args ...string) result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	return omfContext(ctx, b.t, "", append(args, "--server", b.nats)...)
}

// ok runs a command that must succeed and returns its standard output.
func (b *bench) ok(args ...string) string {
	b.t.Helper()
	r := b.omf(args...)
	require.Zero(b.t, r.code, "omf %s: %s", strings.Join(args, " "), r.stderr)
	return r.stdout
}

func (b *bench) disk(node string) []byte {
	b.t.Helper()
	d, err := os.ReadFile(sim.DiskPath(filepath.Join(b.state, roleSim), node))
	require.NoError(b.t, err)
	return d
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// kinds lists the kinds of facts in the lines of -o jsonl that are about one
// node or, with "", about the job.
func kinds(t *testing.T, jsonl, node string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(jsonl) {
		ev := decode[struct {
			Type, Subject string
		}](t, line)
		_, about, _ := strings.Cut(ev.Subject, "/node/")
		if k, ok := events.KindOfType(ev.Type); ok && about == node {
			out = append(out, string(k))
		}
	}
	return out
}

func TestLoadWatchJobsImages(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "2x2")

	// The load, with every fact as it comes.
	jsonl := b.ok("load", "all", "small.ndz", "--verify", "readback", "-o", "jsonl")
	for _, n := range []string{"n1-1", "n1-2", "n2-1", "n2-2"} {
		require.Equal(t, []string{
			"reboot.requested", "pxe.up", "load.started", "load.done", "shutdown.requested", "shutdown.done",
		}, kinds(t, jsonl, n))
		require.Equal(t, want, b.disk(n))
	}
	require.Equal(t, []string{"job.requested", "job.accepted", "image.served", "job.finished"}, kinds(t, jsonl, ""))

	// Watching it afterwards shows the same, in the same order.
	list := decode[events.JobList](t, b.ok("jobs", "-o", "json"))
	require.Len(t, list.Jobs, 1)
	id := list.Jobs[0].Job
	require.Equal(t, events.OutcomeOK, list.Jobs[0].Outcome)
	require.Equal(t, jsonl, b.ok("watch", id, "-o", "jsonl"))
	human := b.ok("watch", strings.ToUpper(id))
	require.Regexp(t, `n2-2 +load.done +\S+ MiB in \S+, readback`, human)
	require.Contains(t, human, "job "+id+" ok: 4 ok, 0 failed")

	// One final object, the job in the list and by itself.
	o := decode[outcome](t, b.ok("load", "[1,1..2]", "small.ndz", "--then", "stay", "-o", "json"))
	require.Equal(t, "ok", o.Outcome)
	require.Equal(t, 2, o.OK)
	require.Len(t, o.Results, 2)
	require.Equal(t, events.AssuranceWritten, o.Results[0].Assurance)
	detail := decode[events.JobDetail](t, b.ok("job", "show", o.Job, "-o", "json"))
	require.Equal(t, "small.ndz", detail.Image)
	require.Len(t, detail.Members, 2)
	require.Contains(t, b.ok("job", "show", o.Job), "n1-2")
	require.Regexp(t, `(?m)^`+o.Job+` +ok +small.ndz +2 +2 +0 `, b.ok("jobs"))

	// The plan alone.
	o = decode[outcome](t, b.ok("load", "all", "small.ndz", "--dry-run", "-o", "json"))
	require.Equal(t, "planned", o.Outcome)
	require.Len(t, o.Plan.Nodes, 4)

	// Detached, and then watched to the end.
	id = strings.TrimSpace(b.ok("load", "n1-1", "small.ndz", "--detach"))
	require.True(t, events.IsULID(id))
	require.Contains(t, b.ok("watch", id), "1 ok, 0 failed")

	// Nodes and images.
	nodes := decode[events.NodeList](t, b.ok("nodes", "ls", "-o", "json"))
	require.Len(t, nodes.Nodes, 4)
	for _, n := range nodes.Nodes {
		require.Empty(t, n.Job, "nothing stays leased")
	}
	require.Contains(t, b.ok("nodes", "protect", "n2-1", "--reason", "an experiment"), "protected")
	r := b.omf("load", "n2-1", "small.ndz")
	require.Equal(t, exitRefused, r.code)
	require.Contains(t, r.stdout, "refused")
	b.ok("nodes", "unprotect", "n2-1")
	b.ok("load", "n2-1", "small.ndz", "-q")

	require.Equal(t, b.ok("nodes", "ls", "n2-1"), b.ok("nodes", "[2,1]"))
	require.Regexp(t, `(?m)^small.ndz +ok `, b.ok("images", "ls"))
	require.Equal(t, b.ok("images", "ls"), b.ok("images"))
	images := decode[events.ImageList](t, b.ok("images", "ls", "-o", "json"))
	require.Len(t, images.Images, 1)
	inspected := decode[events.ImageDetail](t, b.ok("images", "inspect", "small.ndz", "-o", "json"))
	require.Equal(t, images.Images[0].Digest, inspected.Digest)
	require.Contains(t, b.ok("images", "inspect", "small.ndz"), inspected.Digest)
	require.Contains(t, b.ok("images", "verify", "small.ndz"), "ok")

	// Refusals.
	r = b.omf("load", "n1-1", "absent.ndz", "-o", "json")
	require.Equal(t, exitRefused, r.code, r.stderr)
	o = decode[outcome](t, r.stdout)
	require.Equal(t, "rejected", o.Outcome)
	require.Equal(t, events.CodeImage, o.Error.Code)
	require.Equal(t, exitRefused, b.omf("load", "[9,9]", "small.ndz").code)
	require.Equal(t, exitRefused, b.omf("job", "show", "01k3v9qe8nq5w3k2m1h0g9f8e7").code)
	require.Equal(t, exitRefused, b.omf("images", "inspect", "absent.ndz").code)
	r = b.omf("load", "all", "small.ndz", "--testbed", "elsewhere")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.stderr, "omf serve")
}

func TestUpload(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1")
	file := filepath.Join(t.TempDir(), "other.ndz")
	want := smallImage(t, file, 2)
	require.Contains(t, b.ok("images", "upload", file), "other.ndz: ok", "the image service says where it is")
	require.Contains(t, b.ok("images", "upload", file, "--name", "sub/third.ndz", "--http", b.http), "sub/third.ndz: ok")
	b.ok("load", "n1-1", "sub/third.ndz", "-q")
	require.Equal(t, want, b.disk("n1-1"))
	require.Equal(t, exitRefused, b.omf("images", "upload", file, "--http", b.http).code, "it is there already")
	require.Equal(t, exitUnreachable, b.omf("images", "upload", file, "--http", "http://127.0.0.1:1").code)
	alone := omfContext(t.Context(), t, "", "images", "upload", file, "--name", "alone.ndz", "--http", b.http, "--server", "nats://127.0.0.1:1")
	require.Zero(t, alone.code, "on its own machine the image service needs no bus for it: %s", alone.stderr)
	bad := filepath.Join(t.TempDir(), "bad.ndz")
	require.NoError(t, os.WriteFile(bad, make([]byte, 1<<20), 0o600))
	require.Equal(t, exitRefused, b.omf("images", "upload", bad, "--http", b.http).code, "it is no image")
	b.ok("images", "rm", "other.ndz")
	require.NotContains(t, b.ok("images", "ls"), "other.ndz")
	// A file put into the directory by hand is taken in by its name.
	smallImage(t, filepath.Join(b.state, "images", "hand.ndz"), 3)
	require.Contains(t, b.ok("images", "add", "hand.ndz"), "hand.ndz: ok")
}

func TestFailingNode(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "3x1", "--fault", "writeerr=3072000:n2-1")
	r := b.omf("load", "all", "small.ndz")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Regexp(t, `(?m)^n2-1 +write `, r.stdout)
	require.Equal(t, want, b.disk("n1-1"))
	require.Equal(t, want, b.disk("n3-1"))
	r = b.omf("load", "all", "small.ndz", "--require", "60%", "-o", "json")
	require.Zero(t, r.code, "the quorum is met")
	require.Equal(t, 1, decode[outcome](t, r.stdout).Failed)
	r = b.omf("load", "n1-1,n2-1", "small.ndz", "--require", "2")
	require.Equal(t, exitTimeout, r.code, "the quorum is missed")
}

// TestDyingNode: an agent that vanishes amid a load is missed soon, and its
// node is loaded in another attempt.
func TestDyingNode(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "2x1", "--fault", "die:n1-1")
	o := decode[outcome](t, b.ok("load", "all", "small.ndz", "-o", "json"))
	require.Equal(t, 2, o.OK)
	require.Equal(t, 2, o.Results[0].Attempts)
	require.Less(t, o.Seconds, 20.0, "nobody waits for the deadline of the load")
	require.Equal(t, want, b.disk("n1-1"))
	require.Equal(t, want, b.disk("n2-1"))
}

func TestTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1", "--fault", "noboot:n2-1")
	r := b.omf("load", "n2-1", "small.ndz", "--timeout", "300ms")
	require.Equal(t, exitTimeout, r.code, r.stderr)

	id := strings.TrimSpace(b.ok("load", "n2-1", "small.ndz", "--detach"))
	r = b.omf("load", "n2-1", "small.ndz")
	require.Equal(t, exitRefused, r.code, "it is leased")
	require.Contains(t, r.stdout, id, "the holder is named")
	require.Contains(t, r.stdout, "--wait", "and what can be done")
	out := b.ok("job", "cancel", id, "--reason", "enough")
	require.Contains(t, out, "cancelled")
	require.Equal(t, exitRefused, b.omf("job", "cancel", id).code, "it has ended")
	require.Equal(t, exitFailed, b.omf("watch", id).code)
	require.Contains(t, b.ok("nodes", "ls", "n2-1"), "n2-1")
}

// TestWait: a load that may wait gets its nodes when the other job has ended.
func TestWait(t *testing.T) {
	t.Parallel()
	b, want := newBench(t, "2x1", "--fault", "noboot:n2-1")
	holder := strings.TrimSpace(b.ok("load", "all", "small.ndz", "--detach"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	errs := process.NewOutput()
	a := newApp(strings.NewReader(""), io.Discard, errs)
	a.environ, a.system = []string{"HOME=" + t.TempDir()}, ""
	done := make(chan int, 1)
	go func() {
		done <- a.execute(ctx, []string{"load", "n1-1", "small.ndz", "--wait", "--server", b.nats})
	}()
	_, err := errs.AwaitText(ctx, "job.requested")
	require.NoError(t, err)
	b.ok("job", "cancel", holder)
	require.Zero(t, <-done, errs)
	require.Equal(t, want, b.disk("n1-1"))
}

// TestInterruptDetaches: off a terminal an interrupt leaves the job alone.
func TestInterruptDetaches(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1", "--fault", "noboot:n1-1")
	interrupts := make(chan os.Signal, 1)
	out, errs := process.NewOutput(), process.NewOutput()
	a := newApp(strings.NewReader("c\nc\n"), out, errs)
	a.environ, a.system, a.interrupts = []string{"HOME=" + t.TempDir()}, "", interrupts
	done := make(chan int, 1)
	go func() { done <- a.execute(t.Context(), []string{"load", "all", "small.ndz", "--server", b.nats}) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := errs.AwaitText(ctx, "reboot.requested")
	require.NoError(t, err)
	interrupts <- os.Interrupt
	require.Equal(t, exitInterrupted, <-done)
	require.Contains(t, errs.String(), "omf watch ")
	list := decode[events.JobList](t, b.ok("jobs", "-o", "json"))
	require.Equal(t, "accepted", list.Jobs[0].State, "it goes on")
	b.ok("job", "cancel", list.Jobs[0].Job)
}

// TestChoose is the question that an interrupt asks on a terminal.
func TestChoose(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1", "--fault", "noboot:n1-1")
	id := strings.TrimSpace(b.ok("load", "all", "small.ndz", "--detach"))
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{b.nats}})
	require.NoError(t, err)
	defer conn.Close()
	ask := func(interrupt bool, answers ...string) (*follow, error) {
		a := newApp(strings.NewReader(strings.Join(answers, "\n")), io.Discard, io.Discard)
		a.environ, a.system = nil, ""
		require.NoError(t, a.configure(a.root()))
		_, f := a.job(conn, id)
		interrupts := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lines := a.lines(ctx)
		if interrupt {
			interrupts <- struct{}{}
			lines = make(chan string)
		}
		return f, f.choose(ctx, lines, interrupts)
	}
	f, err := ask(false, "what?", "keep")
	require.NoError(t, err)
	require.False(t, f.cancel)
	_, err = ask(false, "d")
	require.ErrorIs(t, err, errDetached)
	_, err = ask(false)
	require.ErrorIs(t, err, errDetached, "the end of the input cancels nothing")
	_, err = ask(true)
	require.ErrorIs(t, err, errDetached, "impatience cancels nothing")
	require.Equal(t, "accepted", decode[events.JobDetail](t, b.ok("job", "show", id, "-o", "json")).State)
	f, err = ask(false, "c")
	require.NoError(t, err)
	require.True(t, f.cancel)
	require.Contains(t, b.omf("watch", id).stdout, "cancelled")
}

// TestRequestForms: a structured event, an event in headers and plain JSON
// lead to the same facts.
func TestRequestForms(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1")
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{b.nats}})
	require.NoError(t, err)
	defer conn.Close()
	subject := events.RequestSubject("default", events.VerbLoad)
	data := `{"nodes":"[1,1]","image":"small.ndz","requester":"ann"}`
	attributes := map[string]string{
		"specversion": "1.0", "type": events.KindLoadRequest.Type(), "source": "/test", "time": time.Now().UTC().Format(time.RFC3339),
	}
	structured := func(id string) *nats.Msg {
		ev := map[string]any{"id": id, "datacontenttype": "application/json", "data": json.RawMessage(data)}
		for k, v := range attributes {
			ev[k] = v
		}
		body, err := json.Marshal(ev)
		require.NoError(t, err)
		return &nats.Msg{Subject: subject, Data: body, Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}}
	}
	inHeaders := func(id string) *nats.Msg {
		m := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{"ce-id": {id}, "Content-Type": {"application/json"}}}
		for k, v := range attributes {
			m.Header["ce-"+k] = []string{v}
		}
		return m
	}
	facts := map[string][]any{}
	for name, m := range map[string]*nats.Msg{
		"structured": structured("one"), "binary": inHeaders("two"), "plain": {Subject: subject, Data: []byte(data)},
	} {
		reply, err := conn.NATS().RequestMsg(m, 10*time.Second)
		require.NoError(t, err)
		ack := decode[struct {
			Stream string
			Seq    uint64
		}](t, string(reply.Data))
		id := events.JobIDForMessage(ack.Stream, ack.Seq)
		switch name {
		case "structured":
			id = events.JobIDForEvent("/test", "one")
		case "binary":
			id = events.JobIDForEvent("/test", "two")
		}
		facts[name] = normalised(t, conn, id)
	}
	require.Equal(t, facts["structured"], facts["binary"])
	require.Equal(t, facts["structured"], facts["plain"])
	require.Len(t, facts["plain"], 10)
}

// normalised waits for the end of a job and returns its facts without what
// must differ from job to job.
func normalised(t *testing.T, conn *bus.Conn, id string) []any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []any
	err := conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{events.JobFacts("default", id)}}, func(m bus.Message) error {
		if m.Err != nil {
			return m.Err
		}
		var data any
		if err := json.Unmarshal(m.Event.Data(), &data); err != nil {
			return err
		}
		out = append(out, map[string]any{"type": m.Event.Type(), "node": m.Address.Node, "data": scrub(data)})
		if m.Address.Kind == events.KindJobFinished || m.Address.Kind == events.KindJobRejected {
			return bus.ErrStop
		}
		return nil
	})
	require.NoError(t, err, "job %s: %v", id, out)
	return out
}

// scrub takes out ids, times and measurements.
func scrub(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			switch k {
			case "job", "boot", "effect", "deadline", "expires", "began", "ended", "took", "counters", "session", "id", "port", "group", "size":
				delete(v, k)
			default:
				v[k] = scrub(x)
			}
		}
	case []any:
		for i, x := range v {
			v[i] = scrub(x)
		}
	}
	return v
}

// TestSecondServer: what is taken is named.
// TestAuthentication: a bus that listens beyond this machine wants
// credentials.
// TestServeOutOfTheBox: a server without inventory works with omf sim beside it.
// TestGrid checks the reader of grid sizes against its own notation.
func TestWatchAll(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1")
	ctx, cancel := context.WithCancel(t.Context())
	out := process.NewOutput()
	a := newApp(strings.NewReader(""), out, io.Discard)
	a.environ, a.system = []string{"HOME=" + t.TempDir()}, ""
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, []string{"watch", "--all", "--start", "--server", b.nats}) }()
	id := strings.TrimSpace(b.ok("load", "all", "small.ndz", "--detach"))
	wait, stop := context.WithTimeout(ctx, patience)
	defer stop()
	text, err := out.AwaitText(wait, "job.finished")
	require.NoError(t, err, text)
	require.Regexp(t, `(?m)^default  \S+  `+id+` n1-1 +load.done`, text)
	require.Regexp(t, `leases +leased +job `+id+`: n1-1`, text)
	cancel()
	require.Equal(t, exitInterrupted, <-done)
}
