package power

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// redfish is a management controller that speaks Redfish (DMTF DSP0266, with
// the schemas ComputerSystem and Session).
type redfish struct {
	spec   inventory.Power
	deps   Deps
	client *http.Client
}

func newRedfish(spec inventory.Power, deps Deps) (Driver, error) {
	spec = spec.Filled()
	if _, err := spec.Check(); err != nil {
		return nil, fmt.Errorf("power driver redfish: %w: %w", ErrDriver, err)
	}
	conf, err := trust(spec)
	if err != nil {
		return nil, fmt.Errorf("power driver redfish: %w: %w", ErrDriver, err)
	}
	return &redfish{spec, deps, newClient(conf)}, nil
}

// Repeatable: it acts each time.
func (d *redfish) Repeatable() bool { return false }

// Netboots: the next start is led by the controller.
func (d *redfish) Netboots() bool { return d.spec.Bootdev == inventory.BootdevPXE }

func (d *redfish) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, d.spec.Timeout, "redfish", d.do)
}

func (d *redfish) do(ctx context.Context, r Request) (State, error) {
	s, err := d.open(ctx, r)
	if err != nil {
		return State{}, err
	}
	defer s.close(ctx)
	sys, err := s.system(ctx)
	if err != nil {
		return State{}, err
	}
	state := sys.state()
	if r.Action == events.PowerStatus {
		return state, nil
	}
	if r.Netboot && d.Netboots() && slices.Contains([]string{events.PowerOn, events.PowerReset, events.PowerCycle}, r.Action) {
		if err := s.override(ctx, sys); err != nil {
			return State{}, err
		}
	}
	types, err := s.resetTypes(ctx, sys)
	if err != nil {
		return State{}, err
	}
	steps, err := plan(r.Action, state.Power, types)
	if err != nil {
		return State{}, err
	}
	for i, step := range steps {
		if i > 0 {
			if err := awaitOff(ctx, func() (State, error) { sys, err := s.system(ctx); return sys.state(), err }); err != nil {
				return State{}, err
			}
		}
		if err := s.reset(ctx, sys, step); err != nil {
			return State{}, err
		}
	}
	return State{Power: Unknown, Cycles: -1}, nil
}

// plan chooses the resets that an action is made of; none where the machine is
// as it should be.
func plan(action, now string, types []string) ([]string, error) {
	has := func(t string) bool { return slices.Contains(types, t) }
	first := func(of ...string) ([]string, error) {
		for _, t := range of {
			if has(t) {
				return []string{t}, nil
			}
		}
		return nil, cannot("redfish", action, fmt.Sprintf("the system allows %s, and it takes %s", clip(strings.Join(types, " ")), strings.Join(of, " or ")))
	}
	switch action {
	case events.PowerOn:
		if now == On {
			return nil, nil
		}
		return first("On", "ForceOn")
	case events.PowerOff:
		if now == Off {
			return nil, nil
		}
		return first("ForceOff")
	case events.PowerSoft:
		if now == Off {
			return nil, nil
		}
		return first("GracefulShutdown")
	case events.PowerReset:
		if now == Off {
			return nil, nil
		}
		return first("ForceRestart", "PowerCycle")
	}
	if now == Off {
		return first("On", "ForceOn")
	}
	if has("PowerCycle") {
		return []string{"PowerCycle"}, nil
	}
	off, err := first("ForceOff")
	if err != nil {
		return nil, err
	}
	on, err := first("On", "ForceOn")
	return append(off, on...), err
}

// session is what one action needs of a service.
type session struct {
	d        *redfish
	base     *url.URL
	path     string // of the system; empty: the only one
	user, pw string
	token    string
	location string // of the session, to end it
}

const redfishRoot = "/redfish/v1"

