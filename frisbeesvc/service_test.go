package frisbeesvc

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
)

func TestLeasesShareOneSession(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 2)
	put(t, b.dir, "lab/a.ndz", data)
	b.start()
	m := manifestOf(t, data)
	first := b.serve("lab/a.ndz", "job-1")
	require.Equal(t, m.Root().String(), first.Image.Digest)
	require.Equal(t, "http://images.example:5012/v1/manifests/"+m.Root().String(), first.Image.ManifestURL)
	require.Equal(t, m.Bytes(), first.Image.DiskBytes)
	require.True(t, first.Session.Local)
	require.True(t, events.IsULID(first.Session.ID))
	require.Equal(t, "127.91.0.1", first.Session.Server)
	require.EqualValues(t, testRate, first.Session.Rate)
	require.Equal(t, first, b.serve("lab/a.ndz", "job-1"), "the same lease again")
	require.Equal(t, first, b.serve("lab/a.ndz", "job-2"))
	st := b.status()
	require.Len(t, st.Sessions, 1)
	require.Equal(t, []string{"job-1", "job-2"}, st.Sessions[0].Leases)
	require.EqualValues(t, len(m.Chunks)*1024, st.Sessions[0].ImageBlocks)
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageServed, events.KindImageServed}, b.facts("lab/a.ndz"),
		"a repeated lease is no fact")

	b.clock.step(t, 5*time.Minute)
	require.Len(t, b.status().Sessions, 1, "leases keep it")
	b.release("", "job-1") // the image need not be told
	b.release("lab/a.ndz", "job-1")
	b.release("lab/a.ndz", "unknown")
	b.release("no/such", "unknown")
	b.clock.step(t, 5*time.Minute)
	require.Equal(t, []string{"job-2"}, b.status().Sessions[0].Leases)
	b.release("lab/a.ndz", "job-2")
	b.clock.step(t, 20*time.Second)
	st = b.status()
	require.Len(t, st.Sessions, 1, "it idles for a while")
	require.LessOrEqual(t, time.Duration(st.Sessions[0].IdleLeft), 10*time.Second)
	require.Equal(t, first, b.serve("lab/a.ndz", "job-3"), "and may be joined again")
	b.release("lab/a.ndz", "job-3")
	b.clock.step(t, 40*time.Second)
	require.Empty(t, b.status().Sessions)
	_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "lab/a.ndz"), events.KindImageReleased)
	require.Equal(t, events.ImageReleased{Image: "lab/a.ndz", Session: first.Session.ID, Reason: "idle"}, d)

	again := b.serve("lab/a.ndz", "job-4")
	require.NotEqual(t, first.Session.ID, again.Session.ID)
	require.NotEqual(t, first.Session.Port, again.Session.Port, "an address rests after its session")
}

// Two images at once over real multicast, several nodes each: nothing mixes,
// and the clients alone keep a session alive.
func TestTwoImagesDoNotMix(t *testing.T) {
	b := newBench(t)
	one, two := makeImage(t, 1, 6), makeImage(t, 2, 5)
	put(t, b.dir, "one.ndz", one)
	put(t, b.dir, "two.ndz", two)
	b.start()
	s1, s2 := b.serve("one.ndz", "job-1"), b.serve("two.ndz", "job-2")
	require.NotEqual(t, s1.Session.Group, s2.Session.Group)
	require.NotEqual(t, s1.Session.Port, s2.Session.Port)
	b.release("one.ndz", "job-1")
	b.clock.step(t, 20*time.Second)
	nodes := []*node{b.node(1, s1.Session, manifestOf(t, one)), b.node(2, s1.Session, manifestOf(t, one)),
		b.node(3, s2.Session, manifestOf(t, two)), b.node(4, s2.Session, manifestOf(t, two))}
	var wg sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.load(t.Context()) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	st := b.status()
	require.Len(t, st.Sessions, 2)
	var sum int64
	for _, s := range st.Sessions {
		require.GreaterOrEqual(t, s.BlocksSent, s.ImageBlocks)
		sum += s.BlocksSent
	}
	require.Equal(t, sum, st.BlocksSent)

	b.clock.step(t, 20*time.Second)
	require.Len(t, b.status().Sessions, 2, "40 s without a lease, but clients were heard")
	b.clock.step(t, 30*time.Second)
	st = b.status()
	require.Len(t, st.Sessions, 1)
	require.Equal(t, sum, st.BlocksSent, "blocks of ended sessions still count")
	_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "one.ndz"), events.KindImageReleased)
	require.GreaterOrEqual(t, d.(events.ImageReleased).BlocksSent, int64(len(one)/1024))
}

