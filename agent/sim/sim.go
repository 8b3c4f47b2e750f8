package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"loadnode/agent"
	"loadnode/bus"
	"loadnode/events"
)

// Bounds of the chunk buffers of a node, bytes, when Config.Memory is 0: the
// nodes share allMemory.
const (
	allMemory = 512 << 20
	minMemory = 4 << 20
	maxMemory = 32 << 20
)

// MaxNodes is the most nodes that one simulator has.
const MaxNodes = 10000

// Config says what is simulated. Testbed, Nodes, Dir, Connect and Credential
// are required.
type Config struct {
	Testbed string
	Nodes   []string
	Dir     string // disks are DIR/<escaped node>.disk; it is created if need be
	// Connect opens a connection to the bus. It may give up: it is called
	// again until it succeeds.
	Connect func(ctx context.Context, cred events.Credential) (*bus.Conn, error)
	// Credential gets the credential of a node: CredentialNode for its agent,
	// CredentialResident for its power.
	Credential func(ctx context.Context, node string, kind events.CredentialKind) (events.Credential, error)
	Seed       uint64
	BootTime   [2]time.Duration // from power to agent: between the two
	Faults     []Fault
	DiskSize   int64        // bytes; 0: a disk grows to what the image needs
	Logger     *slog.Logger // nil: silent

	Version string      // that agents report
	Memory  int64       // chunk buffers of each node, bytes; 0: 4 to 32 MiB, the more nodes the less
	Clock   agent.Clock // nil: that of the machine
	Entropy io.Reader   // of boot ids; nil: crypto/rand
}

// Sim is a set of simulated nodes.
type Sim struct {
	cfg   Config
	log   *slog.Logger
	nodes []*node
	http  *http.Client
	ready chan struct{}

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup // boots
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config) (*Sim, error) {
	if err := events.CheckName(cfg.Testbed); err != nil {
		return nil, fmt.Errorf("simulate: testbed: %w", err)
	}
	if cfg.Connect == nil || cfg.Credential == nil || cfg.Dir == "" {
		return nil, errors.New("simulate: Dir, Connect and Credential are required")
	}
	if len(cfg.Nodes) == 0 || len(cfg.Nodes) > MaxNodes {
		return nil, fmt.Errorf("simulate: %d nodes, possible are 1 to %d", len(cfg.Nodes), MaxNodes)
	}
	if cfg.DiskSize < 0 || cfg.DiskSize%sectorSize != 0 {
		return nil, fmt.Errorf("simulate: disks of %d bytes: it must be a multiple of %d", cfg.DiskSize, sectorSize)
	}
	for _, f := range cfg.Faults {
		for _, name := range f.Nodes {
			if !slices.Contains(cfg.Nodes, name) {
				return nil, fmt.Errorf("simulate: fault %q: there is no node %s", f, name)
			}
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = agent.SystemClock{}
	}
	if cfg.Entropy == nil {
		cfg.Entropy = rand.Reader
	}
	if cfg.Memory == 0 {
		cfg.Memory = min(maxMemory, max(minMemory, allMemory/int64(len(cfg.Nodes))))
	}
	s := &Sim{cfg: cfg, log: cfg.Logger, ready: make(chan struct{})}
	seen := map[string]bool{}
	for i, name := range cfg.Nodes {
		if err := events.CheckName(name); err != nil {
			return nil, fmt.Errorf("simulate: node %q: %w", name, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("simulate: node %s is named twice", name)
		}
		seen[name] = true
		s.nodes = append(s.nodes, newNode(s, i, name))
	}
	return s, nil
}

// Ready is closed once the power of every node is served.
func (s *Sim) Ready() <-chan struct{} { return s.ready }

// Run simulates until ctx ends; then all nodes lose their power. The disks
// stay.
func (s *Sim) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o777); err != nil {
		return fmt.Errorf("simulate: disks: %w", err)
	}
	s.http = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second}}
	defer s.http.CloseIdleConnections()
	for _, n := range s.nodes {
		n.mu.Lock()
		err := n.switchOn(false)
		n.mu.Unlock()
		if err != nil {
			return err
		}
	}
	err := s.residents(ctx)
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	for _, n := range s.nodes {
		n.mu.Lock()
		n.switchOff()
		n.mu.Unlock()
	}
	s.wg.Wait()
	return err
}

// residents serves the power of all nodes until ctx ends, which is no error,
// or until one of them cannot be served.
func (s *Sim) residents(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	var serving sync.WaitGroup
	serving.Add(len(s.nodes))
	for _, n := range s.nodes {
		group.Go(func() error { return s.resident(ctx, n, serving.Done) })
	}
	group.Go(func() error {
		serving.Wait() // each resident says that it serves, or that it ends
		if ctx.Err() == nil {
			s.log.Info("simulated nodes are ready", "nodes", len(s.nodes))
			close(s.ready)
		}
		return nil
	})
	return group.Wait()
}

// begin runs the life of a boot, unless the simulator is ending.
func (s *Sim) begin(live func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.wg.Go(live)
	return true
}

// resident serves the power of a node until ctx ends. serving is called once,
// at the latest in the end.
func (s *Sim) resident(ctx context.Context, n *node, serving func()) error {
	serving = sync.OnceFunc(serving)
	defer serving()
	conn, err := s.connect(ctx, n.name, events.CredentialResident)
	if err != nil {
		return nil // ctx has ended
	}
	defer conn.Close()
	cfg := bus.ServiceConfig{Name: "power", Version: s.cfg.Version, Description: "power of simulated node " + n.name, Plain: true}
	for _, verb := range []string{events.PowerOn, events.PowerOff, events.PowerSoft, events.PowerReset, events.PowerCycle, events.PowerStatus} {
		cfg.Endpoints = append(cfg.Endpoints, bus.Endpoint{
			Name: verb, Subject: events.PowerSubject(s.cfg.Testbed, n.name, verb),
			Handle: func(_ context.Context, r bus.Request) (any, error) { return n.answer(r, verb) },
		})
	}
	service, err := s.serve(ctx, conn, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("simulate: power of %s: %w", n.name, err)
	}
	serving()
	<-ctx.Done()
	service.Stop()
	return nil
}

// serve tries until it serves, unless trying again does not help.
func (s *Sim) serve(ctx context.Context, conn *bus.Conn, cfg bus.ServiceConfig) (*bus.Service, error) {
	for {
		service, err := conn.Serve(ctx, cfg)
		if err == nil || ctx.Err() != nil || !bus.IsTransient(err) {
			return service, err
		}
		select {
		case <-s.cfg.Clock.After(connectPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}