// open finds out where to ask and makes a session if one is wanted.
func (d *redfish) open(ctx context.Context, r Request) (*session, error) {
	text, err := d.deps.expand(d.spec.URL, r)
	if err != nil {
		return nil, err
	}
	s := &session{d: d, user: d.spec.User}
	if s.base, err = url.Parse(text); err != nil {
		return nil, err
	}
	if s.path, err = d.deps.expand(d.spec.System, r); err != nil {
		return nil, err
	}
	if s.pw, err = d.deps.password(d.spec); err != nil {
		return nil, err
	}
	if d.spec.Auth != inventory.AuthSession {
		return s, nil
	}
	a, err := s.call(ctx, http.MethodPost, redfishRoot+"/SessionService/Sessions", map[string]string{"UserName": s.user, "Password": s.pw})
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	if s.token = a.header.Get("X-Auth-Token"); s.token == "" {
		return nil, fmt.Errorf("session: %w: it made one and gave no X-Auth-Token", ErrAnswer)
	}
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Path != "" {
		s.location = u.Path
	}
	return s, nil
}

// closeTime bounds the end of a session: services have room for few.
const closeTime = 5 * time.Second

// close ends the session, also after the caller has gone.
func (s *session) close(ctx context.Context) {
	if s.location == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	_, _ = s.call(ctx, http.MethodDelete, s.location, nil) // it expires by itself
}

// call does one request; a status other than 2xx is an error.
func (s *session) call(ctx context.Context, method, path string, body any) (answer, error) {
	return s.callMatch(ctx, method, path, "", body)
}

func (s *session) callMatch(ctx context.Context, method, at, etag string, body any) (answer, error) {
	// What the service says about itself is not to lead anywhere else.
	u := *s.base
	u.Path, u.RawPath = at, ""
	if !strings.HasPrefix(at, "/") || path.Clean(at) != strings.TrimSuffix(at, "/") {
		return answer{}, fmt.Errorf("%w: it points to %s, which is no path", ErrAnswer, quote(at))
	}
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	if s.token != "" {
		req.Header.Set("X-Auth-Token", s.token)
	} else if s.d.spec.Auth == inventory.AuthBasic {
		req.SetBasicAuth(s.user, s.pw)
	}
	a, err := exchange(s.d.client, req)
	if err != nil {
		return answer{}, err
	}
	if !a.ok() {
		err := fmt.Errorf("%s %s: it answered %d: %s", method, u.String(), a.status, redfishError(a.body))
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
			// A wrong password again and again locks accounts.
			return answer{}, bus.Permanent(err)
		}
		return answer{}, err
	}
	return a, nil
}

