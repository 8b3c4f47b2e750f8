package handler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/handler"
	"loadnode/handler/inventory"
)

const normalSave = "job.requested job.accepted reboot.requested pxe.up save.started save.done shutdown.requested shutdown.done job.finished"

// save requests a save and returns the job's id.
func (w *world) save(r events.SaveRequest) string {
	w.t.Helper()
	id, err := events.NewULID(time.Now(), zeroes{})
	require.NoError(w.t, err)
	id = id[:20] + fmt.Sprintf("%06d", len(w.facts())) // unlike any before
	w.request(tb, events.VerbSave, id, r)
	return id
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// secret checks that no token of a place stands in the log.
func (w *world) secret() {
	w.t.Helper()
	tokens := w.svc.secrets()
	require.NotEmpty(w.t, tokens)
	for _, m := range w.facts() {
		for _, token := range tokens {
			require.True(w.t, token == "" || !strings.Contains(string(m.Raw), token), "%s holds a token", m.Subject)
		}
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 1)
	w.start("h1", nil)
	id := w.save(events.SaveRequest{Node: "[2,1]", Image: "a.ndz", Level: 7, Disk: "/dev/sdb", Requester: "a\nn\x7fn"})
	r := w.finished(id)
	require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(t, normalSave, course(of(w.facts(), id)))
	done := data[events.SaveDone](t, of(w.facts(), id)[5])
	want := savedImage
	want.Name = "a.ndz"
	require.Equal(t, want, done.Image)
	require.Equal(t, int64(7<<20), r.Results[0].Bytes)
	asked := w.svc.request(id + ":1")
	require.False(t, asked.Plain)
	require.Greater(t, time.Duration(asked.Life), time.Hour)
	require.WithinDuration(t, time.Now(), asked.Provenance.Time, bustest.Patience)
	asked.Provenance.Time = time.Time{}
	require.Equal(t, events.Provenance{Testbed: tb, Job: id, Node: "n2-1", Disk: "/dev/sdb", Requester: "ann"}, asked.Provenance)
	require.Zero(t, w.nodes["n1-1"].count(func(n *node) int { return n.cycles }), "only the node of the job is touched")
	w.free()
	w.secret()

	d, err := ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: id})
	require.NoError(t, err)
	require.Equal(t, "a.ndz", d.Image)
	require.NotNil(t, d.Save)
	require.Equal(t, "[2,1]", d.Save.Node)
	require.Equal(t, 7, d.Plan.Save.Level)
	require.Equal(t, "/dev/sdb", d.Plan.Nodes[0].Disk)
	require.Equal(t, "done", d.Members[0].State)

	// A name is made of node, testbed and time; the node may stay or reboot.
	for _, then := range []events.Then{events.ThenStay, events.ThenReboot} {
		id = w.save(events.SaveRequest{Node: "n1-1", Then: then})
		require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
		d, err = ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: id})
		require.NoError(t, err)
		require.Equal(t, events.SaveName(tb, "n1-1", 1, 1, d.Requested), d.Image)
		w.until("its image", func([]bus.Message) bool { return w.svc.has(d.Image) })
		w.svc.mu.Lock()
		w.svc.had = map[string]bool{} // two may be asked for in one second
		w.svc.mu.Unlock()
	}
	// What was saved was not loaded.
	e := w.rejected(w.load(events.LoadRequest{Nodes: "system:topo:active"}))
	require.Equal(t, events.CodeNode, e.Code)
	w.free()
}

