package handler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
)

const normal = "job.requested job.accepted reboot.requested pxe.up image.served load.started load.done shutdown.requested shutdown.done job.finished"

func course(log []bus.Message) string {
	var out []string
	for _, m := range log {
		out = append(out, string(m.Address.Kind))
	}
	return strings.Join(out, " ")
}

func TestFullCourse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2)
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "[1,1]"})
	r := w.finished(id)
	require.Equal(t, events.OutcomeOK, r.Outcome)
	facts := of(w.facts(), id)
	require.Equal(t, normal, course(facts))
	for _, m := range facts {
		require.Equal(t, id, m.Event.Extensions()[events.ExtCorrelation], m.Subject)
		require.Equal(t, "/omf/default/handler/h1", m.Event.Source())
		require.Equal(t, events.SubjectAttr(id, m.Address.Node), m.Event.Subject())
		require.NotEmpty(t, m.Event.ID())
	}
	require.NotEmpty(t, facts[3].Event.Extensions()[events.ExtCausation], "pxe.up names the report")
	// Leased before accepted, released before finished.
	all := labels(w.facts())
	require.Less(t, slices.Index(all, "leased"), slices.Index(all, "job.accepted"))
	require.Less(t, slices.Index(all, "released"), slices.Index(all, "job.finished"))
	w.free()

	// All four at once, and at once after another.
	for range 2 {
		id = w.load(events.LoadRequest{Nodes: "all", Then: events.ThenReboot, Requester: "ann"})
		r = w.finished(id)
		require.Equal(t, 4, r.OK, "%+v", r)
		require.Equal(t, events.OutcomeOK, r.Outcome)
	}
	w.free()
	for _, name := range w.names {
		n := w.nodes[name]
		want := 2
		if name == "n1-1" {
			want = 3
		}
		require.Equal(t, want, n.count(func(n *node) int { return n.cycles }), name)
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	h := w.start("h1", nil)
	r := events.LoadRequest{Nodes: "[1,1]", Image: image.Name}
	w.finished(w.load(events.LoadRequest{Nodes: "[1,1]"})) // structured

	nc := h.conn.NATS()
	publish := func(m *nats.Msg) string {
		m.Subject = events.RequestSubject(tb, events.VerbLoad)
		before := len(w.facts())
		require.NoError(t, nc.PublishMsg(m))
		var id string
		w.until("job.requested", func(log []bus.Message) bool {
			for _, m := range log[before:] {
				if m.Address.Kind == events.KindJobRequested {
					id = m.Address.Job
				}
			}
			return id != ""
		})
		w.finished(id)
		return id
	}
	binary := publish(&nats.Msg{Data: toJSON(t, r), Header: nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"b1"}, "ce-source": {"/script"}, "ce-type": {events.KindLoadRequest.Type()}, "Content-Type": {"application/json"},
	}})
	require.Equal(t, events.JobIDForEvent("/script", "b1"), binary)
	plain := publish(&nats.Msg{Data: []byte(`{"nodes":"[1,1]","image":"baseline.ndz"}`)})
	var courses []string
	for _, m := range w.facts() {
		if m.Address.Kind == events.KindJobRequested {
			courses = append(courses, course(of(w.facts(), m.Address.Job)))
		}
	}
	require.Equal(t, []string{normal, normal, normal}, courses)
	require.NotEqual(t, plain, binary)
	w.free()
}

func TestRequestsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	h := w.start("h1", nil)
	ctx := context.Background()
	old, err := events.New(events.Meta{ID: "old", Source: "/script", Time: time.Now().Add(-time.Hour)}, events.LoadRequest{Nodes: "all", Image: image.Name})
	require.NoError(t, err)
	_, err = w.conn.Publish(ctx, events.RequestSubject(tb, events.VerbLoad), old)
	require.NoError(t, err)
	require.Equal(t, events.CodeExpired, w.rejected(events.JobIDForEvent("/script", "old")).Code)

	for name, tt := range map[string]struct {
		testbed string
		verb    events.Verb
		r       events.Data
		code    events.Code
	}{
		"testbed": {"elsewhere", events.VerbLoad, events.LoadRequest{Nodes: "all", Image: image.Name}, events.CodeTestbed},
		"image":   {tb, events.VerbLoad, events.LoadRequest{Nodes: "all", Image: "other.ndz"}, events.CodeImage},
		"nodes":   {tb, events.VerbLoad, events.LoadRequest{Nodes: "[9,9]", Image: image.Name}, events.CodeNode},
		"syntax":  {tb, events.VerbLoad, events.LoadRequest{Nodes: "[1,", Image: image.Name}, events.CodeBadRequest},
		"then":    {tb, events.VerbLoad, events.LoadRequest{Nodes: "all", Image: image.Name, Then: "fly"}, events.CodeBadRequest},
		"kind":    {tb, events.VerbLoad, events.CancelRequest{Job: "x"}, events.CodeBadRequest},
		"power":   {tb, events.VerbPower, events.LoadRequest{Nodes: "all", Image: image.Name}, events.CodeUnsupported},
		"verb":    {tb, "dance", events.LoadRequest{Nodes: "all", Image: image.Name}, events.CodeBadRequest},
		"no job":  {tb, events.VerbCancel, events.CancelRequest{}, events.CodeBadRequest},
	} {
		w.request(tt.testbed, tt.verb, name, tt.r)
		e := w.rejected(events.JobIDForEvent("/omf/default/cli/test", name))
		require.Equal(t, tt.code, e.Code, "%s: %s", name, e.Message)
	}
	// Garbage, a misspelt word, and something huge.
	for _, raw := range []string{"{{{", `{"nodes":"[1,1]","image":"baseline.ndz","dry_runn":true}`, "\x00\xff", `{"nodes":"` + strings.Repeat("[1,1] ", 100_000) + `","image":"baseline.ndz"}`} {
		before := len(w.facts())
		require.NoError(t, h.conn.NATS().Publish(events.RequestSubject(tb, events.VerbLoad), []byte(raw)))
		w.until("job.rejected", func(log []bus.Message) bool { return has(events.KindJobRejected, "", "")(log[before:]) })
		for _, m := range w.facts()[before:] {
			if m.Address.Kind == events.KindJobRejected {
				require.Equal(t, events.CodeBadRequest, data[events.JobRejected](t, m).Error.Code)
			}
		}
	}
	for _, n := range w.nodes {
		require.Zero(t, n.count(func(n *node) int { return n.cycles }))
	}
	w.free()
}

