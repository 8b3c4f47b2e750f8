package bridge

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/agent/internal/lab"
	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/legacytest"
	"loadnode/agent/legacy/listener"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nodeName = "old1-2"
	jobID    = "01hzzzzzzzzzzzzzzzzzzzzzz1"
)

var quick = Timing{
	Retry: 20 * time.Millisecond, Enrol: 2 * time.Second, Answer: 2 * time.Second, Ping: 50 * time.Millisecond,
	Dead: 2 * time.Second, Poll: 20 * time.Millisecond, Last: 60 * time.Millisecond,
	Hello: 20 * time.Millisecond,
}

// bench is a bridge with one legacy node, between a bus and an image service.
type bench struct {
	t       *testing.T
	bus     *bustest.Harness
	handler *bus.Conn
	images  *lab.Service
	node    *legacytest.Node
	boot    string
}

func newBench(t *testing.T, n *legacytest.Node, session func(context.Context, string) (events.SessionState, error), images *lab.Image) *bench {
	t.Helper()
	b := prepare(t, n, images)
	b.run(b.dialled(), session, nil)
	return b
}

// dialled is the node as the bridge knows it.
func (b *bench) dialled() Node {
	return Node{Name: nodeName, X: 1, Y: 2, Address: b.node.Address, Port: b.node.Port()}
}

// prepare starts everything but the bridge.
func prepare(t *testing.T, n *legacytest.Node, images *lab.Image) *bench {
	n.Address = netip.MustParseAddr("127.66.1.2")
	n.Disk = filepath.Join(t.TempDir(), "hda")
	legacytest.Start(t, n)
	b := &bench{t: t, bus: bustest.Start(t), node: n, images: lab.Serve(t, images)}
	b.handler = b.bus.Connect(t)
	return b
}

// run starts the bridge; it ends with the test.
func (b *bench) run(where Node, session func(context.Context, string) (events.SessionState, error), groups func(context.Context, group.Pair) (group.Conn, error)) {
	t := b.t
	br, err := New(Config{
		Testbed: bustest.Testbed, Nodes: []Node{where}, Timing: quick, Groups: groups,
		Connect: func(context.Context, string) (Bus, error) { return b.bus.ConnectNode(t, nodeName), nil },
		Session: session,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- br.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func imaging() *legacytest.Node {
	return &legacytest.Node{System: "pxe:1.0.0", Boot: "5f2c6f3a-0000-4000-8000-000000000001"}
}

// up waits until the node has reported with its boot.
func (b *bench) up() events.Up {
	b.t.Helper()
	m := bustest.Await(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		if m.Address.Kind != events.KindUp {
			return false
		}
		d, err := events.Decode(m.Event)
		return err == nil && d.(events.Up).Boot != b.boot
	})
	d, err := events.Decode(m.Event)
	require.NoError(b.t, err)
	b.boot = d.(events.Up).Boot
	return d.(events.Up)
}

func (b *bench) command(attempt int) events.LoadCommand {
	return events.LoadCommand{
		NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: attempt, Boot: b.boot},
		Effect:  events.EffectID(jobID, nodeName, "load", attempt),
		Image:   b.images.Describe(), Session: b.images.Session(), Disk: "/dev/hda",
		Join: events.Duration(2 * time.Second), Stall: events.Duration(2 * time.Second),
	}
}

func (b *bench) send(verb events.Verb, cmd any) (events.CommandReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	var reply events.CommandReply
	err := b.handler.Request(ctx, events.CommandSubject(bustest.Testbed, nodeName, verb), cmd, &reply)
	return reply, err
}

func (b *bench) obeyed(verb events.Verb, cmd any) {
	b.t.Helper()
	_, err := b.send(verb, cmd)
	require.NoError(b.t, err)
}

// outcome waits for the end of an attempt.
func (b *bench) outcome(attempt int) events.Data {
	b.t.Helper()
	m := bustest.Await(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		if err != nil {
			return false
		}
		switch d := d.(type) {
		case events.LoadDone:
			return d.Attempt == attempt
		case events.LoadFailed:
			return d.Attempt == attempt
		}
		return false
	})
	d, err := events.Decode(m.Event)
	require.NoError(b.t, err)
	return d
}

func (b *bench) failed(attempt int, class events.Class) events.LoadFailed {
	b.t.Helper()
	d := b.outcome(attempt)
	require.IsType(b.t, events.LoadFailed{}, d, "%+v", d)
	f := d.(events.LoadFailed)
	require.Equal(b.t, class, f.Class, f.Message)
	return f
}