func TestSaveEncodings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	h := w.start("h1", nil)
	nc := h.conn.NATS()
	w.finished(w.save(events.SaveRequest{Node: "[1,1]", Image: "structured.ndz"}))
	binary := &nats.Msg{Data: []byte(`{"node":"[1,1]","image":"binary.ndz"}`), Header: nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"b1"}, "ce-source": {"/script"}, "ce-type": {events.KindSaveRequest.Type()}, "Content-Type": {"application/json"},
	}}
	plain := &nats.Msg{Data: []byte(`{"node":"[1,1]","image":"plain.ndz"}`)}
	for i, m := range []*nats.Msg{binary, plain} {
		m.Subject = events.RequestSubject(tb, events.VerbSave)
		require.NoError(t, nc.PublishMsg(m))
		w.until("job.finished", func(log []bus.Message) bool {
			return strings.Count(strings.Join(labels(log), "\n"), string(events.KindJobFinished)) == i+2
		})
	}
	var courses []string
	for _, m := range w.facts() {
		if m.Address.Kind == events.KindJobRequested {
			courses = append(courses, course(of(w.facts(), m.Address.Job)))
		}
	}
	require.Equal(t, []string{normalSave, normalSave, normalSave}, courses)
	for _, name := range []string{"structured.ndz", "binary.ndz", "plain.ndz"} {
		require.True(t, w.svc.has(name), name)
	}
	w.free()
}

func TestSavesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 4)
	w.start("h1", nil)
	_, err := ask[events.NodeList](t, w, events.HandlerProtect, events.NodesAction{Nodes: "[3,4]"})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		r    events.SaveRequest
		code events.Code
		text string
	}{
		"taken":     {events.SaveRequest{Node: "[1,1]", Image: image.Name}, events.CodeConflict, image.Name},
		"two nodes": {events.SaveRequest{Node: "[1,1..2]"}, events.CodeBadRequest, "n1-1, n1-2"},
		"many":      {events.SaveRequest{Node: "all"}, events.CodeBadRequest, "and 4 more"},
		"one of":    {events.SaveRequest{Node: "n1-1 n7-7"}, events.CodeBadRequest, "n1-1, n7-7"},
		"no node":   {events.SaveRequest{Node: "[9,9]"}, events.CodeNode, "n9-9"},
		"nothing":   {events.SaveRequest{}, events.CodeBadRequest, "names no nodes"},
		"level":     {events.SaveRequest{Node: "[1,1]", Level: 11}, events.CodeBadRequest, "level 11"},
		"then":      {events.SaveRequest{Node: "[1,1]", Then: "fly"}, events.CodeBadRequest, "then"},
		"protected": {events.SaveRequest{Node: "[3,4]"}, events.CodeProtected, "n3-4"},
	} {
		e := w.rejected(w.save(tt.r))
		require.Equal(t, tt.code, e.Code, "%s: %s", name, e.Message)
		require.Contains(t, e.Message, tt.text, name)
	}
	w.request(tb, events.VerbSave, "garbled", events.CancelRequest{Job: "x"})
	require.Equal(t, events.CodeBadRequest, w.rejected(events.JobIDForEvent("/omf/default/cli/test", "garbled")).Code)
	w.request("elsewhere", events.VerbSave, "elsewhere", events.SaveRequest{Node: "[1,1]"})
	require.Equal(t, events.CodeTestbed, w.rejected(events.JobIDForEvent("/omf/default/cli/test", "elsewhere")).Code)

	w.svc.http = ""
	e := w.rejected(w.save(events.SaveRequest{Node: "[1,1]"}))
	require.Equal(t, events.CodeUnsupported, e.Code)
	require.Contains(t, e.Message, "no HTTP address")
	w.svc.http = "http://127.0.0.1:5012"
	dry := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz", DryRun: true})
	require.Equal(t, events.OutcomePlanned, w.finished(dry).Outcome)
	require.Equal(t, "a.ndz", data[events.JobAccepted](t, of(w.facts(), dry)[1]).Image.Name)
	require.Empty(t, w.svc.secrets(), "nobody was asked for a place")
	for _, n := range w.nodes {
		require.Zero(t, n.count(func(n *node) int { return n.cycles }))
	}
	w.free()
}

