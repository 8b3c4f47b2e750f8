package agent

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
)

// deafBus takes telemetry and no reports, and serves nothing.
type deafBus struct {
	mu       sync.Mutex
	progress []events.Progress
	at       []time.Time
}

func (b *deafBus) Publish(ctx context.Context, _ string, _ event.Event) (bus.Ack, error) {
	<-ctx.Done()
	return bus.Ack{}, bus.ErrUnreachable
}

func (b *deafBus) Emit(_ context.Context, _ string, ev event.Event) error {
	d, err := events.Decode(ev)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress = append(b.progress, d.(events.Progress))
	b.at = append(b.at, time.Now())
	return nil
}

func (b *deafBus) Serve(context.Context, bus.ServiceConfig) (*bus.Service, error) {
	return nil, errors.New("not here")
}

// brickMachine has no disk.
type brickMachine struct{}

func (brickMachine) Hardware(context.Context) (events.Hardware, error) {
	return events.Hardware{}, nil
}

func (brickMachine) OpenDisk(context.Context, string, int64, int) (disk.Target, events.Disk, error) {
	return nil, events.Disk{}, disk.ErrNotFound
}

func (brickMachine) Join(events.Session) (mcast.Conn, error)  { return nil, errors.New("no network") }
func (brickMachine) Leave(context.Context, events.Verb) error { return nil }
func (brickMachine) Imaging() bool                            { return true }
func (brickMachine) Address() string                          { return "" }

func newDeafAgent(t *testing.T, b *deafBus) *Agent {
	t.Helper()
	a, err := New(Config{Testbed: "default", Node: "n1-1", Boot: "b1", Conn: b, Machine: brickMachine{}})
	require.NoError(t, err)
	a.begin, a.finish = context.WithCancelCause(t.Context())
	return a
}

func TestProgressIsSaidOnceASecondAndAtEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &deafBus{}
		a := newDeafAgent(t, b)
		op := newOperation(events.NodeRef{Job: "j1", Attempt: 1}, "b1", "", func(error) {})
		op.meter(func() Figures { return Figures{Percent: 50, BytesWritten: 7} })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.telemetry(ctx, op) })
		began := time.Now()
		for range 100 { // steps of one phase change nothing
			op.enter(stepManifest)
			op.enter(stepJoin)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		op.enter(stepReceive)
		time.Sleep(300 * time.Millisecond)
		op.enter(stepSync)
		time.Sleep(time.Second + time.Millisecond)
		cancel()
		wg.Wait()

		var said []string
		for i, p := range b.progress {
			said = append(said, p.Phase+" "+b.at[i].Sub(began).String())
			require.EqualValues(t, 50, p.Percent)
			require.Equal(t, "j1", p.Job)
			require.Equal(t, "b1", p.Boot)
		}
		require.Equal(t, []string{
			"joining 0s", "joining 1s", "joining 2s", "joining 3s", "joining 4s", "joining 5s",
			"receiving 5.3s", "syncing 5.6s", "syncing 6.6s",
		}, said)
	})
}

func TestNoNewLoadsWhileReportsPileUp(t *testing.T) {
	a := newDeafAgent(t, &deafBus{})
	load := func(attempt int) error {
		data, err := json.Marshal(events.LoadCommand{NodeRef: events.NodeRef{Job: "j1", Node: "n1-1", Boot: "b1", Attempt: attempt}})
		require.NoError(t, err)
		_, err = a.handleLoad(t.Context(), bus.Request{Data: data})
		return err
	}
	attempt := 0
	for a.out.len() < outboxLimit {
		attempt++
		require.NoError(t, load(attempt))
		a.wg.Wait() // it fails at once, there is no disk
	}
	require.Equal(t, outboxLimit, attempt, "each left one report")
	var refusal *events.Error
	require.True(t, errors.As(load(attempt+1), &refusal))
	require.Equal(t, events.CodeBusy, refusal.Code)
	require.True(t, refusal.Retryable)

	// Repeating a command does not make it worse, and old outcomes are
	// forgotten at some time, but not refused wrongly.
	require.NoError(t, load(attempt))
	require.Equal(t, outboxLimit, a.out.len())
	require.Len(t, a.past, pastOperations)
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Testbed: "default", Node: "n1-1", Boot: "b1", Conn: &deafBus{}, Machine: brickMachine{}}
	_, err := New(good)
	require.NoError(t, err)
	for want, change := range map[string]func(*Config){
		"testbed":      func(c *Config) { c.Testbed = "" },
		"node":         func(c *Config) { c.Node = "" },
		"boot id":      func(c *Config) { c.Boot = "" },
		"a connection": func(c *Config) { c.Conn = nil },
		"a machine":    func(c *Config) { c.Machine = nil },
	} {
		bad := good
		change(&bad)
		_, err := New(bad)
		require.ErrorContains(t, err, want)
	}
}
