package job_test

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

const jobID = "01j0000000000000000000000a"

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	image = events.Image{Name: "baseline.ndz", Digest: "d1", Size: 10 << 20, Chunks: 10, DiskBytes: 100 << 20, DataBytes: 20 << 20, SectorSize: 512}
	sess  = events.Session{ID: "s1", Group: "239.1.1.1", Port: 4000, Server: "127.0.0.1"}
)

// testingT is what both testing.T and rapid.T have.
type testingT interface {
	require.TestingT
	Helper()
}

// stored sends a fact through its envelope and back, as the log does.
func stored(t testingT, f job.Fact) job.Fact {
	t.Helper()
	ev, err := events.New(events.Meta{ID: f.ID, Source: "/omf/default/handler/h", Time: f.Time, Causation: f.Causation}, f.Data)
	require.NoError(t, err)
	data, err := events.Decode(ev)
	require.NoError(t, err)
	f.Data, f.Time = data, ev.Time()
	return f
}

// course is a job and its log.
type course struct {
	t    testingT
	s    job.State
	log  []job.Fact
	now  time.Time
	seen map[string]job.Sighting
	boot *events.BootStage // of every node
}

func newCourse(t testingT) *course {
	return &course{t: t, now: start, seen: map[string]job.Sighting{}}
}

func (c *course) moment() job.Moment {
	m := job.Moment{Now: c.now, Seen: func(n string) job.Sighting { return c.seen[n] }}
	if c.boot != nil {
		m.Booted = func(string) (events.BootStage, bool) { return *c.boot, true }
	}
	return m
}

// give decides on one input and stores the facts; it returns their kinds in
// the form "load.done n1#1".
func (c *course) give(in job.Input) ([]string, error) {
	c.t.Helper()
	facts, err := job.Decide(c.s, c.moment(), in)
	var out []string
	for _, f := range facts {
		f = stored(c.t, f)
		before := c.s.Ignored
		c.s = job.Apply(c.s, f)
		require.Equal(c.t, before, c.s.Ignored, "fact %s does not apply", f.ID)
		c.log = append(c.log, f)
		out = append(out, label(f))
	}
	if err != nil {
		require.ErrorIs(c.t, err, job.ErrRefused)
	}
	return out, err
}

func label(f job.Fact) string {
	if f.Node == "" {
		return string(f.Data.Kind())
	}
	return string(f.Data.Kind()) + " " + f.Node
}

func (c *course) must(in job.Input, want ...string) {
	c.t.Helper()
	got, err := c.give(in)
	require.NoError(c.t, err)
	require.Equal(c.t, want, got)
}

func (c *course) refused(in job.Input, reason job.Reason) {
	c.t.Helper()
	got, err := c.give(in)
	var r *job.Refusal
	require.ErrorAs(c.t, err, &r)
	require.Equal(c.t, reason, r.Reason, r.Text)
	require.Empty(c.t, got)
}

// tick lets time pass to the next deadline.
func (c *course) tick(want ...string) {
	c.t.Helper()
	at, ok := job.NextDeadline(c.s)
	require.True(c.t, ok, "no deadline")
	c.now = at
	c.must(job.Tick{}, want...)
}

func (c *course) node(name string) *job.Node {
	c.t.Helper()
	n, ok := c.s.Node(name)
	require.True(c.t, ok)
	return n
}

func (c *course) ref(name string) events.NodeRef {
	n := c.node(name)
	return events.NodeRef{Job: c.s.Job, Node: name, Attempt: n.Attempt, Boot: n.Boot}
}

func (c *course) effects() []string {
	var out []string
	for _, e := range job.Outstanding(c.s) {
		out = append(out, string(e.What)+" "+e.Node)
	}
	return out
}

func report(node string, d events.Data) job.Report {
	return job.Report{ID: "r-" + node + "-" + string(d.Kind()), Node: node, Data: d}
}

func up(node, boot string) job.Report {
	return report(node, events.Up{NodeRef: events.NodeRef{Node: node, Boot: boot}, Imaging: true})
}

func done(ref events.NodeRef) events.LoadDone {
	return events.LoadDone{NodeRef: ref, Assurance: events.AssuranceWritten, Digest: image.Digest, Chunks: image.Chunks, BytesWritten: image.DataBytes, DiskBytes: image.DiskBytes}
}

func failed(ref events.NodeRef, class events.Class, again bool) events.LoadFailed {
	return events.LoadFailed{NodeRef: ref, Class: class, Message: "it broke", Retryable: again,
		Evidence: events.Evidence{Text: "words", Counters: map[string]int64{"retries": 3}}}
}

func served() job.Served {
	return job.Served{Session: events.ImageServed{Image: image, Session: sess, Leases: []string{jobID}}}
}

func nodes(n int) []events.PlannedNode {
	var out []events.PlannedNode
	for i := range n {
		out = append(out, events.PlannedNode{Name: fmt.Sprintf("n1-%d", i+1), Disk: "/dev/sda", Agent: "native", Power: "bus", Repeatable: true})
	}
	return out
}

func policy() job.Policy {
	return job.Policy{Window: 2, CheckIn: time.Minute, Join: 30 * time.Second, Stall: 10 * time.Second, Leave: 20 * time.Second, LoadMargin: 10 * time.Second}
}

// accepted is a course with n nodes up to job.accepted and the first reboots.
func accepted(t testingT, n int, change func(*events.LoadRequest, *events.JobAccepted)) *course {
	t.Helper()
	c := newCourse(t)
	r := events.LoadRequest{Nodes: "all", Image: image.Name}
	var plan events.JobAccepted
	if change != nil {
		change(&r, &plan)
	}
	_, err := c.give(job.Request{Job: jobID, Load: r, Requester: "tester", Expires: start.Add(2 * time.Minute)})
	require.NoError(t, err)
	plan, e := policy().Plan(jobID, job.Wish{Request: r, Nodes: nodes(n), Image: image, Now: c.now, Requester: "tester"})
	require.Nil(t, e)
	if change != nil {
		change(&r, &plan)
	}
	_, err = c.give(job.Planned{Plan: plan})
	require.NoError(t, err)
	return c
}

// loading brings the only node to loading.
func loading(t testingT, change func(*events.LoadRequest, *events.JobAccepted)) *course {
	t.Helper()
	c := accepted(t, 1, change)
	c.must(up("n1-1", "b1"), "pxe.up n1-1")
	c.must(served(), "image.served")
	c.must(report("n1-1", events.LoadStarted{NodeRef: c.ref("n1-1"), Session: sess.ID}), "load.started n1-1")
	return c
}

// end releases and returns the result.
func (c *course) end() events.JobFinished {
	c.t.Helper()
	require.Equal(c.t, []string{"release "}, c.effects())
	c.must(job.Freed{}, "job.finished")
	require.True(c.t, c.s.Over())
	require.Empty(c.t, job.Outstanding(c.s))
	_, ok := job.NextDeadline(c.s)
	require.False(c.t, ok)
	return *c.s.Result
}

func (c *course) lastFailure() events.NodeFailed {
	c.t.Helper()
	for i := len(c.log) - 1; i >= 0; i-- {
		if f, ok := c.log[i].Data.(events.NodeFailed); ok {
			return f
		}
	}
	require.Fail(c.t, "no node.failed")
	return events.NodeFailed{}
}