// A node that is held is not saved meanwhile, unless the request waits.
func TestSaveWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	hold := make(chan struct{})
	w.nodes["n1-1"].hold = hold
	w.start("h1", nil)
	first := w.load(events.LoadRequest{Nodes: "all"})
	w.until("load.started", has(events.KindLoadStarted, first, ""))
	e := w.rejected(w.save(events.SaveRequest{Node: "[1,1]"}))
	require.Equal(t, events.CodeLeased, e.Code)
	require.Equal(t, first, e.Job)
	waiting := w.save(events.SaveRequest{Node: "[1,1]", Wait: true, Timeout: events.Duration(time.Minute)})
	w.until("the waiting request", has(events.KindJobRequested, waiting, ""))
	close(hold)
	require.Equal(t, events.OutcomeOK, w.finished(waiting).Outcome)
	w.free()
}

func TestSaveFaults(t *testing.T) {
	t.Parallel()
	const store = events.ClassStore
	for _, tt := range []struct {
		name     string
		set      func(*world, *node)
		late     events.Kind // a fact that nothing follows before its deadline
		ok       bool
		class    events.Class
		attempts int
		cycles   int
	}{
		{"cut once", func(_ *world, n *node) { n.faults = []events.Class{store} }, "", true, "", 2, 1},
		{"cut always", func(_ *world, n *node) { n.faults = []events.Class{store, store, store} }, "", false, store, 3, 1},
		{"the command is refused", func(_ *world, n *node) { n.refuses = 1 }, "", false, events.ClassRefused, 1, 1},
		{"disk refuses", func(_ *world, n *node) { n.faults = []events.Class{events.ClassRefused} }, "", false, events.ClassRefused, 1, 1},
		{"never boots", func(_ *world, n *node) { n.deaf = 1 }, events.KindRebootRequested, true, "", 2, 2},
		{"claims what it did not do", func(_ *world, n *node) { n.claims = 1 }, "", false, store, 1, 1},
		{"is believed when the image is read", func(w *world, _ *node) { w.svc.busy = 3 }, "", true, "", 1, 1},
		{"an agent that forgot what it had begun", func(w *world, _ *node) { w.svc.orphaned = 1 }, "", true, "", 2, 1},
		{"stored, and the node vanishes", func(_ *world, n *node) { n.mute = 1 }, events.KindSaveStarted, true, "", 2, 2},
		{"does not halt", func(_ *world, n *node) { n.stuck = 99 }, events.KindShutdownRequested, true, "", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			clock := w.leaps()
			w.start("h1", forever)
			n := w.nodes["n1-1"]
			tt.set(w, n)
			id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
			if tt.late != "" {
				w.until(string(tt.late), has(tt.late, id, ""))
				require.Eventually(t, func() bool { return n.count(func(n *node) int { return n.cycles }) == 1 }, bustest.Patience, time.Millisecond)
				if n.mute > 0 || tt.late == events.KindSaveStarted {
					require.Eventually(t, func() bool { return w.svc.has("a.ndz") }, bustest.Patience, time.Millisecond)
					n.away()
				}
				clock.leap(2 * time.Hour)
			}
			r := w.finished(id)
			require.Equal(t, tt.ok, r.OK == 1, "%+v", r.Results[0])
			require.Equal(t, tt.class, r.Results[0].Class)
			require.Equal(t, tt.attempts, r.Results[0].Attempts)
			require.Equal(t, tt.cycles, n.count(func(n *node) int { return n.cycles }))
			require.Equal(t, tt.ok, w.svc.has("a.ndz"), "an image is there, or none")
			require.Equal(t, tt.ok, has(events.KindSaveDone, id, "")(w.facts()))
			w.free()
			w.secret()
		})
	}
}

