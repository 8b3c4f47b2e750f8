package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/events"
	"loadnode/internal/process"
)

// cluster is a server in real processes, one of which is killed.
type cluster struct {
	t      *testing.T
	dir    string
	nats   string
	victim *process.Process
	want   []byte
	conn   *bus.Conn
}

// roleSets says for each victim which processes there are, the victim last.
var roleSets = map[string][]string{
	"handler": {"nats,frisbee", "handler"},
	"frisbee": {"nats,handler", "frisbee"},
	"server":  {"nats,handler,frisbee"},
}

// newCluster starts the processes of a victim, and two nodes in one of their
// own.
func newCluster(t *testing.T, victim string) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(c.dir, "images"), 0o755))
	c.want = smallImage(t, filepath.Join(c.dir, "images", "small.ndz"), 4)
	natsAddress, httpAddress := freeAddress(t), freeAddress(t)
	c.nats = "nats://" + natsAddress
	sessions := ownSessions(t)
	for _, roles := range roleSets[victim] {
		args := []string{
			"serve", "--roles", roles, "--state", filepath.Join(c.dir, "state"), "--images", filepath.Join(c.dir, "images"),
			"--grid", "2x1", "--checkin", "20s", "--join", "20s", "--sweep", "1s", "--log", "info",
		}
		if slices.Contains(list(roles), roleNATS) {
			args = append(args, "--nats-listen", natsAddress)
		} else {
			args = append(args, "--nats", c.nats)
		}
		if slices.Contains(list(roles), roleFrisbee) {
			args = append(append(args, "--http", httpAddress), sessions...)
		} else {
			args = append(args, "--http", httpNone)
		}
		c.victim = start(t, c.dir, "serve-"+roles, args...)
	}
	start(t, c.dir, "sim", "sim", "--grid", "2x1", "--server", c.nats, "--dir", filepath.Join(c.dir, "disks"), "--boot", "20ms-60ms", "--log", "info")
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{c.nats}, Name: "matrix"})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	c.conn = conn
	t.Cleanup(c.explain)
	return c
}

// explain tells, when the test has failed, what the server is waiting for.
func (c *cluster) explain() {
	if !c.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, name := range []string{bus.StreamRequests, bus.StreamReports, bus.StreamTimers} {
		s, err := c.conn.JetStream().Stream(ctx, name)
		if err != nil {
			c.t.Logf("stream %s: %v", name, err)
			continue
		}
		state := s.CachedInfo().State
		c.t.Logf("stream %s: %d messages, %d to %d", name, state.Msgs, state.FirstSeq, state.LastSeq)
		for i := range s.ListConsumers(ctx).Info() {
			c.t.Logf("  consumer %s: delivered %+v, acknowledged %+v, %d pending acks, %d redelivered, %d pulls waiting, %d messages pending",
				i.Name, i.Delivered, i.AckFloor, i.NumAckPending, i.NumRedelivered, i.NumWaiting, i.NumPending)
		}
	}
	var jobs events.JobList
	err := c.conn.Request(ctx, events.HandlerSubject("default", events.HandlerJobs), events.Empty{}, &jobs)
	if err == nil && len(jobs.Jobs) > 0 {
		var d events.JobDetail
		err = c.conn.Request(ctx, events.HandlerSubject("default", events.HandlerJob), events.JobQuery{Job: jobs.Jobs[0].Job}, &d)
		c.t.Logf("last job: %+v", d)
	}
	if err != nil {
		c.t.Logf("handler: %v", err)
	}
}

// starts is how often the machine of a node was started so far.
func (c *cluster) starts(node string) int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var st events.PowerState
	until(ctx, c.t, func(ctx context.Context) error {
		return c.conn.Request(ctx, events.PowerSubject("default", node, events.PowerStatus), events.PowerRequest{Node: node, Action: events.PowerStatus}, &st)
	})
	return st.Cycles
}

// answerTime is how long one question may take: an answer that was lost is not
// waited for.
const answerTime = 2 * time.Second