// On a link that is shared, a session that weighs more gets more; the largest
// weight that was asked for counts, and a restart keeps it.
func TestWeights(t *testing.T) {
	b := newBench(t, func(c *Config) { c.LinkRate = 60e6 })
	light, heavy := makeImage(t, 1, 5), makeImage(t, 2, 5)
	put(t, b.dir, "light.ndz", light)
	put(t, b.dir, "heavy.ndz", heavy)
	b.start()
	s1, s2 := b.serve("light.ndz", "job-1"), b.serve("heavy.ndz", "job-2")
	join := func(image, lease string, weight int) (events.ImageServed, error) {
		var out events.ImageServed
		err := b.conn.Request(t.Context(), events.FrisbeeSubject(bustest.Testbed, events.FrisbeeServe), events.ServeRequest{Image: image, Lease: lease, Weight: weight}, &out)
		return out, err
	}
	for _, weight := range []int{-1, events.MaxWeight + 1} {
		_, err := join("heavy.ndz", "job-3", weight)
		require.Equal(t, events.CodeBadRequest, events.AsError(err).Code)
	}
	for lease, weight := range map[string]int{"job-4": 9, "job-5": 2} {
		_, err := join("heavy.ndz", lease, weight)
		require.NoError(t, err)
	}
	weights := func() map[string]int {
		out := map[string]int{}
		for _, s := range b.status().Sessions {
			out[s.Image] = s.Weight
		}
		return out
	}
	require.Equal(t, map[string]int{"light.ndz": 0, "heavy.ndz": 9}, weights())
	first, second := b.node(1, s1.Session, manifestOf(t, light)), b.node(2, s2.Session, manifestOf(t, heavy))
	done := make(chan error, 1)
	go func() { done <- first.load(t.Context()) }()
	require.NoError(t, second.load(t.Context()))
	for _, s := range b.status().Sessions {
		if s.Image == "light.ndz" {
			require.Less(t, s.BlocksSent, s.ImageBlocks/2, "with equal weights it would be done as well")
		}
	}
	require.NoError(t, <-done)
	b.halt()
	b.start()
	require.Equal(t, map[string]int{"light.ndz": 0, "heavy.ndz": 9}, weights())
}

// A service that dies after any step leaves a registry from which the next one
// goes on with the same sessions.
func TestRestartAtEveryStep(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, "a.ndz", makeImage(t, 1, 1))
	put(t, b.dir, "b.ndz", makeImage(t, 2, 1))
	b.start()
	type view struct {
		session events.Session
		leases  []string
	}
	look := func() map[string]view {
		out := map[string]view{}
		for _, s := range b.status().Sessions {
			out[s.Image] = view{s.Session, s.Leases}
		}
		return out
	}
	steps := []struct {
		name string
		do   func()
		want map[string][]string
	}{
		{"nothing", func() {}, map[string][]string{}},
		{"first lease", func() { b.serve("a.ndz", "1") }, map[string][]string{"a.ndz": {"1"}}},
		{"second lease", func() { b.serve("a.ndz", "2") }, map[string][]string{"a.ndz": {"1", "2"}}},
		{"second image", func() { b.serve("b.ndz", "2") }, map[string][]string{"a.ndz": {"1", "2"}, "b.ndz": {"2"}}},
		{"lease given back", func() { b.release("a.ndz", "1") }, map[string][]string{"a.ndz": {"2"}, "b.ndz": {"2"}}},
		{"last lease given back", func() { b.release("a.ndz", "2") }, map[string][]string{"a.ndz": {}, "b.ndz": {"2"}}},
		{"ended", func() { b.clock.step(t, 40*time.Second) }, map[string][]string{"b.ndz": {"2"}}},
		{"served anew", func() { b.serve("a.ndz", "3") }, map[string][]string{"a.ndz": {"3"}, "b.ndz": {"2"}}},
	}
	for _, step := range steps {
		step.do()
		before := look()
		got := map[string][]string{}
		for image, v := range before {
			got[image] = v.leases
		}
		require.Equal(t, step.want, got, step.name)
		b.restart()
		require.Equal(t, before, look(), step.name)
		for image, v := range before {
			if len(v.leases) > 0 {
				require.Equal(t, v.session, b.serve(image, v.leases[0]).Session, step.name)
			}
		}
	}
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageServed}, b.facts("b.ndz"), "a restart tells nothing twice")
}