func TestDryRunAndServices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 1)
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all [7,7]", DryRun: true, Requester: "ann"})
	require.Equal(t, events.OutcomePlanned, w.finished(id).Outcome)
	d, err := ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: id})
	require.NoError(t, err)
	require.Equal(t, "finished", d.State)
	require.Equal(t, []string{"n7-7"}, d.Plan.Missing)
	require.Equal(t, "ann", d.Requester)

	l, err := ask[events.NodeList](t, w, events.HandlerProtect, events.NodesAction{Nodes: "[1,1]", By: "ann", Reason: "mine"})
	require.NoError(t, err)
	require.True(t, l.Nodes[0].Protected)
	e := w.rejected(w.load(events.LoadRequest{Nodes: "all"}))
	require.Equal(t, events.CodeProtected, e.Code)
	require.Contains(t, e.Message, "mine")
	_, err = ask[events.NodeList](t, w, events.HandlerUnprotect, events.NodesAction{Nodes: "[1,1]"})
	require.NoError(t, err)

	hold := make(chan struct{})
	w.nodes["n1-1"].hold = hold
	id = w.load(events.LoadRequest{Nodes: "[1,1]"})
	w.until("load.started", has(events.KindLoadStarted, id, "n1-1"))
	l, err = ask[events.NodeList](t, w, events.HandlerNodes, events.NodesQuery{})
	require.NoError(t, err)
	require.Len(t, l.Nodes, 2)
	require.Equal(t, id, l.Nodes[0].Job)
	require.Equal(t, "loading", l.Nodes[0].State)
	require.NotEmpty(t, l.Nodes[0].Boot)
	_, err = ask[events.NodeList](t, w, events.HandlerRelease, events.NodesAction{Nodes: "[1,1]"})
	var remote *events.Error
	require.ErrorAs(t, err, &remote, "a running job keeps its nodes")
	require.Equal(t, events.CodeBusy, remote.Code)
	require.Equal(t, id, remote.Job)
	_, err = ask[events.PowerReport](t, w, events.HandlerPower, events.PowerQuery{Nodes: "all", Action: events.PowerOff})
	require.ErrorAs(t, err, &remote, "nor does anybody switch them")
	require.Equal(t, events.CodeLeased, remote.Code)
	require.Equal(t, id, remote.Job)
	report, err := ask[events.PowerReport](t, w, events.HandlerPower, events.PowerQuery{Nodes: "[1..9,1]", Action: events.PowerStatus})
	require.NoError(t, err)
	require.Equal(t, []events.PowerResult{{Node: "n1-1", X: 1, Y: 1, Power: "on"}, {Node: "n2-1", X: 2, Y: 1, Power: report.Nodes[1].Power}}, report.Nodes)
	require.NotEmpty(t, report.Missing)
	close(hold)
	w.finished(id)
	report, err = ask[events.PowerReport](t, w, events.HandlerPower, events.PowerQuery{Nodes: "all", Action: events.PowerOn})
	require.NoError(t, err)
	require.Equal(t, "on", report.Nodes[0].Power)
	require.Equal(t, "on", report.Nodes[1].Power)
	_, err = ask[events.PowerReport](t, w, events.HandlerPower, events.PowerQuery{Nodes: "all", Action: "explode"})
	require.ErrorAs(t, err, &remote)
	require.Equal(t, events.CodeBadRequest, remote.Code)

	agents, err := ask[events.AgentReport](t, w, events.HandlerAgents, events.NodesQuery{Nodes: "[1..9,1]"})
	require.NoError(t, err)
	require.Equal(t, "n1-1", agents.Nodes[0].Node)
	require.NotEmpty(t, agents.Missing)
	for _, n := range agents.Nodes {
		require.Equal(t, n.Answers, n.Boot != "", "who answers says of which boot: %+v", n)
	}

	jobs, err := ask[events.JobList](t, w, events.HandlerJobs, nil)
	require.NoError(t, err)
	require.Equal(t, id, jobs.Jobs[0].Job, "newest first")
	require.Equal(t, 1, jobs.Jobs[0].OK)
	st, err := ask[events.HandlerState](t, w, events.HandlerStatus, nil)
	require.NoError(t, err)
	require.Equal(t, "h1", st.Handler)
	require.Zero(t, st.Open)
	_, err = ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: "none"})
	require.ErrorAs(t, err, &remote)
	require.Equal(t, events.CodeNotFound, remote.Code)
	w.free()
}

func TestRedeliveredRequestMakesNoSecondJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.start("h1", nil)
	r := events.LoadRequest{Nodes: "all", Image: image.Name}
	id := w.load(r)
	w.finished(id)
	// The same event once more, past the broker's memory of message ids.
	ev, err := events.New(events.Meta{ID: id, Source: "/omf/default/cli/test", Time: time.Now()}, r)
	require.NoError(t, err)
	raw, err := ev.MarshalJSON()
	require.NoError(t, err)
	require.NoError(t, w.conn.NATS().Publish(events.RequestSubject(tb, events.VerbLoad), raw))
	// A later request shows that it was taken.
	w.finished(w.load(events.LoadRequest{Nodes: "all", DryRun: true}))
	require.Equal(t, normal, course(of(w.facts(), id)))
	require.Equal(t, 1, w.nodes["n1-1"].count(func(n *node) int { return n.cycles }))
}

func TestOverlappingRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2)
	for _, n := range w.nodes {
		n.hold = make(chan struct{})
	}
	w.start("h1", nil)
	w.start("h2", nil)
	ids := []string{w.load(events.LoadRequest{Nodes: "[1,1..2]"}), w.load(events.LoadRequest{Nodes: "[1..2,1]"})}
	w.until("one wins, one loses", func(log []bus.Message) bool {
		return has(events.KindJobAccepted, "", "")(log) && has(events.KindJobRejected, "", "")(log)
	})
	winner, loser := ids[0], ids[1]
	if has(events.KindJobAccepted, ids[1], "")(w.facts()) {
		winner, loser = ids[1], ids[0]
	}
	e := w.rejected(loser)
	require.Equal(t, events.CodeLeased, e.Code)
	require.Equal(t, winner, e.Job)
	// One that waits gets the nodes when they are free.
	waiting := w.load(events.LoadRequest{Nodes: "all", Wait: true, Timeout: events.Duration(time.Minute)})
	w.until("the waiting request", has(events.KindJobRequested, waiting, ""))
	require.False(t, has(events.KindJobAccepted, waiting, "")(w.facts()))
	for _, n := range w.nodes {
		close(n.hold)
	}
	require.Equal(t, 2, w.finished(winner).OK)
	require.Equal(t, 4, w.finished(waiting).OK)
	w.free()
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	for _, n := range w.nodes {
		n.hold = make(chan struct{})
	}
	w.start("h1", nil)
	id := w.load(events.LoadRequest{Nodes: "all"})
	for _, n := range w.names {
		w.until("load.started of "+n, has(events.KindLoadStarted, id, n))
	}
	close(w.nodes["n1-1"].hold)
	w.until("the first node's end", has(events.KindShutdownDone, id, "n1-1"))
	w.request(tb, events.VerbCancel, "c1", events.CancelRequest{Job: id, Reason: "enough"})
	r := w.finished(id)
	require.Equal(t, events.OutcomeCancelled, r.Outcome)
	require.Equal(t, 1, r.OK)
	require.Equal(t, 2, r.Failed)
	require.Equal(t, events.ClassCancelled, r.Results[1].Class)
	for _, n := range []string{"n1-2", "n1-3"} {
		close(w.nodes[n].hold)
		require.False(t, w.nodes[n].on, "a node that was to be shut down is off")
	}
	w.request(tb, events.VerbCancel, "c2", events.CancelRequest{Job: id}) // once more: nothing happens
	require.Equal(t, events.OutcomeOK, w.finished(w.load(events.LoadRequest{Nodes: "all"})).Outcome)
	w.free()
}

func TestCancelOfNoJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	clock := w.leaps()
	h := w.start("h1", forever)
	w.request(tb, events.VerbCancel, "c1", events.CancelRequest{Job: "01j0000000000000000000000a"})
	// It may have overtaken the request that it cancels, and is tried again.
	require.Eventually(t, func() bool { return h.State().Counters["requests"] > 1 }, bustest.Patience, time.Millisecond)
	require.False(t, has(events.KindJobRejected, "", "")(w.facts()))
	clock.leap(time.Minute)
	require.Equal(t, events.CodeNotFound, w.rejected(events.JobIDForEvent("/omf/default/cli/test", "c1")).Code)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const boot, load, leave = events.KindRebootRequested, events.KindLoadStarted, events.KindShutdownRequested
	tests := []struct {
		name   string
		set    func(*node)
		late   []events.Kind // facts that nothing follows before their deadline
		ok     bool
		class  events.Class
		cycles int
	}{
		{"never boots", func(n *node) { n.deaf = 99 }, []events.Kind{boot, boot}, false, events.ClassCheckin, 2},
		{"boots at the second try", func(n *node) { n.deaf = 1 }, []events.Kind{boot}, true, "", 2},
		{"vanishes during the load, always", func(n *node) { n.mute = 99 }, []events.Kind{load, load}, false, events.ClassTimeout, 2},
		{"vanishes during the load, once", func(n *node) { n.mute = 1 }, []events.Kind{load}, true, "", 2},
		{"stalls once", func(n *node) { n.faults = []events.Class{events.ClassStalled} }, nil, true, "", 1},
		{"disk refuses", func(n *node) { n.faults = []events.Class{events.ClassRefused} }, nil, false, events.ClassRefused, 1},
		{"lies", func(n *node) { n.lie = func(l *events.LoadDone) { l.Chunks-- } }, nil, false, events.ClassVerify, 1},
		{"does not halt", func(n *node) { n.stuck = 99 }, []events.Kind{leave}, true, "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 2)
			clock := w.leaps()
			w.start("h1", forever)
			bad := w.nodes["n1-1"]
			tt.set(bad)
			id := w.load(events.LoadRequest{Nodes: "all"})
			for i, kind := range tt.late {
				w.until(fmt.Sprintf("the other node's end, and %s for the %d. time", kind, i+1), func(log []bus.Message) bool {
					return has(events.KindShutdownDone, id, "n1-2")(log) && strings.Count(course(of(log, id, "n1-1"))+" ", string(kind)+" ") == i+1
				})
				if kind == boot { // asked for, but perhaps not done yet
					require.Eventually(t, func() bool { return bad.count(func(n *node) int { return n.cycles }) == i+1 }, bustest.Patience, time.Millisecond)
				}
				clock.leap(2 * time.Hour)
			}
			r := w.finished(id)
			require.True(t, r.Results[1].OK, "the other node is not held: %+v", r.Results[1])
			require.Equal(t, tt.ok, r.Results[0].OK, "%+v", r.Results[0])
			require.Equal(t, tt.class, r.Results[0].Class)
			require.Equal(t, tt.cycles, bad.count(func(n *node) int { return n.cycles }))
			if !tt.ok {
				require.NotEmpty(t, r.Results[0].Hint)
				require.Equal(t, events.OutcomePartial, r.Outcome)
			}
			w.free()
		})
	}
}

func TestImageServiceAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.start("h1", nil)
	w.svc.stop()
	id := w.load(events.LoadRequest{Nodes: "all"})
	w.until("job.requested", has(events.KindJobRequested, id, ""))
	w.svc.start()
	w.until("pxe.up", has(events.KindJobAccepted, id, ""))
	require.Equal(t, 2, w.finished(id).OK)

	// Away while the nodes boot.
	for _, n := range w.nodes {
		n.hold = make(chan struct{})
		close(n.hold)
	}
	id = w.load(events.LoadRequest{Nodes: "all"})
	w.until("job.accepted", has(events.KindJobAccepted, id, ""))
	w.svc.stop()
	w.until("pxe.up", has(events.KindPxeUp, id, "n1-1"))
	w.svc.start()
	require.Equal(t, 2, w.finished(id).OK)
	w.free()
}

func TestImageServiceNeverAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.svc.stop()
	w.start("h1", func(p *handler.Policy) { p.Patience = 200 * time.Millisecond })
	require.Equal(t, events.CodeUnavailable, w.rejected(w.load(events.LoadRequest{Nodes: "all"})).Code)
}