// What a node says of its save counts for nothing if it is not the node, the
// attempt and the boot that saves.
func TestForgedSaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	h := w.start("h1", nil)
	hold := make(chan struct{})
	mine, other := w.nodes["n1-1"], w.nodes["n1-2"]
	mine.hold = hold
	id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("save.started", has(events.KindSaveStarted, id, ""))
	before := len(of(w.facts(), id))
	lie := func(change func(*events.NodeRef)) events.SaveDone {
		r := events.NodeRef{Job: id, Node: "n1-1", Attempt: 1, Boot: "n1-1-boot-1"}
		change(&r)
		return events.SaveDone{NodeRef: r, Image: events.Image{Name: "a.ndz", Digest: savedImage.Digest}}
	}
	mine.send(events.KindSaveDone, lie(func(r *events.NodeRef) { r.Job = "01j0000000000000000000000a" }))
	mine.send(events.KindSaveDone, lie(func(r *events.NodeRef) { r.Attempt = 2 }))
	mine.send(events.KindSaveDone, lie(func(r *events.NodeRef) { r.Boot = "b0" }))
	other.send(events.KindSaveDone, lie(func(*events.NodeRef) {}))
	other.send(events.KindSaveDone, lie(func(r *events.NodeRef) { r.Node = "n1-2" }))
	mine.send(events.KindLoadDone, events.LoadDone{NodeRef: lie(func(*events.NodeRef) {}).NodeRef})
	want := map[string]int64{"job": 1, "attempt": 1, "boot": 1, "forged": 1, "not_held": 1, "step": 1}
	require.Eventually(t, func() bool {
		c := h.State().Counters
		for reason, n := range want {
			if c["reports_refused_"+reason] != n {
				return false
			}
		}
		return true
	}, bustest.Patience, time.Millisecond, "%v", h.State().Counters)
	require.Len(t, of(w.facts(), id), before)
	close(hold)
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	require.Equal(t, normalSave, course(of(w.facts(), id)))
	w.free()
}

func TestCancelOfSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	n := w.nodes["n1-1"]
	hold := make(chan struct{})
	n.hold = hold
	w.start("h1", nil)
	id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("save.started", has(events.KindSaveStarted, id, ""))
	require.Len(t, w.svc.waiting(), 1)
	w.request(tb, events.VerbCancel, "c1", events.CancelRequest{Job: id})
	r := w.finished(id)
	require.Equal(t, events.OutcomeCancelled, r.Outcome)
	require.Equal(t, events.ClassCancelled, r.Results[0].Class)
	require.Contains(t, r.Results[0].Hint, "omf images rm a.ndz", "nobody knows whether it was stored")
	require.Empty(t, w.svc.waiting(), "the place is given up before the job ends")
	close(hold) // whatever it sends now, nobody takes it
	n.work.Wait()
	require.False(t, w.svc.has("a.ndz"))
	n.hold = nil
	require.Equal(t, events.OutcomeOK, w.finished(w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})).Outcome, "the name is free")
	w.free()
	w.secret()
}

// A handler is killed when each fact of a save in turn stands, and its
// successor ends the job without doing anything a second time.
func TestSaveKilledAtEveryFact(t *testing.T) {
	t.Parallel()
	const facts = 1 + 1 + 1 + 6 + 1 + 1 // leases included
	for k := 1; k <= facts; k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			h := w.start("h1", nil)
			id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
			w.until(fmt.Sprintf("%d facts", k), func(log []bus.Message) bool { return len(log) >= k })
			h.kill(t)
			w.start("h1", nil)
			r := w.finished(id)
			require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
			require.Equal(t, normalSave, course(of(w.facts(), id)))
			w.once(t, id)
			require.Len(t, w.svc.secrets(), 1, "one place")
			w.free()
			w.secret()
		})
	}
}

// An image service that is away when the node has saved is waited for, and so
// is one that is away when the node is up.
func TestSaveWithoutImageService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	hold := make(chan struct{})
	w.nodes["n1-1"].hold = hold
	h := w.start("h1", nil)
	id := w.acceptedWithoutImages(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("pxe.up", has(events.KindPxeUp, id, ""))
	w.svc.start()
	w.until("save.started", has(events.KindSaveStarted, id, ""))
	w.svc.stop()
	reports := h.State().Counters["reports"]
	close(hold)
	require.Eventually(t, func() bool { return h.State().Counters["reports"] > reports+1 }, bustest.Patience, time.Millisecond, "the report is taken again and again")
	require.False(t, has(events.KindSaveDone, id, "")(w.facts()))
	w.svc.start()
	require.Equal(t, events.OutcomeOK, w.finished(id).Outcome)
	require.Equal(t, normalSave, course(of(w.facts(), id)))
	w.free()
}