// The nodes do not notice that the image service was killed in the middle.
func TestTransferSurvivesRestart(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Rate = 40e6 })
	data := makeImage(t, 1, 8)
	put(t, b.dir, "a.ndz", data)
	b.start()
	se := b.serve("a.ndz", "job").Session
	n := b.node(1, se, manifestOf(t, data))
	done := make(chan error, 1)
	go func() { done <- n.load(t.Context()) }()
	require.Eventually(t, func() bool { return n.client.Progress().Installed >= 2 }, patience, time.Millisecond)
	b.restart()
	require.Less(t, n.client.Progress().Installed, len(data)>>20)
	require.NoError(t, <-done)
	require.Equal(t, se, b.serve("a.ndz", "job").Session)
}

// lines hands each line of a log on.
type lines chan<- string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

func TestStandbyTakesOver(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 1)
	put(t, b.dir, "a.ndz", data)
	b.start()
	se := b.serve("a.ndz", "job").Session

	same := b.cfg
	same.Conn = b.conn
	_, err := New(same)
	require.ErrorIs(t, err, catalogue.ErrInUse, "one service for a directory")

	standby := b.cfg
	standby.ID, standby.Images = "standby", t.TempDir()
	put(t, standby.Images, "a.ndz", data)
	said := make(chan string, 100)
	standby.Logger = slog.New(slog.NewTextHandler(lines(said), nil))
	s2, wait := b.launch(standby)
	defer wait()
	for line := range said {
		if strings.Contains(line, "standing by") {
			require.Contains(t, line, "holder=bench")
			break
		}
	}
	_, err = s2.active()
	require.Error(t, err)
	require.Equal(t, se, b.serve("a.ndz", "job").Session)
	b.halt()
	b.awaitActive(s2)
	require.Equal(t, se, b.serve("a.ndz", "job").Session, "the same session, address and lease")
}

func TestBusRestartDuringASession(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 3)
	put(t, b.dir, "a.ndz", data)
	b.start()
	se := b.serve("a.ndz", "job").Session
	b.bus.Stop()
	n := b.node(1, se, manifestOf(t, data))
	require.NoError(t, n.load(t.Context()), "images do not need the bus")
	b.bus.Resume()
	require.Eventually(t, func() bool {
		var out events.ImageServed
		err := b.ask(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "job-2"}, &out)
		return err == nil && out.Session == se
	}, patience, 10*time.Millisecond)
	require.Equal(t, []string{"job", "job-2"}, b.status().Sessions[0].Leases)
}

func TestBusyPorts(t *testing.T) {
	busy := map[uint16]bool{}
	var mu sync.Mutex
	b := newBench(t)
	b.cfg.Listen = func(o mcast.Options) (mcast.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if busy[o.Port] {
			return nil, mcast.ErrPortInUse
		}
		return server.Listen(o)
	}
	set := func(port uint16, is bool) {
		mu.Lock()
		defer mu.Unlock()
		busy[port] = is
	}
	set(b.cfg.PortBase, true)
	set(b.cfg.PortBase+1, true)
	put(t, b.dir, "a.ndz", makeImage(t, 1, 1))
	b.start()
	se := b.serve("a.ndz", "job").Session
	require.Equal(t, b.cfg.PortBase+2, se.Port)

	// Another program takes the port while the service is down. The session
	// must not move: its nodes listen there.
	b.halt()
	set(se.Port, true)
	b.start()
	require.Equal(t, events.CodeUnavailable, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "job"}))
	require.Len(t, b.status().Sessions, 1)
	set(se.Port, false)
	b.clock.step(t, 5*time.Second)
	require.Equal(t, se, b.serve("a.ndz", "job").Session)
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageServed}, b.facts("a.ndz"))
}

