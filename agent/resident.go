package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

// staying is how long a machine that took its leave may still run before it is
// taken to stay.
const staying = 2 * time.Minute

// Resident is the agent in the system on a node's own disk. It answers
// requests for the power of the node: it says which boot runs, halts and
// reboots. It reports nothing and takes no commands: whoever is root on the
// node can read its credential, which therefore must not be good for saying
// anything of a load (bus.ResidentPermissions).
type Resident struct {
	cfg  ResidentConfig
	told chan events.Verb // the service ends with what it was told

	mu      sync.Mutex
	leaving string // soft or reset, once told
	effect  string // that was acted on
}

// ResidentConfig is what a resident agent needs. Logger and Clock may be
// lacking.
type ResidentConfig struct {
	Testbed string
	Node    string // plain name
	Boot    string // id of this boot of the machine
	Version string // of the program
	Conn    Server // connected with the credential of a resident
	Machine Leaver

	Logger *slog.Logger // nil: silent
	Clock  Clock        // nil: that of the machine
}

// Server serves requests on the bus. *bus.Conn does.
type Server interface {
	Serve(ctx context.Context, cfg bus.ServiceConfig) (*bus.Service, error)
}

// Leaver is a machine that can be ended, as [Machine].
type Leaver interface {
	Leave(ctx context.Context, how events.Verb) error
}

// NewResident makes a resident agent. It answers nobody before Run.
func NewResident(cfg ResidentConfig) (*Resident, error) {
	if err := checkNames(cfg.Testbed, cfg.Node, cfg.Boot); err != nil {
		return nil, err
	}
	if cfg.Conn == nil || cfg.Machine == nil {
		return nil, errors.New("agent: a connection and a machine are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	return &Resident{cfg: cfg, told: make(chan events.Verb, 1)}, nil
}

// Run answers until ctx ends, which is no error. It returns an error when
// requests cannot be served; it wraps bus.ErrDenied if the credential is of
// another kind or node.
func (a *Resident) Run(ctx context.Context) error {
	for {
		service, err := patiently(ctx, a.cfg.Clock, a.cfg.Logger, a.serve)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("agent of %s: serve its power: %w", a.cfg.Node, err)
		}
		select {
		case how := <-a.told:
			service.Stop() // whoever told it has the answer
			a.leave(ctx, how)
		case <-ctx.Done():
			service.Stop()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// leave ends the machine. It returns if that did not happen, or when ctx ends.
func (a *Resident) leave(ctx context.Context, how events.Verb) {
	a.cfg.Logger.Info("leaving", "how", string(how))
	if err := a.cfg.Machine.Leave(ctx, how); err != nil {
		a.cfg.Logger.Error("the machine does not leave", "how", string(how), "err", err)
	} else {
		select {
		case <-a.cfg.Clock.After(staying):
			a.cfg.Logger.Error("the machine took its leave and still runs", "how", string(how), "after", staying)
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving, a.effect = "", "" // to be told again, also for the same effect
}

func (a *Resident) serve(ctx context.Context) (*bus.Service, error) {
	cfg := bus.ServiceConfig{Name: "power", Version: a.cfg.Version, Description: "resident agent of node " + a.cfg.Node, Plain: true}
	for _, action := range []string{events.PowerOn, events.PowerOff, events.PowerSoft, events.PowerReset, events.PowerCycle, events.PowerStatus} {
		cfg.Endpoints = append(cfg.Endpoints, bus.Endpoint{
			Name: action, Subject: events.PowerSubject(a.cfg.Testbed, a.cfg.Node, action),
			Handle: func(_ context.Context, r bus.Request) (any, error) { return a.answer(r, action) },
		})
	}
	return a.cfg.Conn.Serve(ctx, cfg)
}

func (a *Resident) answer(r bus.Request, action string) (any, error) {
	var q events.PowerRequest
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	refuse := func(code events.Code, format string, args ...any) (any, error) {
		return nil, &events.Error{Code: code, Message: fmt.Sprintf("power %s of %s: ", action, a.cfg.Node) + fmt.Sprintf(format, args...)}
	}
	switch {
	case q.Node != "" && q.Node != a.cfg.Node || q.Action != "" && q.Action != action:
		return refuse(events.CodeBadRequest, "the request asks for %.64q of %.64q", q.Action, q.Node)
	case q.Boot != "" && q.Boot != a.cfg.Boot:
		return refuse(events.CodeStale, "the request is for boot %.64s, the machine has restarted and runs boot %s", q.Boot, a.cfg.Boot)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	how := events.VerbReboot
	switch action {
	case events.PowerStatus:
		return a.state(), nil
	case events.PowerSoft:
		how = events.VerbHalt
	case events.PowerReset:
	default:
		return refuse(events.CodeUnsupported, "a system that runs can only end (soft) and restart (reset); a power controller can do more")
	}
	switch a.leaving {
	case action:
	case "":
		a.leaving, a.effect = action, q.Effect
		a.told <- how // the only one: Run takes it before leaving is empty again
	default:
		return refuse(events.CodeBusy, "the machine is leaving already, by %s", a.leaving)
	}
	return a.state(), nil
}

// state is what a resident can say; a.mu is held.
func (a *Resident) state() events.PowerState {
	return events.PowerState{Power: events.PowerOn, Boot: a.cfg.Boot, LastEffect: a.effect, Cycles: -1}
}
