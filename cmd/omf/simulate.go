package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/bus/embedded"
	"loadnode/cmd/omf/internal/config"
	"loadnode/events"
)

// simConfig says which nodes are simulated and how.
type simConfig struct {
	nodes  []string
	dir    string
	seed   uint64
	boot   [2]time.Duration
	faults []sim.Fault
}

// simFlags are the flags of everything that simulates nodes.
type simFlags struct {
	seed   uint64
	faults []string
	boot   string
}

// defaultBoot is how long simulated nodes take from power to agent.
const defaultBoot = "200ms-800ms"

func (f *simFlags) register(fs *pflag.FlagSet) {
	fs.Uint64Var(&f.seed, "seed", 1, "seed of boot times and faults")
	placeholder(fs, "seed", "N")
	fs.StringArrayVar(&f.faults, "fault", nil, "fault of simulated nodes, of all of them without :NODE; may be repeated. Kinds: "+strings.Join(sim.Kinds(), ", "))
	placeholder(fs, "fault", "KIND[:NODE,…]")
	fs.StringVar(&f.boot, "boot", defaultBoot, "time from power to agent of a simulated node")
	placeholder(fs, "boot", "MIN-MAX")
}

// config makes of the flags what the simulator needs.
func (f *simFlags) config(nodes []string, dir string) (*simConfig, error) {
	c := &simConfig{nodes: nodes, dir: dir, seed: f.seed}
	for _, text := range f.faults {
		fault, err := sim.ParseFault(text)
		if err != nil {
			return nil, usagef("--fault: %w", err)
		}
		c.faults = append(c.faults, fault)
	}
	var err error
	if c.boot, err = parseSpan(f.boot); err != nil {
		return nil, usagef("--boot: %w", err)
	}
	return c, nil
}

// parseSpan reads "200ms-2s" or "1s".
func parseSpan(s string) ([2]time.Duration, error) {
	lo, hi, ok := strings.Cut(s, "-")
	if !ok {
		hi = lo
	}
	a, err1 := time.ParseDuration(lo)
	b, err2 := time.ParseDuration(hi)
	if err1 != nil || err2 != nil || a < 0 || b < a {
		return [2]time.Duration{}, fmt.Errorf("%q: want two times such as 200ms-2s, the shorter first", s)
	}
	return [2]time.Duration{a, b}, nil
}

// build makes the simulator.
func (c *simConfig) build(testbed string, source busSource, log *slog.Logger) (*sim.Sim, error) {
	return sim.New(sim.Config{
		Testbed: testbed, Nodes: c.nodes, Dir: c.dir, Connect: source.connect, Credential: source.credential,
		Seed: c.seed, BootTime: c.boot, Faults: c.faults, Logger: log, Version: version,
	})
}

// busSource gives simulated nodes their credentials and connections.
type busSource struct {
	conn      *bus.Conn // asks for credentials
	testbed   string
	urls      []string
	inProcess *embedded.Server // nil: urls
	log       *slog.Logger
	anonymous bool // nobody hands out credentials here
}

func (b busSource) connect(ctx context.Context, cred events.Credential) (*bus.Conn, error) {
	cfg := bus.Config{URLs: b.urls, Name: "simulated " + cred.User, Logger: b.log}
	if cred.User != "" {
		cfg.Credential = &cred
	}
	if b.inProcess != nil {
		cfg.InProcess = b.inProcess.Conn()
	}
	return bus.Connect(ctx, cfg)
}

func (b busSource) credential(ctx context.Context, node string, kind events.CredentialKind) (events.Credential, error) {
	if b.inProcess != nil {
		if kind == events.CredentialResident {
			return b.inProcess.ResidentCredential(b.testbed, node), nil
		}
		return b.inProcess.NodeCredential(b.testbed, node), nil
	}
	var c events.Credential
	if b.anonymous {
		return c, nil
	}
	if err := b.conn.Request(ctx, events.BusSubject(b.testbed, events.BusCredential), events.CredentialRequest{Node: node, Kind: kind}, &c); err != nil {
		return events.Credential{}, fmt.Errorf("credential of %s: %w", node, err)
	}
	return c, nil
}

func (a *app) simCommand() *cobra.Command {
	var f simFlags
	var size, dir string
	c := &cobra.Command{
		Use: "sim --grid COLSxROWS", Short: "Simulate nodes beside a running server", Args: words(0, "no words"),
		Long: `Sim attaches to the bus of a running server and is the nodes n1-1 … of a grid:
each runs the real agent and the real data plane on loopback multicast, with a
file as its disk (DIR/NODE.disk). It prints "ready: N nodes" when the power of
all of them answers, and runs until it is interrupted.`,
		Example: "  omf sim --grid 4x2 --fault loss=2:n1-1 --fault noboot:n4-2",
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := parseGrid(size)
			if err != nil {
				return usagef("--grid: %w", err)
			}
			if dir == "" {
				state, err := a.stateDir()
				if err != nil {
					return err
				}
				dir = filepath.Join(state, roleSim)
			}
			cfg, err := f.config(g.nodes(), dir)
			if err != nil {
				return err
			}
			return a.simulate(c.Context(), cfg)
		},
	}
	fl := c.Flags()
	fl.StringVar(&size, "grid", "", "size of the grid")
	placeholder(fl, "grid", "COLSxROWS")
	fl.StringVar(&dir, "dir", "", "directory of the disks (default: sim in the state directory)")
	placeholder(fl, "dir", "DIR")
	a.setting(fl, "state", "", config.KeyState, "DIR")
	a.setting(fl, "log", "", config.KeyLog, "LEVEL")
	f.register(fl)
	return c
}

// simulate runs simulated nodes on the bus of another process.
func (a *app) simulate(ctx context.Context, cfg *simConfig) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	return a.client(ctx, func(conn *bus.Conn) error {
		source := busSource{conn: conn, testbed: a.testbed(), urls: a.servers(), log: log}
		// Asked once: that nobody answers later means that the server restarts,
		// and then nodes wait for their credentials.
		_, err := source.credential(ctx, cfg.nodes[0], events.CredentialResident)
		switch {
		case errors.Is(err, bus.ErrNoResponders):
			log.Warn("nobody hands out credentials of nodes: they connect without, with more rights than nodes should have", "testbed", a.testbed())
			source.anonymous = true
		case err != nil:
			return err
		}
		nodes, err := cfg.build(a.testbed(), source, log)
		if err != nil {
			return usagef("%w", err)
		}
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer func() { cancel(); wg.Wait() }()
		wg.Go(func() {
			if awaiting(nodes)(ctx) == nil {
				a.ready(fmt.Sprintf("ready: %d nodes", len(cfg.nodes)), map[string]any{"ready": true, "nodes": len(cfg.nodes), "dir": cfg.dir})
			}
		})
		return nodes.Run(ctx)
	})
}

// ready prints the line that scripts wait for.
func (a *app) ready(line string, object any) {
	var err error
	if a.output == "text" {
		_, err = fmt.Fprintln(a.stdout, line)
	} else {
		err = a.printJSON(object)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "omf: %v\n", err)
	}
}