// redfishError is what an error of the standard says (DSP0266, error
// responses), or whatever came in its place.
func redfishError(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
			Info    []struct {
				Message string `json:"Message"`
			} `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return oneLine(body)
	}
	words := []string{e.Error.Message}
	for _, i := range e.Error.Info[:min(len(e.Error.Info), 4)] {
		words = append(words, i.Message)
	}
	if text := strings.TrimSpace(strings.Join(words, " ")); text != "" {
		return quote(text)
	}
	return oneLine(body)
}

// link is a reference to another resource.
type link struct {
	ID string `json:"@odata.id"`
}

// computerSystem is what is read of the resource of that name.
type computerSystem struct {
	ID    string `json:"@odata.id"`
	Etag  string `json:"@odata.etag"`
	Power string `json:"PowerState"`
	Boot  *struct {
		Targets []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	} `json:"Boot"`
	Actions struct {
		Reset *struct {
			Target string   `json:"target"`
			Types  []string `json:"ResetType@Redfish.AllowableValues"`
			Info   string   `json:"@Redfish.ActionInfo"`
		} `json:"#ComputerSystem.Reset"`
	} `json:"Actions"`
}

// parseSystem reads a ComputerSystem.
func parseSystem(body []byte) (computerSystem, error) {
	var sys computerSystem
	if err := json.Unmarshal(body, &sys); err != nil {
		return computerSystem{}, fmt.Errorf("%w: it said %s: %w", ErrAnswer, oneLine(body), err)
	}
	if sys.Actions.Reset == nil || sys.Actions.Reset.Target == "" {
		return computerSystem{}, fmt.Errorf("%w: the system has no action #ComputerSystem.Reset", ErrAnswer)
	}
	return sys, nil
}

// state: a machine that is on its way counts as unknown.
func (s computerSystem) state() State {
	switch s.Power {
	case "On":
		return State{Power: On, Cycles: -1}
	case "Off":
		return State{Power: Off, Cycles: -1}
	}
	return State{Power: Unknown, Cycles: -1}
}

// system reads the system of the node, and finds it first if there is only
// one.
func (s *session) system(ctx context.Context) (computerSystem, error) {
	if s.path == "" {
		a, err := s.call(ctx, http.MethodGet, redfishRoot+"/Systems", nil)
		if err != nil {
			return computerSystem{}, err
		}
		if s.path, err = onlySystem(a.body); err != nil {
			return computerSystem{}, err
		}
	}
	a, err := s.call(ctx, http.MethodGet, s.path, nil)
	if err != nil {
		return computerSystem{}, err
	}
	sys, err := parseSystem(a.body)
	if err != nil {
		return computerSystem{}, fmt.Errorf("GET %s: %w", s.path, err)
	}
	if etag := a.header.Get("ETag"); etag != "" {
		sys.Etag = etag
	}
	return sys, nil
}

// onlySystem reads the collection of systems.
func onlySystem(body []byte) (string, error) {
	var all struct {
		Members []link `json:"Members"`
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return "", fmt.Errorf("%w: it said %s: %w", ErrAnswer, oneLine(body), err)
	}
	if len(all.Members) != 1 || all.Members[0].ID == "" {
		var names []string
		for _, m := range all.Members[:min(len(all.Members), 8)] {
			names = append(names, m.ID)
		}
		return "", bus.Permanent(fmt.Errorf("%w: the service has %d systems (%s); write system: in the inventory", ErrRequest, len(all.Members), clip(strings.Join(names, " "))))
	}
	return all.Members[0].ID, nil
}

// resetTypes are the resets that a system allows.
func (s *session) resetTypes(ctx context.Context, sys computerSystem) ([]string, error) {
	reset := sys.Actions.Reset
	if len(reset.Types) > 0 || reset.Info == "" {
		if len(reset.Types) == 0 {
			// It does not say: what every system has.
			return []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}, nil
		}
		return reset.Types, nil
	}
	a, err := s.call(ctx, http.MethodGet, reset.Info, nil)
	if err != nil {
		return nil, err
	}
	return parseActionInfo(a.body)
}

// parseActionInfo reads the allowed values of ResetType from an ActionInfo.
func parseActionInfo(body []byte) ([]string, error) {
	var info struct {
		Parameters []struct {
			Name  string   `json:"Name"`
			Types []string `json:"AllowableValues"`
		} `json:"Parameters"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, fmt.Errorf("%w: it said %s: %w", ErrAnswer, oneLine(body), err)
	}
	for _, p := range info.Parameters {
		if p.Name == "ResetType" && len(p.Types) > 0 {
			return p.Types, nil
		}
	}
	return nil, fmt.Errorf("%w: its ActionInfo does not say which ResetType is allowed", ErrAnswer)
}

// override has the next start, and only that one, come from the network.
func (s *session) override(ctx context.Context, sys computerSystem) error {
	if sys.Boot == nil || len(sys.Boot.Targets) > 0 && !slices.Contains(sys.Boot.Targets, "Pxe") {
		return bus.Permanent(fmt.Errorf("%w: the system cannot be told to boot from the network; write bootdev: none if it does by itself", ErrUnsupported))
	}
	_, err := s.callMatch(ctx, http.MethodPatch, s.path, sys.Etag, map[string]any{
		"Boot": map[string]string{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"},
	})
	if err != nil {
		return fmt.Errorf("boot from the network: %w", err)
	}
	return nil
}

func (s *session) reset(ctx context.Context, sys computerSystem, how string) error {
	if _, err := s.call(ctx, http.MethodPost, sys.Actions.Reset.Target, map[string]string{"ResetType": how}); err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return err
		}
		return fmt.Errorf("reset %s: %w", how, err)
	}
	return nil
}