// until tries something until it works or the context ends. What it waits for
// are services that come back on a bus, for which there is no signal. When it
// fails it tells what was last wrong, not that time was up.
func until(ctx context.Context, t *testing.T, try func(context.Context) error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		once, cancel := context.WithTimeout(ctx, answerTime)
		err := try(once)
		cancel()
		if err == nil {
			return
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			last = err
		}
		select {
		case <-ctx.Done():
			require.NoError(t, last)
		case <-tick.C:
		}
	}
}

// load runs a load of both nodes in a client of its own, kills the victim
// when the k-th fact of the job stands (0: never), and starts it again. It
// returns the facts of the job.
func (c *cluster) load(k int, then events.Then) []bus.Message {
	t := c.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before := map[string]int{}
	for _, n := range []string{"n1-1", "n2-1"} {
		before[n] = c.starts(n)
		// What an earlier job left there must not pass for the result of this one.
		require.NoError(t, os.RemoveAll(sim.DiskPath(filepath.Join(c.dir, "disks"), n)))
	}
	client := make(chan result, 1)
	watching := make(chan struct{})
	killed := make(chan struct{})
	var facts []bus.Message
	watched := make(chan error, 1)
	go func() {
		job := ""
		watched <- c.conn.Watch(ctx, bus.WatchConfig{
			Stream: bus.StreamFacts, Filters: []string{events.AllJobFacts}, From: c.next(ctx), CaughtUp: func() { close(watching) },
		}, func(m bus.Message) error {
			if job == "" {
				job = m.Address.Job
			}
			if m.Address.Job != job {
				return fmt.Errorf("a second job: %s beside %s", m.Address.Job, job)
			}
			facts = append(facts, m)
			if len(facts) == k {
				close(killed)
			}
			if m.Address.Kind == events.KindJobFinished || m.Address.Kind == events.KindJobRejected {
				return bus.ErrStop
			}
			return nil
		})
	}()
	<-watching
	go func() {
		client <- omfContext(ctx, t, "", "load", "all", "small.ndz", "--then", string(then), "-o", "json", "--server", c.nats)
	}()
	if k > 0 {
		select {
		case <-killed:
			c.victim.Kill()
			c.victim.Begin()
			c.victim.Ready()
		case err := <-watched:
			require.NoError(t, err)
			require.Fail(t, "the job ended early", "%d facts", len(facts))
		}
	}
	require.NoError(t, <-watched)
	r := <-client
	require.Zero(t, r.code, "%s\n%s", r.stderr, r.stdout)
	var o outcome
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &o))
	require.Equal(t, 2, o.OK)
	c.check(ctx, facts, before)
	if then == events.ThenStay {
		c.probe(ctx)
	}
	return facts
}

// probe asks the agents, which are still there, how many loads they began
// since they were started.
func (c *cluster) probe(ctx context.Context) {
	c.t.Helper()
	for _, n := range []string{"n1-1", "n2-1"} {
		var reply events.CommandReply
		until(ctx, c.t, func(ctx context.Context) error {
			return c.conn.Request(ctx, events.CommandSubject("default", n, events.VerbProbe), events.Empty{}, &reply)
		})
		require.Equal(c.t, "loaded", reply.State, n)
		require.Equal(c.t, 1, reply.Loads, "%s began to load more than once", n)
	}
}

// next is the sequence behind the last fact.
func (c *cluster) next(ctx context.Context) uint64 {
	s, err := c.conn.JetStream().Stream(ctx, bus.StreamFacts)
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.LastSeq + 1
}