// A node whose image service does not answer is not kept for ever.
func TestSaveGetsNoPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	clock := w.leaps()
	w.start("h1", forever)
	id := w.acceptedWithoutImages(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("pxe.up", has(events.KindPxeUp, id, ""))
	clock.leap(58 * time.Minute) // of the hour to begin
	r := w.finished(id)
	require.Equal(t, events.ClassStore, r.Results[0].Class, "%+v", r.Results)
	require.Contains(t, r.Results[0].Error, "does not answer")
	w.svc.start()
	w.free()
}

// acceptedWithoutImages has a save accepted and stops the image service before
// the node is up.
func (w *world) acceptedWithoutImages(r events.SaveRequest) string {
	w.t.Helper()
	n := w.nodes["n1-1"]
	n.mu.Lock()
	defer n.mu.Unlock()
	id := w.save(r)
	w.until("job.accepted", has(events.KindJobAccepted, id, ""))
	w.svc.stop()
	return id
}

// The places that a job has left when the image service was away are found.
func TestLeftOverPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	n := w.nodes["n1-1"]
	n.hold = make(chan struct{})
	defer close(n.hold)
	w.start("h1", func(p *handler.Policy) { p.Sweep = 20 * time.Millisecond })
	id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("save.started", has(events.KindSaveStarted, id, ""))
	w.svc.stop()
	w.request(tb, events.VerbCancel, "c1", events.CancelRequest{Job: id})
	w.finished(id)
	require.Len(t, w.svc.waiting(), 1)
	w.svc.start()
	w.free()
}

// A legacy node gets a place that takes a bare stream.
func TestSaveOfLegacyNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	inv, err := inventory.Parse([]byte("version: 1\ntestbeds: {" + tb + ": {grid: {x: 1, y: 1}, defaults: {agent: legacy, power: {driver: bus}}}}"))
	require.NoError(t, err)
	w.inv = inv
	w.start("h1", nil)
	id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	r := w.finished(id)
	require.Equal(t, events.OutcomeOK, r.Outcome, "%+v", r.Results)
	require.Equal(t, events.AssuranceUnverified, r.Results[0].Assurance)
	require.True(t, w.svc.request(id+":1").Plain)
	w.free()
}

func TestArchiveOfSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	h := w.start("h1", nil)
	id := w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.finished(id)
	h.stop(t)
	h = w.start("h1", func(p *handler.Policy) { p.ArchiveAfter, p.Sweep = time.Nanosecond, 20*time.Millisecond })
	require.Eventually(t, func() bool { return h.State().Counters["jobs_archived"] == 1 }, bustest.Patience, time.Millisecond)
	h.stop(t)
	w.start("h1", nil) // read again from what is left
	d, err := ask[events.JobDetail](t, w, events.HandlerJob, events.JobQuery{Job: id})
	require.NoError(t, err)
	require.True(t, d.Archived)
	require.NotNil(t, d.Save)
	require.Equal(t, "a.ndz", d.Image)
	require.Equal(t, "done", d.Members[0].State)
}

// An agent that saves and is cut off from the bus is told apart from one that
// has vanished by its telemetry.
func TestSaveIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	g := &guarded{world: w, n: w.nodes["n1-1"], clock: w.leaps()}
	hold := make(chan struct{})
	g.n.hold = hold
	g.start("h1")
	g.id = w.save(events.SaveRequest{Node: "[1,1]", Image: "a.ndz"})
	w.until("save.started", has(events.KindSaveStarted, g.id, ""))
	g.idle()
	g.n.cutOff()
	for range 8 {
		g.n.progress()
		g.look()
	}
	g.idle()
	require.False(t, has(events.KindSaveFailed, g.id, "")(w.facts()))
	g.n.back()
	close(hold)
	require.Equal(t, events.OutcomeOK, w.finished(g.id).Outcome)
	w.free()
}
