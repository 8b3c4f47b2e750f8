package agent_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/agent"
	"loadnode/agent/internal/lab"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nodeName = "n1-1"
	bootID   = "boot-1"
	jobID    = "01hzzzzzzzzzzzzzzzzzzzzzz1"
	otherJob = "01hzzzzzzzzzzzzzzzzzzzzzz2"
)

// fileMachine is a machine with a file as disk, on the loopback interface.
type fileMachine struct {
	path    string
	imaging bool
	wrap    func(disk.Target) disk.Target // nil: as it is
	refuse  error                         // of the gate
	leave   error
	left    chan events.Verb
	closed  chan struct{} // a token for each disk closed
}

func (m *fileMachine) Hardware(context.Context) (events.Hardware, error) {
	return events.Hardware{Disks: []events.Disk{{Path: m.path, Serial: "s1", SectorSize: 512}}}, nil
}

func (m *fileMachine) OpenDisk(_ context.Context, selector string, need int64, _ int) (disk.Target, events.Disk, error) {
	if m.refuse != nil {
		return nil, events.Disk{}, m.refuse
	}
	t, err := disk.Open(m.path, disk.Options{Create: true})
	if err != nil {
		return nil, events.Disk{}, err
	}
	if m.wrap != nil {
		t = m.wrap(t)
	}
	return &tellingTarget{Target: t, closed: m.closed}, events.Disk{Path: m.path, Size: need, SectorSize: 512}, nil
}

// ReadDisk opens the file as a disk to be saved; wrap and refuse hold for it as well.
func (m *fileMachine) ReadDisk(context.Context, string) (agent.Source, events.Disk, error) {
	if m.refuse != nil {
		return nil, events.Disk{}, m.refuse
	}
	t, err := disk.Open(m.path, disk.Options{ReadOnly: true})
	if err != nil {
		return nil, events.Disk{}, err
	}
	if m.wrap != nil {
		t = m.wrap(t)
	}
	return &tellingTarget{Target: t, closed: m.closed}, events.Disk{Path: m.path, Size: t.Size(), SectorSize: 512}, nil
}

func (m *fileMachine) Join(s events.Session) (mcast.Conn, error) {
	return mcast.Open(mcast.Options{Group: netip.MustParseAddr(s.Group), Port: s.Port, Local: netip.MustParseAddr("127.66.0.1")})
}

func (m *fileMachine) Leave(_ context.Context, how events.Verb) error {
	m.left <- how
	return m.leave
}

func (m *fileMachine) Imaging() bool   { return m.imaging }
func (m *fileMachine) Address() string { return "127.66.0.1" }

// tellingTarget tells when it is closed.
type tellingTarget struct {
	disk.Target
	closed chan struct{}
}

func (t *tellingTarget) Close() error {
	err := t.Target.Close()
	t.closed <- struct{}{}
	return err
}

// faultyTarget fails as told.
type faultyTarget struct {
	disk.Target
	write func(off int64, n int) error
	read  func(off int64, n int) error
	sync  func(disk.Target)
}

func (t *faultyTarget) ReadAt(p []byte, off int64) (int, error) {
	if t.read != nil {
		if err := t.read(off, len(p)); err != nil {
			return 0, err
		}
	}
	return t.Target.ReadAt(p, off)
}

func (t *faultyTarget) WriteAt(p []byte, off int64) (int, error) {
	if t.write != nil {
		if err := t.write(off, len(p)); err != nil {
			return 0, err
		}
	}
	return t.Target.WriteAt(p, off)
}

func (t *faultyTarget) Sync() error {
	err := t.Target.Sync()
	if t.sync != nil {
		t.sync(t.Target)
	}
	return err
}

// bench is one agent on a bus, with an image service beside it.
type bench struct {
	t       *testing.T
	bus     *bustest.Harness
	handler *bus.Conn // with the rights of one
	images  *lab.Service
	machine *fileMachine
	agent   *agent.Agent
	end     context.CancelCauseFunc
	wait    func()
}

// imageOnce is the image of all benches, made by the first.
var imageOnce struct {
	sync.Mutex
	image *lab.Image
}

// benchImage is an image of several chunks. Fields of it may be replaced, what they refer to belongs to all benches.
func benchImage(t *testing.T) *lab.Image {
	t.Helper()
	imageOnce.Lock()
	defer imageOnce.Unlock()
	if imageOnce.image == nil {
		imageOnce.image = lab.NewImage(t, 4, 7)
	}
	image := *imageOnce.image
	return &image
}

