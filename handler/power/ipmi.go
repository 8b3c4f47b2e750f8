package power

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// ipmi is a management controller that speaks IPMI 2.0, through ipmitool. The
// password is in the environment of the child and nowhere else: everybody may
// read the words of a command.
type ipmi struct {
	spec inventory.Power
	deps Deps
}

func newIPMI(spec inventory.Power, deps Deps) (Driver, error) {
	spec = spec.Filled()
	if _, err := spec.Check(); err != nil {
		return nil, fmt.Errorf("power driver ipmi: %w: %w", ErrDriver, err)
	}
	return &ipmi{spec, deps}, nil
}

// Repeatable: it acts each time.
func (d *ipmi) Repeatable() bool { return false }

// Netboots: the next start is led by the controller.
func (d *ipmi) Netboots() bool { return d.spec.Bootdev == inventory.BootdevPXE }

func (d *ipmi) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, d.spec.Timeout, "ipmi", d.do)
}

func (d *ipmi) do(ctx context.Context, r Request) (State, error) {
	target, err := d.deps.expand(d.spec.Host, r)
	if err != nil {
		return State{}, err
	}
	host, port, err := inventory.SplitHost(target)
	if err != nil {
		return State{}, bus.Permanent(fmt.Errorf("%w: %w", ErrRequest, err))
	}
	pw, err := d.deps.password(d.spec)
	if err != nil {
		return State{}, err
	}
	tool := func(words ...string) (string, error) {
		all := []string{d.spec.Program, "-I", "lanplus", "-H", host}
		if port != "" {
			all = append(all, "-p", port)
		}
		all = append(all, "-U", d.spec.User, "-E", "chassis")
		out, err := run(ctx, append(all, words...), append(d.deps.environ(), "IPMI_PASSWORD="+pw, "IPMITOOL_PASSWORD="+pw))
		if err != nil {
			return "", fmt.Errorf("chassis %s at %s: %w", strings.Join(words, " "), target, err)
		}
		return out, nil
	}
	status := func() (State, error) {
		out, err := tool("power", "status")
		if err != nil {
			return State{}, err
		}
		return parseChassisPower(out)
	}
	starts := slices.Contains([]string{events.PowerOn, events.PowerReset, events.PowerCycle}, r.Action)
	action := r.Action
	switch action {
	case events.PowerStatus:
		return status()
	case events.PowerReset, events.PowerCycle:
		// Controllers refuse both for a machine that is off.
		st, err := status()
		if err != nil {
			return State{}, err
		}
		if st.Power == Off && action == events.PowerReset {
			return State{Power: Off, Cycles: -1}, nil
		}
		if st.Power == Off {
			action = events.PowerOn
		}
	}
	if r.Netboot && d.Netboots() && starts {
		if _, err := tool("bootdev", "pxe"); err != nil {
			return State{}, err
		}
	}
	if _, err := tool("power", action); err != nil {
		return State{}, err
	}
	return State{Power: Unknown, Cycles: -1}, nil
}

// parseChassisPower reads "Chassis Power is on".
func parseChassisPower(text string) (State, error) {
	for line := range strings.SplitSeq(text, "\n") {
		word, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(line)), "chassis power is ")
		if !ok {
			continue
		}
		if word != On && word != Off {
			break
		}
		return State{Power: word, Cycles: -1}, nil
	}
	return State{}, fmt.Errorf("%w: it printed %s; want Chassis Power is on, or off", ErrAnswer, quote(strings.TrimSpace(text)))
}
