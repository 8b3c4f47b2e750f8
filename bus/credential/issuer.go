package credential

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"loadnode/bus"
	"loadnode/events"
)

// IssuerConfig is what an issuer needs.
type IssuerConfig struct {
	Conn   *bus.Conn // with the rights of a service
	Grants *Grants
	// Address is a node's own address by the inventory; ok is false for nodes
	// that it does not have.
	Address func(testbed, node string) (ip netip.Addr, ok bool)
	CA      string       // PEM, handed out with each credential; may be empty
	Logger  *slog.Logger // nil: silent
}

// Issuer hands out the credentials of boots: after each reboot.requested one,
// to the node's own address.
type Issuer struct {
	cfg IssuerConfig
	log *slog.Logger

	mu   sync.Mutex
	told map[string]bool // misuses that were reported, so that a flood makes one alarm
}

// maxTold bounds the memory of reported misuses.
const maxTold = 4096

// NewIssuer makes one.
func NewIssuer(cfg IssuerConfig) *Issuer {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Issuer{cfg: cfg, log: cfg.Logger, told: make(map[string]bool)}
}

// Issue delivers the credential of the boot that a job asked for last. The
// refusals are *events.Error: CodeNode for a node that is not known or has no
// address, CodeNotFound where no job wants it booted, CodeConflict where it was
// delivered before, CodeBadRequest for a request from another address. The
// last two raise an alarm; the first of them fails the attempt.
func (i *Issuer) Issue(ctx context.Context, testbed, node, mac string, from netip.Addr) (events.Credential, error) {
	var none events.Credential
	from = from.Unmap()
	own, ok := i.cfg.Address(testbed, node)
	if !ok || !own.IsValid() {
		return none, &events.Error{Code: events.CodeNode, Message: fmt.Sprintf("credential of %s: the inventory has no address of this node", node),
			Hint: "its ip is where the credential of a boot is delivered to"}
	}
	g, err := i.wanted(ctx, testbed, node)
	if err != nil {
		return none, err
	}
	g.Address, g.MAC = own.Unmap(), mac
	if from != g.Address {
		return none, i.misused(ctx, g, events.MisuseAddress, mac, from)
	}
	c, g, err := i.cfg.Grants.create(ctx, g)
	if errors.Is(err, errIssued) {
		return none, i.misused(ctx, g, events.MisuseSecond, mac, from)
	}
	if err != nil {
		return none, fmt.Errorf("credential of %s: %w", node, err)
	}
	c.CA = i.cfg.CA
	i.log.Info("credential delivered", "testbed", testbed, "node", node, "job", g.Job, "attempt", g.Attempt, "addr", from)
	return c, nil
}

// wanted is the boot that a job waits for.
func (i *Issuer) wanted(ctx context.Context, testbed, node string) (Grant, error) {
	nobody := &events.Error{Code: events.CodeNotFound, Message: fmt.Sprintf("credential of %s: no job waits for this node in its imaging system", node)}
	m, err := i.cfg.Conn.Last(ctx, bus.StreamFacts, events.NodeReboots(testbed, node))
	if errors.Is(err, bus.ErrNoMessage) {
		return Grant{}, nobody
	}
	if err != nil {
		return Grant{}, fmt.Errorf("credential of %s: %w", node, err)
	}
	if m.Err != nil {
		return Grant{}, fmt.Errorf("credential of %s: %w", node, m.Err)
	}
	data, err := events.Decode(m.Event)
	if err != nil {
		return Grant{}, fmt.Errorf("credential of %s: %w", node, err)
	}
	r, ok := data.(events.RebootRequested)
	if !ok {
		return Grant{}, nobody
	}
	last, err := i.cfg.Conn.Last(ctx, bus.StreamFacts, events.NodeLife(testbed, r.Job, node))
	if err != nil {
		return Grant{}, fmt.Errorf("credential of %s: %w", node, err)
	}
	switch last.Address.Kind {
	case events.KindNodeFailed, events.KindShutdownRequested, events.KindShutdownDone, events.KindRebootDone, events.KindLoadDone, events.KindSaveDone:
		return Grant{}, nobody
	}
	return Grant{Testbed: testbed, Node: node, Job: r.Job, Attempt: r.Attempt, Effect: r.Effect, Seq: m.Seq}, nil
}

// misused reports a request that is refused, and returns the refusal.
func (i *Issuer) misused(ctx context.Context, g Grant, reason, mac string, from netip.Addr) error {
	refusal := &events.Error{Code: events.CodeConflict, Job: g.Job,
		Message: fmt.Sprintf("the credential of this boot of %s was delivered to %s before and is not delivered twice", g.Node, g.Address)}
	if reason == events.MisuseAddress {
		refusal = &events.Error{Code: events.CodeBadRequest, Job: g.Job,
			Message: fmt.Sprintf("the credential of %s was asked for from %s, which is not its address", g.Node, from)}
	}
	i.log.Error("alarm: credential refused", "testbed", g.Testbed, "node", g.Node, "job", g.Job, "attempt", g.Attempt,
		"reason", reason, "addr", from, "mac", mac, "expected", g.Address, "delivered", g.Issued)
	what := g.key() + " " + reason + " " + from.String()
	i.mu.Lock()
	known := i.told[what]
	if len(i.told) >= maxTold {
		clear(i.told)
	}
	i.told[what] = true
	i.mu.Unlock()
	if known {
		return refusal
	}
	if err := i.report(ctx, g, reason, refusal.Message, mac, from); err != nil {
		i.mu.Lock()
		delete(i.told, what)
		i.mu.Unlock()
		return errors.Join(refusal, fmt.Errorf("alarm: %w", err))
	}
	return refusal
}

func (i *Issuer) report(ctx context.Context, g Grant, reason, text, mac string, from netip.Addr) error {
	now := i.cfg.Grants.now()
	id, err := events.NewULID(now, rand.Reader)
	if err != nil {
		return err
	}
	ev, err := events.New(events.Meta{ID: id, Source: "/omf/" + g.Testbed + "/credential", Time: now}, events.CredentialMisused{
		NodeRef: events.NodeRef{Job: g.Job, Node: g.Node, Attempt: g.Attempt}, Reason: reason, Message: text,
		Address: from.String(), MAC: mac, Expected: g.Address.String(), Delivered: g.Issued, Time: now,
	})
	if err != nil {
		return err
	}
	_, err = i.cfg.Conn.Publish(ctx, events.ReportSubject(g.Testbed, g.Node, events.KindCredentialMisused), ev)
	return err
}