// The address of a session that cannot be resumed yet is not given away, and
// when all are taken that is said.
func TestAddressesRunOut(t *testing.T) {
	var busy atomic.Uint32
	b := newBench(t, func(c *Config) {
		c.PortBase = 65534
		c.Listen = func(o mcast.Options) (mcast.Conn, error) {
			if uint32(o.Port) == busy.Load() {
				return nil, mcast.ErrPortInUse
			}
			return server.Listen(o)
		}
	})
	for i, name := range []string{"a.ndz", "b.ndz", "c.ndz"} {
		put(t, b.dir, name, makeImage(t, byte(i), 1))
	}
	b.start()
	a := b.serve("a.ndz", "1").Session
	b.halt()
	busy.Store(uint32(a.Port))
	b.start()
	require.Equal(t, events.CodeUnavailable, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1"}))
	busy.Store(0)
	require.NotEqual(t, a.Port, b.serve("b.ndz", "1").Session.Port)
	require.Equal(t, events.CodeUnavailable, b.code(events.FrisbeeServe, events.ServeRequest{Image: "c.ndz", Lease: "1"}))
	require.Equal(t, a, b.serve("a.ndz", "1").Session)
	b.release("", "1")
	b.clock.step(t, 40*time.Second)
	b.serve("c.ndz", "2")
}

// Another machine, or another network: the session keeps its id and address,
// and the record says where it is sent from now.
func TestResumedElsewhere(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, "a.ndz", makeImage(t, 1, 1))
	b.start()
	before := b.serve("a.ndz", "1")
	b.halt()
	b.cfg.Interface, b.cfg.HTTPBase, b.cfg.Rate = b.cfg.Interface.Next(), "http://elsewhere", testRate/2
	b.start()
	want := before
	want.Session.Server, want.Session.Rate = "127.91.0.2", testRate/2
	want.Image.ManifestURL = "http://elsewhere/v1/manifests/" + before.Image.Digest
	require.Equal(t, want, b.serve("a.ndz", "1"))
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageServed, events.KindImageServed}, b.facts("a.ndz"))
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, "a.ndz", makeImage(t, 1, 1))
	put(t, b.dir, "junk.ndz", []byte("junk"))
	b.start()
	for name, tc := range map[string]struct {
		verb string
		req  any
		want events.Code
	}{
		"no image":       {events.FrisbeeServe, events.ServeRequest{Image: "none.ndz", Lease: "1"}, events.CodeImage},
		"path":           {events.FrisbeeServe, events.ServeRequest{Image: "../a.ndz", Lease: "1"}, events.CodeBadRequest},
		"no lease":       {events.FrisbeeServe, events.ServeRequest{Image: "a.ndz"}, events.CodeBadRequest},
		"blank lease":    {events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "a b"}, events.CodeBadRequest},
		"long lease":     {events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: strings.Repeat("x", 129)}, events.CodeBadRequest},
		"bad digest":     {events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1", Digest: "xyz"}, events.CodeBadRequest},
		"other digest":   {events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1", Digest: strings.Repeat("ab", 32)}, events.CodeConflict},
		"junk":           {events.FrisbeeServe, events.ServeRequest{Image: "junk.ndz", Lease: "1"}, events.CodeDamaged},
		"junk added":     {events.FrisbeeAdd, events.ImageQuery{Image: "junk.ndz"}, events.CodeDamaged},
		"check none":     {events.FrisbeeCheck, events.ImageQuery{Image: "none.ndz"}, events.CodeImage},
		"add none":       {events.FrisbeeAdd, events.ImageQuery{Image: "none.ndz"}, events.CodeImage},
		"verify none":    {events.FrisbeeVerify, events.ImageQuery{Image: "none.ndz"}, events.CodeImage},
		"inspect none":   {events.FrisbeeInspect, events.ImageQuery{Image: "none.ndz"}, events.CodeImage},
		"remove none":    {events.FrisbeeRemove, events.ImageQuery{Image: "none.ndz"}, events.CodeImage},
		"remove path":    {events.FrisbeeRemove, events.ImageQuery{Image: "/etc/passwd"}, events.CodeBadRequest},
		"not an object":  {events.FrisbeeServe, []int{1}, events.CodeBadRequest},
		"wrong type":     {events.FrisbeeServe, map[string]any{"image": 5}, events.CodeBadRequest},
		"check no image": {events.FrisbeeCheck, events.ImageQuery{}, events.CodeBadRequest},
	} {
		require.Equal(t, tc.want, b.code(tc.verb, tc.req), name)
	}
	require.Empty(t, b.status().Sessions)
	require.Nil(t, b.svc.current.known("none.ndz"), "no record of whatever name is asked for")

	public := b.cfg
	public.Interface, public.Conn, public.Images = b.cfg.Interface.Next(), b.conn, t.TempDir()
	for name, change := range map[string]func(*Config){
		"testbed":   func(c *Config) { c.Testbed = "" },
		"conn":      func(c *Config) { c.Conn = nil },
		"interface": func(c *Config) { c.Interface = c.GroupBase },
		"group":     func(c *Config) { c.GroupBase = c.Interface },
		"rate":      func(c *Config) { c.Rate = -7 },
		"link rate": func(c *Config) { c.LinkRate = -7 },
		"idle":      func(c *Config) { c.Idle = -1 },
	} {
		cfg := public
		change(&cfg)
		_, err := New(cfg)
		require.ErrorIs(t, err, ErrConfig, name)
	}
	public.Images = filepath.Join(t.TempDir(), "missing")
	_, err := New(public)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCatalogueOnTheBus(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 2)
	put(t, b.dir, "a.ndz", data)
	put(t, b.dir, "junk.ndz", []byte("junk"))
	b.start()
	bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "a.ndz"), events.KindImageAdded) // adopted at the start
	put(t, b.dir, "new.ndz", makeImage(t, 2, 1))
	var im events.Image
	require.NoError(t, b.ask(events.FrisbeeAdd, events.ImageQuery{Image: "new.ndz"}, &im))
	require.Equal(t, []events.Kind{events.KindImageAdded}, b.facts("new.ndz"), "told before the answer")
	require.NoError(t, b.ask(events.FrisbeeAdd, events.ImageQuery{Image: "new.ndz"}, &im))
	require.NoError(t, b.ask(events.FrisbeeVerify, events.ImageQuery{Image: "new.ndz"}, &im))
	b.serve("a.ndz", "job")
	var list events.ImageList
	require.Eventually(t, func() bool { // the junk is looked at in the background
		require.NoError(t, b.ask(events.FrisbeeImages, events.Empty{}, &list))
		return len(list.Images) == 3 && strings.Contains(list.Images[1].Message, "truncated")
	}, patience, 10*time.Millisecond)
	require.Equal(t, "a.ndz", list.Images[0].Name)
	require.Equal(t, "ok", list.Images[0].State)
	require.True(t, list.Images[0].Serving)
	require.Equal(t, "unregistered", list.Images[1].State)
	require.False(t, list.Images[2].Serving)
	var d events.ImageDetail
	require.NoError(t, b.ask(events.FrisbeeInspect, events.ImageQuery{Image: "a.ndz"}, &d))
	require.Equal(t, 3, d.Version)
	require.Equal(t, manifestOf(t, data).Root().String(), d.Digest)
	require.InDelta(t, 2.0/3, d.Ratio, 0.01)

	require.Equal(t, events.CodeBusy, b.code(events.FrisbeeRemove, events.ImageQuery{Image: "a.ndz"}))
	require.NoError(t, b.ask(events.FrisbeeRemove, events.ImageQuery{Image: "new.ndz"}, nil))
	require.Equal(t, events.CodeImage, b.code(events.FrisbeeCheck, events.ImageQuery{Image: "new.ndz"}))
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageReleased}, b.facts("new.ndz"))
	b.restart()
	put(t, b.dir, "new.ndz", makeImage(t, 2, 1))
	require.NoError(t, b.ask(events.FrisbeeAdd, events.ImageQuery{Image: "new.ndz"}, &im))
	require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageReleased, events.KindImageAdded}, b.facts("new.ndz"))

	// No job needs the session, but clients that no job knows may: it goes with the image when none was heard of late.
	b.release("a.ndz", "job")
	require.Equal(t, events.CodeBusy, b.code(events.FrisbeeRemove, events.ImageQuery{Image: "a.ndz"}))
	b.clock.step(t, silence)
	require.Len(t, b.status().Sessions, 1)
	require.NoError(t, b.ask(events.FrisbeeRemove, events.ImageQuery{Image: "a.ndz"}, nil))
	require.Empty(t, b.status().Sessions)
	require.Equal(t, []events.Kind{events.KindImageServed, events.KindImageServed, events.KindImageReleased, events.KindImageReleased}, b.facts("a.ndz")[1:])
}