// Reports that a node forges about others, about another job, attempt or boot
// make no facts and are counted.
func TestForgedReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	h := w.start("h1", nil)
	hold := make(chan struct{})
	w.nodes["n1-1"].hold = hold
	id := w.load(events.LoadRequest{Nodes: "[1,1]"})
	w.until("load.started", has(events.KindLoadStarted, id, ""))
	ref := events.NodeRef{Job: id, Node: "n1-1", Attempt: 1, Boot: "n1-1-boot-1"}
	lie := func(change func(*events.NodeRef)) events.LoadDone {
		r := ref
		change(&r)
		return events.LoadDone{NodeRef: r, Assurance: events.AssuranceWritten, Digest: image.Digest, Chunks: image.Chunks, DiskBytes: image.DiskBytes}
	}
	mine, other := w.nodes["n1-1"], w.nodes["n1-2"]
	before := len(of(w.facts(), id))
	mine.send(events.KindLoadDone, lie(func(r *events.NodeRef) { r.Job = "01j0000000000000000000000a" }))  // job
	mine.send(events.KindLoadDone, lie(func(r *events.NodeRef) { r.Attempt = 2 }))                         // attempt
	mine.send(events.KindLoadDone, lie(func(r *events.NodeRef) { r.Boot = "b0" }))                         // boot
	mine.send(events.KindLoadDone, lie(func(r *events.NodeRef) { r.Job = "" }))                            // job
	other.send(events.KindLoadDone, lie(func(*events.NodeRef) {}))                                         // forged
	other.send(events.KindLoadDone, lie(func(r *events.NodeRef) { r.Node = "n1-2" }))                      // not held
	mine.send(events.KindUp, events.Up{NodeRef: events.NodeRef{Node: "n1-1", Boot: "old"}, Imaging: true}) // unconfirmed
	mine.send(events.KindUp, events.Up{NodeRef: events.NodeRef{Node: "n1-1", Boot: "disk"}})               // not imaging
	// Garbage in place of a report, and of a fact's data.
	for _, raw := range []string{"{", "garbage", `{"specversion":"1.0","id":"1","source":"/x","type":"loadnode.load.done.v1","datacontenttype":"application/json","data":{"node":7}}`} {
		require.NoError(t, other.conn.NATS().Publish(events.ReportSubject(tb, "n1-2", events.KindLoadDone), []byte(raw)))
	}
	want := map[string]int64{"job": 2, "attempt": 1, "boot": 1, "forged": 1, "not_held": 1, "unconfirmed": 1, "not_imaging": 1}
	require.Eventually(t, func() bool {
		c := h.State().Counters
		for reason, n := range want {
			if c["reports_refused_"+reason] != n {
				return false
			}
		}
		return c["reports_undecodable"] == 3
	}, 10*time.Second, 10*time.Millisecond, "%v", h.State().Counters)
	require.Len(t, of(w.facts(), id), before, "a forged report makes no fact")
	close(hold)
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	require.Equal(t, normal, course(of(w.facts(), id)))

	// A node cannot write facts.
	ev, err := events.New(events.Meta{ID: "x", Source: "/x", Time: time.Now()}, events.JobFinished{Job: id})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = other.conn.Publish(ctx, events.JobFactSubject(tb, id, events.KindJobFinished), ev)
	require.ErrorIs(t, err, bus.ErrDenied)
}

// Garbage and facts of later versions in the log are passed over.
func TestGarbageInTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	ctx := context.Background()
	for i, raw := range []string{"{", `{"specversion":"1.0","id":"f%d","source":"/x","type":"loadnode.load.dreamt.v9"}`} {
		if strings.Contains(raw, "%d") {
			raw = fmt.Sprintf(raw, i)
		}
		for _, s := range []string{events.JobFactSubject(tb, "01j0000000000000000000000a", "dreamt"), events.LeasesSubject(tb)} {
			_, err := w.conn.JetStream().Publish(ctx, s, []byte(raw))
			require.NoError(t, err)
		}
	}
	h := w.start("h1", nil)
	require.Equal(t, events.OutcomeOK, w.finished(w.load(events.LoadRequest{Nodes: "all"})).Outcome)
	require.Equal(t, int64(2), h.State().Counters["facts_unknown"])
	require.Equal(t, int64(2), h.State().Counters["facts_undecodable"])
}

func TestHundredNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	w.start("h1", func(p *handler.Policy) { p.Window = 100 })
	require.Equal(t, 100, w.finished(w.load(events.LoadRequest{Nodes: "all"})).OK)
	w.free()
}
