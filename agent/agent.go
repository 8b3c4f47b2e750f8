package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"loadnode/bus"
	"loadnode/events"
)

// Defaults of Config.
const (
	DefaultMemory    = 48 << 20         // bytes of chunk buffers
	DefaultFarewell  = 10 * time.Second // last reports before the machine leaves
	defaultHTTPTries = 15 * time.Second // one page of a manifest
	// endFarewell is how long an agent that was told to end waits for its last
	// reports.
	endFarewell = 3 * time.Second
	// maxListed is how many disks and how many network interfaces a report
	// lists: the stream takes no large ones.
	maxListed = 48
)

// ErrAbrupt, as the cause of the context of Run, ends an agent as a power cut
// does: nothing more is said.
var ErrAbrupt = errors.New("the machine lost its power")

// Bus is what an agent needs of a connection. *bus.Conn has it.
type Bus interface {
	Publish(ctx context.Context, subject string, ev event.Event) (bus.Ack, error)
	Emit(ctx context.Context, subject string, ev event.Event) error
	Serve(ctx context.Context, cfg bus.ServiceConfig) (*bus.Service, error)
}

// Config is what an agent needs to run. Testbed, Node, Boot, Conn and Machine
// are required.
type Config struct {
	Testbed string
	Node    string // plain name
	Boot    string // id of this boot of the machine
	Version string // of the program, for reports
	Conn    Bus    // connected with the credential of the node
	Machine Machine

	Loader   Loader        // carries out loads, and saves if it is a Saver; nil: the agent itself
	HTTP     *http.Client  // fetches manifests; nil: one with a timeout of 15 s
	Logger   *slog.Logger  // nil: silent
	Clock    Clock         // nil: that of the machine
	Entropy  io.Reader     // of report ids; nil: crypto/rand
	Memory   int64         // bytes of chunk buffers of a load; 0: 48 MiB
	Workers  int           // goroutines that verify, inflate and write; 0: one per core
	Farewell time.Duration // wait for the last reports before the machine leaves; 0: 10 s
}

// Agent is the agent of one node for one boot.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	clock  Clock
	out    *outbox
	begin  context.Context // of everything that runs in the background
	finish context.CancelCauseFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	op       *operation   // running, or the last one
	past     []*operation // older ones, newest last
	loads    int
	leaving  events.Verb // halt or reboot, once told
	leaveErr string
	ended    bool
	entropy  sync.Mutex
}

func checkNames(testbed, node, boot string) error {
	for what, name := range map[string]string{"testbed": testbed, "node": node, "boot id": boot} {
		if err := events.CheckName(name); err != nil {
			return fmt.Errorf("agent: %s %q: %w", what, name, err)
		}
	}
	return nil
}

// New makes an agent. It says nothing on the bus before Run.
func New(cfg Config) (*Agent, error) {
	if err := checkNames(cfg.Testbed, cfg.Node, cfg.Boot); err != nil {
		return nil, err
	}
	if cfg.Conn == nil || cfg.Machine == nil {
		return nil, errors.New("agent: a connection and a machine are required")
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: defaultHTTPTries}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Entropy == nil {
		cfg.Entropy = rand.Reader
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Farewell == 0 {
		cfg.Farewell = DefaultFarewell
	}
	log := cfg.Logger.With("node", cfg.Node)
	return &Agent{cfg: cfg, log: log, clock: cfg.Clock, out: newOutbox(cfg.Conn, cfg.Clock, log)}, nil
}

// Run reports the node up and obeys its commands until ctx ends. A load that
// runs then is stopped, reported and the report delivered if that is possible
// within 3 s, unless the cause of ctx is ErrAbrupt. It returns nil when ctx
// ended it, and an error when commands cannot be served.
func (a *Agent) Run(ctx context.Context) error {
	a.begin, a.finish = context.WithCancelCause(context.WithoutCancel(ctx))
	defer a.finish(nil)
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	var sender sync.WaitGroup
	sender.Go(func() { a.out.run(sending) })

	service, err := patiently(ctx, a.clock, a.log, a.serve)
	if err != nil {
		stopSending()
		sender.Wait()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("agent of %s: serve commands: %w", a.cfg.Node, err)
	}
	// The report goes out when commands can be obeyed: a handler answers it
	// with one.
	a.reportUp(ctx)
	<-ctx.Done()

	abrupt := errors.Is(context.Cause(ctx), ErrAbrupt)
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	if abrupt {
		stopSending()
	}
	a.finish(errEnding)
	service.Stop()
	a.wg.Wait()
	if !abrupt {
		select {
		case <-a.out.drained():
		case <-a.clock.After(endFarewell):
			a.log.Warn("reports were not delivered before the end", "reports", a.out.len())
		}
	}
	stopSending()
	sender.Wait()
	return nil
}

// reportUp says that the node is up, and what it is.
func (a *Agent) reportUp(ctx context.Context) {
	hardware, err := a.cfg.Machine.Hardware(ctx)
	if err != nil {
		// A node that cannot list its disks is up all the same; the load says
		// what is wrong with its disk.
		a.log.Warn("the hardware cannot be listed", "err", err)
	}
	hardware.Disks = hardware.Disks[:min(maxListed, len(hardware.Disks))]
	hardware.NICs = hardware.NICs[:min(maxListed, len(hardware.NICs))]
	a.report(events.Up{
		NodeRef: events.NodeRef{Node: a.cfg.Node, Boot: a.cfg.Boot},
		Imaging: a.cfg.Machine.Imaging(), Address: a.cfg.Machine.Address(), Agent: a.cfg.Version,
		Hardware: hardware,
	}, "")
}

// report puts a report into the outbox. causation is the effect it follows
// from, "" for none.
func (a *Agent) report(d events.Data, causation string) {
	ev, err := a.envelope(d, causation)
	if err != nil {
		a.log.Error("report cannot be made", "kind", string(d.Kind()), "err", err)
		return
	}
	a.out.add(report{subject: events.ReportSubject(a.cfg.Testbed, a.cfg.Node, d.Kind()), event: ev})
}

func (a *Agent) envelope(d events.Data, causation string) (event.Event, error) {
	a.entropy.Lock()
	id, err := events.NewULID(a.clock.Now(), a.cfg.Entropy)
	a.entropy.Unlock()
	if err != nil {
		return event.Event{}, err
	}
	subject := "node/" + a.cfg.Node
	if ref, ok := events.RefOf(d); ok && ref.Job != "" {
		subject = events.SubjectAttr(ref.Job, a.cfg.Node)
	}
	return events.New(events.Meta{
		ID: id, Source: events.Source(a.cfg.Testbed, "agent", a.cfg.Node), Subject: subject,
		Time: a.clock.Now(), Causation: causation,
	}, d)
}