// check compares what must be the same whatever was killed.
func (c *cluster) check(ctx context.Context, facts []bus.Message, before map[string]int) {
	t := c.t
	t.Helper()
	once := map[string]int{}
	loads := map[string]map[string]bool{}
	for _, m := range facts {
		d, err := dataOf(m)
		require.NoError(t, err)
		once[string(m.Address.Kind)+" "+m.Address.Node]++
		if f, ok := d.(events.LoadStarted); ok {
			require.Equal(t, 1, f.Attempt)
		}
		if f, ok := d.(events.JobFinished); ok {
			require.Equal(t, events.OutcomeOK, f.Outcome)
			for _, r := range f.Results {
				require.True(t, r.OK, r)
				require.Equal(t, 1, r.Attempts, r)
				require.Equal(t, events.AssuranceWritten, r.Assurance)
			}
		}
	}
	for what, n := range once {
		require.Equal(t, 1, n, "the fact %s stands more than once", what)
	}
	// Every load that any boot of a node began in this job is in its reports.
	job := facts[0].Address.Job
	for _, n := range []string{"n1-1", "n2-1"} {
		loads[n] = map[string]bool{}
		cctx, cancel := context.WithCancel(ctx)
		caught := false
		err := c.conn.Watch(cctx, bus.WatchConfig{
			Stream: bus.StreamReports, Filters: []string{events.ReportSubject("default", n, events.KindLoadStarted)},
			CaughtUp: func() { caught = true; cancel() },
		}, func(m bus.Message) error {
			d, err := dataOf(m)
			if err != nil {
				return err
			}
			if f := d.(events.LoadStarted); f.Job == job {
				loads[n][fmt.Sprintf("%s attempt %d", f.Boot, f.Attempt)] = true
			}
			return nil
		})
		cancel()
		require.True(t, caught, err)
		require.Len(t, loads[n], 1, "loads of %s: %v", n, loads[n])
		require.Equal(t, before[n]+1, c.starts(n), "%s was started more than once", n)
		got, err := os.ReadFile(sim.DiskPath(filepath.Join(c.dir, "disks"), n))
		require.NoError(t, err)
		require.True(t, slices.Equal(c.want, got), "the disk of %s differs", n)
	}
	var nodes events.NodeList
	until(ctx, t, func(ctx context.Context) error {
		if err := c.conn.Request(ctx, events.HandlerSubject("default", events.HandlerNodes), events.NodesQuery{}, &nodes); err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			if n.Job != "" {
				return fmt.Errorf("%s is still held by %s", n.Name, n.Job)
			}
		}
		return nil
	})
	var images events.FrisbeeState
	until(ctx, t, func(ctx context.Context) error {
		if err := c.conn.Request(ctx, events.FrisbeeSubject("default", events.FrisbeeStatus), events.Empty{}, &images); err != nil {
			return err
		}
		for _, s := range images.Sessions {
			if len(s.Leases) > 0 {
				return fmt.Errorf("session %s is still leased by %v", s.ID, s.Leases)
			}
		}
		return nil
	})
}

// killAtEvery is set by make cluster: every process is killed at every fact.
// Without it the server is, and of the others one at each fact: what they lose
// is what the server loses at once.
var killAtEvery = flag.Bool("kill-at-every", false, "kill handler and image service at every fact of a job each, not in turns")

// TestKillMatrix kills a process with SIGKILL at each fact of a job, starts it
// again, and wants everything as if nothing had happened.
func TestKillMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills many processes")
	}
	_, err := binary()
	require.NoError(t, err)
	for _, victim := range []string{"frisbee", "server", "handler"} { // the longest first
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, victim)
			ends := []events.Then{events.ThenShutdown, events.ThenStay}
			if victim != "server" && !*killAtEvery {
				ends = ends[:1]
			}
			for _, then := range ends {
				facts := c.load(0, then)
				require.GreaterOrEqual(t, len(facts), 11)
				first := 1
				if then == events.ThenStay { // which is the same as any until a node is loaded
					first = 1 + slices.IndexFunc(facts, func(m bus.Message) bool { return m.Address.Kind == events.KindLoadDone })
				}
				for k := first; k <= len(facts); k++ {
					if turn := victim == "handler"; victim != "server" && !*killAtEvery && turn != (k%2 == 1) {
						continue
					}
					begun := time.Now()
					got := c.load(k, then)
					t.Logf("%s killed at fact %2d of %s, %-18s %s: %.1fs", victim, k, then, got[k-1].Address.Kind, got[k-1].Address.Node, time.Since(begun).Seconds())
				}
			}
		})
	}
}