func TestLoad(t *testing.T) {
	b := newBench(t, imaging(), nil, lab.NewImage(t, 4, 7))
	up := b.up()
	require.True(t, up.Imaging)
	require.Equal(t, `legacy "pxe:1.0.0"`, up.Agent)
	require.Equal(t, b.node.Boot, up.Boot)
	require.Equal(t, events.Disk{Path: "/dev/hda", Size: 80 << 30, SectorSize: 512}, up.Hardware.Disks[0])
	b.images.StartData()
	b.obeyed(events.VerbLoad, b.command(1))
	d := b.outcome(1)
	require.IsType(t, events.LoadDone{}, d, "%+v", d)
	done := d.(events.LoadDone)
	require.Equal(t, events.AssuranceUnverified, done.Assurance)
	require.Empty(t, done.Digest, "nobody compared one")
	require.Equal(t, b.images.Image.Manifest.DataBytes, done.BytesWritten)
	first, last, ok, err := b.images.Image.Damage(b.node.Disk)
	require.NoError(t, err)
	require.True(t, ok, "%d to %d", first, last)

	b.obeyed(events.VerbLoad, b.command(1)) // once more, as after a lost answer
	b.obeyed(events.VerbHalt, events.LeaveCommand{NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: b.boot}})
	bustest.AwaitReport(t, b.handler, nodeName, events.KindLeaving)
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(b.node.Commands(), "\n"), "shutdown -h now") }, bustest.Patience, time.Millisecond)
	require.Equal(t, 1, b.node.Loads())
}

// TestNoProgress: a client that prints nothing is watched through the image service.
func TestNoProgress(t *testing.T) {
	n := imaging()
	block := make(chan struct{})
	n.Frisbee = func(ctx context.Context, print func(stream, line string)) int {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return 0
	}
	session := func(_ context.Context, id string) (events.SessionState, error) {
		return events.SessionState{Session: events.Session{ID: id}, BlocksSent: 1, ImageBlocks: 4096,
			Peers: []events.SessionPeer{{Address: "127.66.1.2", Seen: time.Now()}}}, nil
	}
	b := newBench(t, n, session, lab.NewLargeImage(t, 1))
	b.up()
	b.obeyed(events.VerbLoad, b.command(1))
	bustest.AwaitReport(t, b.handler, nodeName, events.KindLoadStarted)
	close(block)
	require.IsType(t, events.LoadDone{}, b.outcome(1))
}

func TestNoServer(t *testing.T) {
	n := imaging()
	n.Frisbee = func(ctx context.Context, _ func(stream, line string)) int { <-ctx.Done(); return 0 }
	b := newBench(t, n, func(context.Context, string) (events.SessionState, error) { return events.SessionState{}, nil }, lab.NewLargeImage(t, 1))
	b.up()
	cmd := b.command(1)
	cmd.Join = events.Duration(100 * time.Millisecond)
	b.obeyed(events.VerbLoad, cmd)
	require.True(t, b.failed(1, events.ClassJoin).Retryable)
}

// TestWhatClientsSay: every way in which frisbee ends has its class (§a.9).
func TestWhatClientsSay(t *testing.T) {
	n := imaging()
	var says []string
	status := 0
	n.Frisbee = func(_ context.Context, print func(stream, line string)) int {
		for _, s := range says {
			print(legacy.Stdout, s)
		}
		return status
	}
	b := newBench(t, n, nil, lab.NewLargeImage(t, 1))
	b.up()
	for i, c := range []struct {
		says   []string
		status int
		class  events.Class
		again  bool
	}{
		{[]string{"opening output file: No such file or directory"}, listener.Exit(1), events.ClassRefused, false},
		{[]string{"setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP) : No such device"}, listener.Exit(255), events.ClassJoin, false},
		{[]string{"Progress: 10% 000002 000098", "write error: Input/output error"}, listener.Exit(255), events.ClassWrite, false},
		{[]string{"ImageUnzipChunk failed : -3"}, listener.Exit(255), events.ClassReceive, true},
		{[]string{"exec failed for 'frisbee'(No such file or directory - frisbee)"}, listener.Exit(1), events.ClassRefused, false},
		{nil, listener.Exit(3), events.ClassReceive, true},
		{[]string{"Wrote 5 bytes (5 actual)"}, 0, events.ClassVerify, false},
	} {
		says, status = c.says, c.status
		b.obeyed(events.VerbLoad, b.command(i+1))
		f := b.failed(i+1, c.class)
		require.Equal(t, c.again, f.Retryable, f.Message)
		for _, s := range c.says {
			require.Contains(t, f.Evidence.Text, s)
		}
	}
}

