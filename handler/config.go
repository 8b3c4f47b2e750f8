package handler

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/power"
)

// Clock tells the time and wakes up. Tests bring their own.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets the time once d has passed.
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Policy says how a handler works. Zero fields take the defaults of
// DefaultPolicy.
type Policy struct {
	// Policy of the plans of jobs: window, budgets, assumed rates.
	job.Policy
	// Grace is how long after its start a handler hears reports before missed
	// deadlines count: what agents kept while nobody listened comes first.
	Grace time.Duration
	// Silence is how long nothing must have been heard of an agent that is to
	// load, neither answers nor reports nor telemetry, until the attempt is
	// given up and the node rebooted. An agent that is only cut off from the
	// bus goes on loading and needs the time to come back. A node whose power
	// controller says that it is off is given up earlier; the deadline of the
	// load holds in any case.
	Silence time.Duration
	// Owner is how long a handler owns a job without renewing, at least a
	// second; a job of a handler that died is adopted after this time.
	Owner time.Duration
	// Patience is how long the planning of a request waits for an image
	// service that does not answer.
	Patience time.Duration
	// Wait is how long a waiting request without a timeout waits for nodes.
	Wait time.Duration
	// Stagger is the pause between the starts of two nodes, of all jobs
	// together: what a fuse, a chassis or a DHCP server wants. 0: none. Nodes
	// get that much more time to report.
	Stagger time.Duration
	// Parallel is how many effects run at once, of all jobs together.
	Parallel int
	// Sweep is how often what was left behind is looked for: leases of ended
	// jobs, sessions that nobody needs, old jobs.
	Sweep time.Duration
	// ArchiveAfter is how long after its end the facts of a job's nodes are
	// kept; after that, only the facts of the job itself, with the result, are.
	ArchiveAfter time.Duration
}

// DefaultPolicy returns the policy for real machines.
func DefaultPolicy() Policy {
	return Policy{
		Policy:       job.DefaultPolicy(),
		Grace:        15 * time.Second,
		Silence:      time.Minute,
		Owner:        10 * time.Second,
		Patience:     30 * time.Second,
		Wait:         time.Hour,
		Parallel:     128,
		Sweep:        time.Minute,
		ArchiveAfter: 30 * 24 * time.Hour,
	}
}

func (p Policy) filled() Policy {
	d := DefaultPolicy()
	p.Policy = p.Policy.Filled()
	for _, f := range []struct{ v, d *time.Duration }{
		{&p.Grace, &d.Grace}, {&p.Silence, &d.Silence}, {&p.Owner, &d.Owner}, {&p.Patience, &d.Patience},
		{&p.Wait, &d.Wait}, {&p.Sweep, &d.Sweep}, {&p.ArchiveAfter, &d.ArchiveAfter},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	p.Owner = max(p.Owner, time.Second)
	if p.Parallel <= 0 {
		p.Parallel = d.Parallel
	}
	return p
}

// Config is what a handler needs.
type Config struct {
	Inventory *inventory.Inventory
	Conn      *bus.Conn // with the rights of a service; the caller closes it after Run
	// ID names this handler among others. Empty: it is read from StateDir, or
	// made and kept there. It should outlive restarts: a handler that comes
	// back under its name goes on with its jobs at once.
	ID       string
	StateDir string // for the id and the list of boot links; empty: none is kept
	Version  string
	Logger   *slog.Logger // nil: silent
	Clock    Clock        // nil: the system's
	Policy   Policy
	// Power makes the driver of a node's power. nil: power.New on Conn.
	Power func(inventory.Power, power.Deps) (power.Driver, error)
	// Pxelinux is where boot flags are set as links of a TFTP tree.
	Pxelinux Pxelinux
}

// ErrConfig is returned by New for a configuration that lacks something.
var ErrConfig = errors.New("handler is not configured")

// idFile holds the id of a handler in its state directory.
const idFile = "handler-id"

// handlerID reads or makes the stable id.
func handlerID(cfg Config) (string, error) {
	if cfg.ID != "" {
		return cfg.ID, events.CheckName(cfg.ID)
	}
	path := filepath.Join(cfg.StateDir, idFile)
	if cfg.StateDir != "" {
		text, err := os.ReadFile(path)
		id := strings.TrimSpace(string(text))
		switch {
		case err == nil && events.CheckName(id) == nil:
			return id, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", fmt.Errorf("handler id: %w", err)
		}
	}
	id, err := events.NewULID(time.Now(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("handler id: %w", err)
	}
	if cfg.StateDir == "" {
		return id, nil
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return "", fmt.Errorf("handler id: %w", err)
	}
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("handler id: %w", err)
	}
	return id, nil
}