func newBench(t *testing.T, change ...func(*agent.Config, *fileMachine)) *bench {
	t.Helper()
	b := &bench{t: t, bus: bustest.Start(t)}
	b.handler = b.bus.Connect(t)
	b.images = lab.Serve(t, benchImage(t))
	b.machine = &fileMachine{
		path: filepath.Join(t.TempDir(), "disk"), imaging: true,
		left: make(chan events.Verb, 10), closed: make(chan struct{}, 10),
	}
	web := &http.Client{}
	t.Cleanup(web.CloseIdleConnections)
	cfg := agent.Config{
		Testbed: bustest.Testbed, Node: nodeName, Boot: bootID, Version: "test",
		Conn: b.bus.ConnectNode(t, nodeName), Machine: b.machine, HTTP: web,
	}
	for _, c := range change {
		c(&cfg, b.machine)
	}
	var err error
	b.agent, err = agent.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(context.Background())
	b.end = cancel
	done := make(chan error, 1)
	go func() { done <- b.agent.Run(ctx) }()
	b.wait = sync.OnceFunc(func() {
		cancel(nil)
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(bustest.Patience):
			t.Error("the agent does not end")
		}
	})
	t.Cleanup(b.wait)
	return b
}

// in is the bench for a subtest, which is what fails then.
func (b *bench) in(t *testing.T) *bench {
	sub := *b
	sub.t = t
	return &sub
}

// command is a load command for the image of the bench.
func (b *bench) command() events.LoadCommand {
	return events.LoadCommand{
		NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: 1, Boot: bootID},
		Effect:  events.EffectID(jobID, nodeName, "load", 1),
		Image:   b.images.Describe(), Session: b.images.Session(), Disk: "/dev/sda",
		Join: events.Duration(10 * time.Second), Stall: events.Duration(10 * time.Second),
	}
}

func (b *bench) send(verb events.Verb, cmd any) (events.CommandReply, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	var reply events.CommandReply
	err := b.handler.Request(ctx, events.CommandSubject(bustest.Testbed, nodeName, verb), cmd, &reply)
	return reply, err
}

// obeyed sends a command that must be accepted.
func (b *bench) obeyed(verb events.Verb, cmd any) events.CommandReply {
	b.t.Helper()
	reply, err := b.send(verb, cmd)
	require.NoError(b.t, err)
	require.Equal(b.t, bootID, reply.Boot)
	return reply
}

// refused sends a command that must be refused with a code.
func (b *bench) refused(code events.Code, verb events.Verb, cmd any) *events.Error {
	b.t.Helper()
	_, err := b.send(verb, cmd)
	var refusal *events.Error
	require.True(b.t, errors.As(err, &refusal), "%v", err)
	require.Equal(b.t, code, refusal.Code, refusal.Message)
	return refusal
}

// up waits until the agent has reported.
func (b *bench) up() events.Up {
	b.t.Helper()
	_, d := bustest.AwaitReport(b.t, b.handler, nodeName, events.KindUp)
	return d.(events.Up)
}

func (b *bench) started() events.LoadStarted {
	b.t.Helper()
	_, d := bustest.AwaitReport(b.t, b.handler, nodeName, events.KindLoadStarted)
	return d.(events.LoadStarted)
}

// loading begins a load that takes far longer than its test.
func (b *bench) loading() events.LoadCommand {
	b.t.Helper()
	b.images.Pace(slow)
	b.images.StartData()
	b.up()
	cmd := b.command()
	b.obeyed(events.VerbLoad, cmd)
	b.started()
	return cmd
}

func (b *bench) done() events.LoadDone {
	b.t.Helper()
	m := bustest.Await(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		return m.Address.Kind == events.KindLoadDone || m.Address.Kind == events.KindLoadFailed
	})
	d, err := events.Decode(m.Event)
	require.NoError(b.t, err)
	require.IsType(b.t, events.LoadDone{}, d, "%+v", d)
	return d.(events.LoadDone)
}

func (b *bench) failed() events.LoadFailed {
	b.t.Helper()
	m := bustest.Await(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		return m.Address.Kind == events.KindLoadDone || m.Address.Kind == events.KindLoadFailed
	})
	d, err := events.Decode(m.Event)
	require.NoError(b.t, err)
	require.IsType(b.t, events.LoadFailed{}, d, "%+v", d)
	return d.(events.LoadFailed)
}

// kinds are the kinds of all reports, in order, each event once: an
// acknowledgement may have been lost.
func (b *bench) kinds() []events.Kind {
	b.t.Helper()
	var kinds []events.Kind
	seen := map[string]bool{}
	for _, m := range bustest.All(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName)) {
		require.NoError(b.t, m.Err)
		if !seen[m.Event.ID()] {
			seen[m.Event.ID()] = true
			kinds = append(kinds, m.Address.Kind)
		}
	}
	return kinds
}

func (b *bench) requireDisk(right bool) {
	b.t.Helper()
	first, last, ok, err := b.images.Image.Damage(b.machine.path)
	require.NoError(b.t, err)
	require.Equal(b.t, right, ok, "differs in bytes %d to %d", first, last)
}

func (b *bench) requireUntouched() {
	b.t.Helper()
	st, err := os.Stat(b.machine.path)
	if !os.IsNotExist(err) {
		require.NoError(b.t, err)
		require.Zero(b.t, st.Size(), "something was written")
	}
}