// Somebody else writes facts of the same image: what the term knows is over,
// it folds again and goes on.
func TestConflictBeginsANewTerm(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, "a.ndz", makeImage(t, 1, 1))
	b.start()
	se := b.serve("a.ndz", "job").Session
	before, err := b.svc.active()
	require.NoError(t, err)
	c := b.bus.Connect(t)
	last, err := c.Last(t.Context(), bus.StreamFacts, events.ImageFacts(b.cfg.Testbed, "a.ndz"))
	require.NoError(t, err)
	d, err := events.Decode(last.Event)
	require.NoError(t, err)
	served := d.(events.ImageServed)
	served.Leases = append(served.Leases, "foreign")
	ev, err := events.New(events.Meta{ID: "x", Source: events.Source(b.cfg.Testbed, "frisbee", b.cfg.ID), Time: time.Now()}, served)
	require.NoError(t, err)
	_, err = c.Append(t.Context(), events.ImageFacts(b.cfg.Testbed, "a.ndz"), last.Seq, bus.Record{Subject: last.Subject, Event: ev})
	require.NoError(t, err)

	require.Equal(t, events.CodeUnavailable, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "job-2"}))
	require.Eventually(t, func() bool { now, err := b.svc.active(); return err == nil && now != before }, patience, time.Millisecond)
	require.Equal(t, se, b.serve("a.ndz", "job-2").Session)
	require.Equal(t, []string{"job", "foreign", "job-2"}, b.status().Sessions[0].Leases)
}

func TestDigestOfARequestIsHonoured(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 1)
	put(t, b.dir, "a.ndz", data)
	b.start()
	var root ndz.Digest = manifestOf(t, data).Root()
	require.NoError(t, b.ask(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1", Digest: root.String()}, nil))
}

// TestRates: what a session may send, and what all of them together.
func TestRates(t *testing.T) {
	for _, tc := range []struct {
		rate, link, session, total int64
	}{
		{0, 0, server.DefaultRate, server.DefaultRate},
		{100, 0, 100, 100},
		{100, 1000, 100, 1000},
		{1000, 100, 100, 100},
		{server.Unlimited, 0, 0, server.Unlimited},
		{server.Unlimited, 500, 500, 500},
		{500, server.Unlimited, 500, server.Unlimited},
	} {
		cfg := Config{Testbed: "t", Conn: new(bus.Conn), Rate: tc.rate, LinkRate: tc.link}
		require.NoError(t, cfg.defaults())
		require.Equal(t, tc.session, cfg.sessionRate(), "%+v", tc)
		require.Equal(t, tc.total, cfg.LinkRate, "%+v", tc)
	}
}
