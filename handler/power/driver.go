package power

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"loadnode/events"
	"loadnode/handler/inventory"
)

// What a controller may know about the power of a node.
const (
	On      = "on"
	Off     = "off"
	Unknown = "unknown"
)

// Request asks for one action on one node. Action is one of Actions; Effect
// identifies it (<job>:<node>:<step>:<attempt>) so that it can be repeated,
// and is empty for actions of people.
type Request = events.PowerRequest

// State is what a controller knows. Power is On, Off or Unknown, never empty.
// Cycles is -1 where starts are not counted.
type State = events.PowerState

// Driver switches nodes. It is safe for use from several goroutines; two
// requests for the same node at the same time are the caller's to avoid.
type Driver interface {
	// Do does the action and returns when the controller has accepted it; for
	// soft the system may still be running then. The state returned is what
	// the controller said, Unknown if it said nothing. A cancelled context or
	// the timeout of the driver ends it with an error; whether the action took
	// place is then not known.
	Do(ctx context.Context, r Request) (State, error)
	// Repeatable reports whether doing a request with the same Effect again is
	// harmless, because the far side remembers effects. Where it is false the
	// caller observes (status) before it acts again.
	Repeatable() bool
}

// What is wrong with a request, besides what the controller says.
var (
	// ErrAction is for an action that does not exist.
	ErrAction = errors.New("no such power action")
	// ErrDriver is for a driver that does not exist or lacks what it needs.
	ErrDriver = errors.New("no such power driver")
	// ErrAnswer is for a controller whose answer cannot be understood.
	ErrAnswer = errors.New("power controller's answer is not understood")
	// ErrRequest is for a request that names no node, or one that cannot be
	// handed to a controller.
	ErrRequest = errors.New("power request is not valid")
	// ErrUnsupported is for an action that the driver of the node does not
	// have, such as off for magic packets.
	ErrUnsupported = errors.New("the power driver cannot do this")
)

// Actions lists the actions.
func Actions() []string {
	return []string{
		events.PowerOn, events.PowerOff, events.PowerSoft,
		events.PowerReset, events.PowerCycle, events.PowerStatus,
	}
}

// Drivers lists the drivers that New can make.
func Drivers() []string {
	return []string{
		inventory.PowerBus, inventory.PowerExec, inventory.PowerCMC, inventory.PowerRedfish,
		inventory.PowerIPMI, inventory.PowerWOL, inventory.PowerAgent,
	}
}

// Netbooter is a driver that can lead the start that follows into the network:
// with a boot flag of its own, Request.Netboot is more than a remark.
type Netbooter interface {
	// Netboots reports whether it does so for Request.Netboot.
	Netboots() bool
}

// Netboots reports whether a driver leads a start into the network by itself.
func Netboots(d Driver) bool {
	n, ok := d.(Netbooter)
	return ok && n.Netboots()
}

// Requester sends a request on the bus and decodes the answer into resp. A
// refusal by the far side is an error.
type Requester interface {
	Request(ctx context.Context, subject string, req, resp any) error
}

// Addresses finds what the inventory knows of a node: the MAC and the address
// of its control interface, empty where unknown.
type Addresses func(testbed, node string) (mac, ip string)

// Deps is what drivers need of their surroundings.
type Deps struct {
	Requester Requester // for bus and agent
	Addresses Addresses // for wol, and for {mac} and {ip}; may be nil without them
	// Place finds where a node stands in the grid, 0 and 0 outside of it: for
	// cmc, and for {x} and {y}.
	Place func(testbed, node string) (x, y int)
	// Environ is the environment of programs, as os.Environ. Empty: PATH with
	// the system directories and the C locale. A service's own environment may
	// hold credentials and is not for scripts.
	Environ []string
	// Getenv reads password_env; nil: os.Getenv.
	Getenv func(name string) string
}

func (d Deps) environ() []string {
	if len(d.Environ) > 0 {
		return slices.Clone(d.Environ)
	}
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
}

// New makes the driver that an inventory asks for. A driver may serve any
// number of nodes with the same specification.
func New(spec inventory.Power, deps Deps) (Driver, error) {
	if spec.Timeout <= 0 {
		return nil, fmt.Errorf("power driver %s: %w: its timeout is %s, want 30s or so", spec.Driver, ErrDriver, spec.Timeout)
	}
	makers := map[string]func(inventory.Power, Deps) (Driver, error){
		inventory.PowerBus: newBus, inventory.PowerExec: newExec, inventory.PowerCMC: newCMC, inventory.PowerRedfish: newRedfish,
		inventory.PowerIPMI: newIPMI, inventory.PowerWOL: newWOL, inventory.PowerAgent: newAgent,
	}
	if newDriver := makers[spec.Driver]; newDriver != nil {
		return newDriver(spec, deps)
	}
	return nil, fmt.Errorf("%w: %q; there are %s", ErrDriver, spec.Driver, strings.Join(Drivers(), ", "))
}

// check refuses what no controller should see.
func check(r Request) error {
	switch {
	case !slices.Contains(Actions(), r.Action):
		return fmt.Errorf("%w: %q; there are %s", ErrAction, r.Action, strings.Join(Actions(), ", "))
	case r.Node == "" || r.Testbed == "":
		return fmt.Errorf("power %s: %w: node %q, testbed %q", r.Action, ErrRequest, r.Node, r.Testbed)
	}
	return nil
}

// wrap names the action and the node in an error, and says of a timeout how
// long it was.
func wrap(ctx context.Context, r Request, timeout time.Duration, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		if !errors.Is(err, context.DeadlineExceeded) { // the bus has its own word for it
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return fmt.Errorf("power %s %s: no answer within %s: %w", r.Action, r.Node, timeout, err)
	}
	return fmt.Errorf("power %s %s: %w", r.Action, r.Node, err)
}

// attempt is one call of a driver within its timeout. Errors say which driver it was, if it has a name, and what it was
// asked for.
func attempt(ctx context.Context, r Request, timeout time.Duration, name string, do func(context.Context, Request) (State, error)) (State, error) {
	if err := check(r); err != nil {
		return State{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	err := ctx.Err()
	var state State
	if err == nil {
		state, err = do(ctx, r)
	}
	if err != nil {
		if name != "" {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return State{}, wrap(ctx, r, timeout, err)
	}
	return state, nil
}

// errTimeout is the cause of contexts that a driver's own timeout ended.
var errTimeout = fmt.Errorf("power timeout: %w", context.DeadlineExceeded)