func TestGate(t *testing.T) {
	b := newBench(t, imaging(), nil, lab.NewLargeImage(t, 1))
	b.up()
	attempt := 0
	refused := func(change func(*events.LoadCommand), want string) {
		attempt++
		cmd := b.command(attempt)
		change(&cmd)
		b.obeyed(events.VerbLoad, cmd)
		f := b.failed(attempt, events.ClassRefused)
		require.Contains(t, f.Message, want)
		require.False(t, f.Retryable)
	}
	refused(func(c *events.LoadCommand) { c.Disk = "/dev/sda" }, "has no disk /dev/sda, it has /dev/hda /dev/hda1")
	refused(func(c *events.LoadCommand) { c.Image.DiskBytes = 81 << 30 }, "needs 86973087744")
	refused(func(c *events.LoadCommand) { c.Verify = events.VerifyReadback }, "cannot read its disk back")
	refused(func(c *events.LoadCommand) { c.Disk = "largest" }, "takes a path such as /dev/hda")
	require.Zero(t, b.node.Loads())
}

// TestOwnDisk: a node that runs from its own disk is not written to, and not by an agent that cannot say what it runs.
func TestOwnDisk(t *testing.T) {
	for _, system := range []string{"baseline-2.1.ndz", ""} {
		n := imaging()
		n.System = system
		b := newBench(t, n, nil, lab.NewLargeImage(t, 1))
		require.False(t, b.up().Imaging)
		_, err := b.send(events.VerbLoad, b.command(1))
		require.ErrorContains(t, err, "runs from its own disk")
		require.Zero(t, n.Loads())
	}
}

// TestLostConnection: the agent kills its frisbee with the connection; the attempt fails, and the next one succeeds over
// a new connection, on the same boot.
func TestLostConnection(t *testing.T) {
	n := imaging()
	b := newBench(t, n, nil, lab.NewImage(t, 4, 7))
	b.up()
	b.obeyed(events.VerbLoad, b.command(1)) // nobody serves yet
	require.Eventually(t, func() bool { return n.Loads() == 1 }, bustest.Patience, time.Millisecond)
	n.Drop()
	require.True(t, b.failed(1, events.ClassStalled).Retryable)
	b.images.StartData()
	require.Eventually(t, func() bool { _, err := b.send(events.VerbLoad, b.command(2)); return err == nil }, bustest.Patience, 10*time.Millisecond)
	require.IsType(t, events.LoadDone{}, b.outcome(2))
	require.Equal(t, 2, n.Loads())
}

// TestStop: a load that is stopped is killed on the node, and the agent stays enrolled.
func TestStop(t *testing.T) {
	n := imaging()
	b := newBench(t, n, nil, lab.NewLargeImage(t, 1))
	b.up()
	b.obeyed(events.VerbLoad, b.command(1))
	require.Eventually(t, func() bool { return n.Loads() == 1 }, bustest.Patience, time.Millisecond)
	b.obeyed(events.VerbStop, events.StopCommand{NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: b.boot}})
	b.failed(1, events.ClassCancelled)
	b.images.StartData()
	b.obeyed(events.VerbLoad, b.command(2))
	require.IsType(t, events.LoadDone{}, b.outcome(2))
}

// TestReboot: the machine comes back with another boot, and is found again.
func TestReboot(t *testing.T) {
	n := imaging()
	b := newBench(t, n, nil, lab.NewLargeImage(t, 1))
	before := b.up().Boot
	b.obeyed(events.VerbReboot, events.LeaveCommand{NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: b.boot}})
	require.Eventually(t, func() bool { return n.Reboots() == 1 }, bustest.Patience, time.Millisecond)
	require.Eventually(t, func() bool {
		n.On()
		reply, err := b.send(events.VerbProbe, nil)
		return err == nil && reply.Boot != before
	}, bustest.Patience, 20*time.Millisecond)
	require.NotEqual(t, before, b.up().Boot)
}

func TestPartitions(t *testing.T) {
	disks, ok := partitions(strings.Split("major minor  #blocks  name\n\n   8        0   78150744 sda\n   8 1 x y\n 8 1 -4 sdb\n 8 1 99999999999999999999 sdc", "\n"))
	require.True(t, ok)
	require.Equal(t, []events.Disk{{Path: "/dev/sda", Size: 78150744 << 10, SectorSize: 512}}, disks)
	_, ok = partitions([]string{"cat: not found"})
	require.False(t, ok)
}

func TestConfigs(t *testing.T) {
	connect := func(context.Context, string) (Bus, error) { return nil, nil }
	at := netip.MustParseAddr("10.18.1.2")
	for want, c := range map[string]Config{
		"testbed":            {Connect: connect},
		"Connect":            {Testbed: "default"},
		"has no IPv4":        {Testbed: "default", Connect: connect, Nodes: []Node{{Name: "a"}}},
		"have one address":   {Testbed: "default", Connect: connect, Nodes: []Node{{Name: "a", Address: at}, {Name: "b", Address: at, Port: 9006}}},
		"connects by itself": {Testbed: "default", Connect: connect, Nodes: []Node{{Name: "a", Address: at, Listen: true}}},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
}
