package sim_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/agent/internal/lab"
	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const job = "01hzzzzzzzzzzzzzzzzzzzzzz1"

// bench is a simulation with a bus and an image service; the test plays the
// handler.
type bench struct {
	t       *testing.T
	bus     *bustest.Harness
	handler *bus.Conn
	images  *lab.Service
	sim     *sim.Sim
	dir     string
	end     func()
}

// imageOnce is the image of all benches, made by the first. Nobody changes it.
var imageOnce struct {
	sync.Mutex
	image *lab.Image
}

func benchImage(t *testing.T) *lab.Image {
	t.Helper()
	imageOnce.Lock()
	defer imageOnce.Unlock()
	if imageOnce.image == nil {
		imageOnce.image = lab.NewImage(t, 4, 11)
	}
	return imageOnce.image
}

func newBench(t *testing.T, nodes []string, change func(*sim.Config)) *bench {
	t.Helper()
	b := &bench{t: t, bus: bustest.Start(t), dir: t.TempDir()}
	b.handler = b.bus.Connect(t)
	b.images = lab.Serve(t, benchImage(t))
	cfg := sim.Config{
		Testbed: bustest.Testbed, Nodes: nodes, Dir: b.dir, Seed: 42,
		BootTime: [2]time.Duration{time.Millisecond, 20 * time.Millisecond},
		Connect: func(ctx context.Context, cred events.Credential) (*bus.Conn, error) {
			return bus.Connect(ctx, bus.Config{InProcess: b.bus, Credential: &cred})
		},
		Credential: func(_ context.Context, node string, kind events.CredentialKind) (events.Credential, error) {
			if kind == events.CredentialResident {
				return b.bus.Server().ResidentCredential(bustest.Testbed, node), nil
			}
			return b.bus.Server().NodeCredential(bustest.Testbed, node), nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	b.sim, err = sim.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sim.Run(ctx) }()
	b.end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(bustest.Patience):
			t.Error("the simulator does not end")
		}
	})
	t.Cleanup(b.end)
	select {
	case <-b.sim.Ready():
	case <-time.After(bustest.Patience):
		t.Fatal("the simulator is not ready")
	}
	return b
}

func faults(t *testing.T, texts ...string) func(*sim.Config) {
	t.Helper()
	var all []sim.Fault
	for _, text := range texts {
		f, err := sim.ParseFault(text)
		require.NoError(t, err)
		all = append(all, f)
	}
	return func(c *sim.Config) { c.Faults = all }
}

func (b *bench) power(node, verb, effect string, netboot bool) events.PowerState {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	var state events.PowerState
	err := b.handler.Request(ctx, events.PowerSubject(bustest.Testbed, node, verb),
		events.PowerRequest{Testbed: bustest.Testbed, Node: node, Action: verb, Effect: effect, Netboot: netboot}, &state)
	require.NoError(b.t, err)
	return state
}

// awaitPower waits for a state that comes without a request.
func (b *bench) awaitPower(node, power string) events.PowerState {
	b.t.Helper()
	var state events.PowerState
	require.Eventually(b.t, func() bool {
		state = b.power(node, events.PowerStatus, "", false)
		return state.Power == power
	}, bustest.Patience, 2*time.Millisecond, "power of %s is never %s", node, power)
	return state
}

// awaitGone waits until no agent answers. A question may go down with the
// agent it was for, so none waits long.
func (b *bench) awaitGone(node string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		err := b.handler.Request(ctx, events.CommandSubject(bustest.Testbed, node, events.VerbProbe), nil, nil)
		return errors.Is(err, bus.ErrNoResponders)
	}, bustest.Patience, time.Millisecond)
}

// netboot starts the imaging system and waits for the agent of that boot.
func (b *bench) netboot(node, effect string) (boot string) {
	b.t.Helper()
	state := b.power(node, events.PowerCycle, effect, true)
	require.Equal(b.t, "on", state.Power)
	b.awaitUp(node, state.Boot)
	return state.Boot
}

func (b *bench) awaitUp(node, boot string) {
	b.t.Helper()
	bustest.Await(b.t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, node, events.KindUp), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		return err == nil && d.(events.Up).Boot == boot && d.(events.Up).Imaging
	})
}

func (b *bench) ref(node, boot string, attempt int) events.NodeRef {
	return events.NodeRef{Job: job, Node: node, Attempt: attempt, Boot: boot}
}

func (b *bench) load(node, boot string, attempt int, verify string) {
	b.t.Helper()
	b.command(node, events.VerbLoad, events.LoadCommand{
		NodeRef: b.ref(node, boot, attempt), Effect: events.EffectID(job, node, "load", attempt),
		Image: b.images.Describe(), Session: b.images.Session(), Disk: "/dev/sda", Verify: verify,
		Join: events.Duration(10 * time.Second), Stall: events.Duration(10 * time.Second),
	})
}

func (b *bench) command(node string, verb events.Verb, cmd any) events.CommandReply {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	var reply events.CommandReply
	require.NoError(b.t, b.handler.Request(ctx, events.CommandSubject(bustest.Testbed, node, verb), cmd, &reply))
	return reply
}

// outcome waits for the end of an attempt: LoadDone or LoadFailed.
func (b *bench) outcome(node string, attempt int) events.Data {
	b.t.Helper()
	return bustest.AwaitOutcome(b.t, b.handler, node, attempt)
}

func (b *bench) done(node string, attempt int) events.LoadDone {
	b.t.Helper()
	d := b.outcome(node, attempt)
	require.IsType(b.t, events.LoadDone{}, d, "%+v", d)
	return d.(events.LoadDone)
}

func (b *bench) failed(node string, attempt int) events.LoadFailed {
	b.t.Helper()
	d := b.outcome(node, attempt)
	require.IsType(b.t, events.LoadFailed{}, d, "%+v", d)
	return d.(events.LoadFailed)
}

// damage is where the disk of a node differs from the image.
func (b *bench) damage(node string) (first, last int64, ok bool) {
	b.t.Helper()
	first, last, ok, err := b.images.Image.Damage(sim.DiskPath(b.dir, node))
	require.NoError(b.t, err)
	return first, last, ok
}

func (b *bench) requireRight(node string) {
	b.t.Helper()
	first, last, ok := b.damage(node)
	require.True(b.t, ok, "the disk of %s differs in bytes %d to %d", node, first, last)
}
