package power

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// cmc is ORBIT's chassis manager (omf-legacy b.5): one service that knows all
// nodes, or a card at each node.
type cmc struct {
	spec   inventory.Power
	deps   Deps
	client *http.Client
}

func newCMC(spec inventory.Power, deps Deps) (Driver, error) {
	if _, err := spec.Check(); err != nil {
		return nil, fmt.Errorf("power driver cmc: %w: %w", ErrDriver, err)
	}
	return &cmc{spec, deps, newClient(nil)}, nil
}

// Repeatable: it acts each time.
func (c *cmc) Repeatable() bool { return false }

func (c *cmc) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, c.spec.Timeout, "cmc", c.do)
}

func (c *cmc) do(ctx context.Context, r Request) (State, error) {
	base, err := c.deps.expand(c.spec.URL, r)
	if err != nil {
		return State{}, err
	}
	if r.Action != events.PowerCycle {
		return c.ask(ctx, base, r, r.Action)
	}
	if _, err := c.ask(ctx, base, r, events.PowerOff); err != nil {
		return State{}, err
	}
	if err := awaitOff(ctx, func() (State, error) { return c.ask(ctx, base, r, events.PowerStatus) }); err != nil {
		return State{}, err
	}
	return c.ask(ctx, base, r, events.PowerOn)
}

// offPause is how often a machine that is being switched off is looked at.
const offPause = 500 * time.Millisecond

// awaitOff returns when a machine is not seen on any more.
func awaitOff(ctx context.Context, status func() (State, error)) error {
	for {
		st, err := status()
		if err != nil || st.Power != On {
			return err
		}
		select {
		case <-time.After(offPause):
		case <-ctx.Done():
			return fmt.Errorf("it is still on: %w", ctx.Err())
		}
	}
}

// ask does one call of the service.
func (c *cmc) ask(ctx context.Context, base string, r Request, action string) (State, error) {
	where, err := c.where(base, r, action)
	if err != nil {
		return State{}, err
	}
	a, err := get(ctx, c.client, where)
	if err != nil {
		return State{}, err
	}
	if !a.ok() {
		return State{}, fmt.Errorf("GET %s: it answered %d: %s", where, a.status, oneLine(a.body))
	}
	var st State
	if c.spec.Form == inventory.FormCard {
		st, err = parseCard(a.body, action)
	} else if action == events.PowerStatus {
		x, y := c.deps.place(r)
		st, err = parseChassis(a.body, r.Node, x, y)
	} else {
		st, err = State{Power: Unknown, Cycles: -1}, parseOK(a.body)
	}
	if err != nil {
		return State{}, fmt.Errorf("GET %s: %w", where, err)
	}
	return st, nil
}

// where is the address of a call.
func (c *cmc) where(base string, r Request, action string) (string, error) {
	if c.spec.Form == inventory.FormCard {
		if action == events.PowerSoft {
			return "", cannot("a card of the driver cmc", action, "it only has the power; shut the node down through its agent, or use off")
		}
		return base + "/" + action, nil
	}
	call := map[string]string{
		events.PowerOn: "on", events.PowerOff: "offHard", events.PowerSoft: "offSoft", events.PowerReset: "reset", events.PowerStatus: "status",
	}[action]
	q := url.Values{}
	if c.spec.Form == inventory.FormOrbit5 {
		q.Set("hrn", r.Node)
		q.Set("domain", r.Testbed)
	} else {
		x, y := c.deps.place(r)
		if x == 0 {
			return "", bus.Permanent(fmt.Errorf("%w: the inventory does not know the place of %s", ErrRequest, r.Node))
		}
		if action == events.PowerStatus {
			call = "allStatus" // OMF 4 does not tell of one
		} else {
			q.Set("x", strconv.Itoa(x))
			q.Set("y", strconv.Itoa(y))
		}
	}
	if c.spec.Domain != "" {
		q.Set("domain", c.spec.Domain)
	}
	if len(q) == 0 {
		return base + "/" + call, nil
	}
	return base + "/" + call + "?" + q.Encode(), nil
}

// parseCard reads the answer of a card: on and off to status, ok or the state
// to anything else.
func parseCard(body []byte, action string) (State, error) {
	st := State{Power: Unknown, Cycles: -1}
	switch word := strings.ToLower(strings.TrimSpace(string(body))); {
	case word == On || word == Off:
		if action == events.PowerStatus {
			st.Power = word
		}
	case word == "ok" && action != events.PowerStatus:
	default:
		return State{}, fmt.Errorf("%w: it said %s; want on, off or ok", ErrAnswer, oneLine(body))
	}
	return st, nil
}

// parseOK reads the answer to an action: OK, or an element OK or ERROR.
func parseOK(body []byte) error {
	text := bytes.TrimSpace(body)
	if string(text) == "OK" {
		return nil
	}
	var root struct {
		XMLName xml.Name
		Text    string `xml:",chardata"`
	}
	if err := xml.Unmarshal(text, &root); err == nil {
		switch root.XMLName.Local {
		case "OK":
			return nil
		case "ERROR":
			return fmt.Errorf("it refused: %s", quote(strings.TrimSpace(root.Text)))
		}
	}
	return fmt.Errorf("%w: it said %s; want OK", ErrAnswer, oneLine(body))
}

// parseChassis finds a node in <TESTBED_STATUS> or <NODE_STATUS>: by hrn, or by
// its place. POWERON and POWEROFF are known; anything else is Unknown, such as
// NODE NOT AVAILABLE.
func parseChassis(body []byte, node string, x, y int) (State, error) {
	dec := xml.NewDecoder(bytes.NewReader(body))
	rooted := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return State{}, fmt.Errorf("%w: it said %s: %w", ErrAnswer, oneLine(body), err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
			continue
		case !rooted:
			rooted = true
			if name := start.Name.Local; name == "ERROR" {
				return State{}, fmt.Errorf("it refused: %s", oneLine(body))
			} else if name != "TESTBED_STATUS" && name != "NODE_STATUS" {
				return State{}, fmt.Errorf("%w: it said <%s>; want <TESTBED_STATUS>", ErrAnswer, clip(name))
			}
			continue
		case start.Name.Local != "node":
			continue
		}
		at := map[string]string{}
		for _, a := range start.Attr {
			at[a.Name.Local] = a.Value
		}
		if at["hrn"] != node && (x == 0 || at["x"] != strconv.Itoa(x) || at["y"] != strconv.Itoa(y)) {
			continue
		}
		switch at["state"] {
		case "POWERON":
			return State{Power: On, Cycles: -1}, nil
		case "POWEROFF":
			return State{Power: Off, Cycles: -1}, nil
		}
		return State{Power: Unknown, Cycles: -1}, nil
	}
	if !rooted {
		return State{}, fmt.Errorf("%w: it said nothing; want <TESTBED_STATUS>", ErrAnswer)
	}
	return State{}, bus.Permanent(fmt.Errorf("%w: the chassis manager does not have the node", ErrRequest))
}
