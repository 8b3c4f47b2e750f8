package credential_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/bus/credential"
	"loadnode/bus/embedded"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tb  = bustest.Testbed
	mac = "02:00:00:00:00:01"
)

var (
	own      = netip.MustParseAddr("127.0.0.1")
	stranger = netip.MustParseAddr("127.0.0.66")
)

// place is a bus that knows the credentials of boots.
type place struct {
	t      *testing.T
	h      *bustest.Harness
	conn   *bus.Conn
	grants *credential.Grants
	issuer *credential.Issuer
	last   map[string]uint64 // sequences of jobs

	mu  sync.Mutex
	now time.Time
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, h: bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:0", Auth: embedded.AuthConfig{Required: true}}), last: map[string]uint64{}, now: time.Now()}
	p.conn = p.h.Connect(t)
	var err error
	p.grants, err = credential.OpenGrants(p.ctx(), p.conn)
	require.NoError(t, err)
	p.grants.SetNow(func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now
	})
	p.issuer = credential.NewIssuer(credential.IssuerConfig{Conn: p.conn, Grants: p.grants, Address: func(testbed, node string) (netip.Addr, bool) {
		return own, testbed == tb && node != "unknown"
	}})
	p.keep()
	return p
}

func (p *place) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	p.t.Cleanup(cancel)
	return ctx
}

// keep has the running server know the boots.
func (p *place) keep() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.h.Server().KeepBoots(ctx, p.conn)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	p.t.Cleanup(stop)
	return stop
}

func (p *place) fact(job string, d events.Data, node string, number int) {
	p.t.Helper()
	subject := events.JobFactSubject(tb, job, d.Kind())
	if node != "" {
		subject = events.NodeFactSubject(tb, job, node, d.Kind())
	}
	ev, err := events.New(events.Meta{ID: events.FactID(job, node, d.Kind(), number), Source: "/x", Time: time.Now()}, d)
	require.NoError(p.t, err)
	seq, err := p.conn.Append(p.ctx(), events.JobFacts(tb, job), p.last[job], bus.Record{Subject: subject, Event: ev})
	require.NoError(p.t, err)
	p.last[job] = seq
}

func (p *place) reboot(job, node string, attempt int) {
	p.t.Helper()
	p.fact(job, events.RebootRequested{
		NodeRef: events.NodeRef{Job: job, Node: node, Attempt: attempt}, Effect: events.EffectID(job, node, "reboot", attempt), Deadline: time.Now().Add(time.Minute),
	}, node, attempt)
}

func (p *place) issue(node string, from netip.Addr) (events.Credential, error) {
	return p.issuer.Issue(p.ctx(), tb, node, mac, from)
}

func (p *place) refused(code events.Code, node string, from netip.Addr) {
	p.t.Helper()
	_, err := p.issue(node, from)
	var e *events.Error
	require.ErrorAs(p.t, err, &e)
	require.Equal(p.t, code, e.Code, e.Message)
}

// alarms are the misuses that were reported of a node.
func (p *place) alarms(node string) []events.CredentialMisused {
	p.t.Helper()
	var out []events.CredentialMisused
	for _, m := range bustest.All(p.t, p.conn, bus.StreamReports, events.ReportSubject(tb, node, events.KindCredentialMisused)) {
		d, err := events.Decode(m.Event)
		require.NoError(p.t, err)
		out = append(out, d.(events.CredentialMisused))
	}
	return out
}

// connect connects over TCP from the node's address; states gets what becomes
// of the connection.
func (p *place) connect(c events.Credential, states chan<- bool) (*bus.Conn, error) {
	return bus.Connect(p.ctx(), bus.Config{URLs: []string{p.h.Server().ClientURL()}, Credential: &c, OnState: func(up bool) {
		if states != nil {
			states <- up
		}
	}})
}

func (p *place) denied(c events.Credential) {
	p.t.Helper()
	_, err := p.connect(c, nil)
	require.ErrorIs(p.t, err, bus.ErrDenied)
}

// eventually waits for what another process does in its own time.
func (p *place) eventually(what string, ok func() bool) {
	p.t.Helper()
	require.Eventually(p.t, ok, bustest.Patience, 10*time.Millisecond, what)
}

func TestIssueOnce(t *testing.T) {
	p := newPlace(t)
	p.refused(events.CodeNotFound, "n1-1", own) // nobody wants it booted
	p.refused(events.CodeNode, "unknown", own)
	p.reboot("j1", "n1-1", 1)
	c, err := p.issue("n1-1", own)
	require.NoError(t, err)
	require.Equal(t, bus.NodeInbox(tb, "n1-1"), c.Inbox)
	require.Empty(t, p.alarms("n1-1"))

	// The same again, also by another process that knows nothing of the first.
	p.refused(events.CodeConflict, "n1-1", own)
	other := credential.NewIssuer(credential.IssuerConfig{Conn: p.conn, Grants: p.grants, Address: func(string, string) (netip.Addr, bool) { return own, true }})
	_, err = other.Issue(p.ctx(), tb, "n1-1", mac, own)
	var e *events.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, events.CodeConflict, e.Code)
	alarms := p.alarms("n1-1")
	require.Len(t, alarms, 2)
	require.Equal(t, events.MisuseSecond, alarms[0].Reason)
	require.Equal(t, events.NodeRef{Job: "j1", Node: "n1-1", Attempt: 1}, alarms[0].NodeRef)
	require.Equal(t, "127.0.0.1", alarms[0].Address)
	require.False(t, alarms[0].Delivered.IsZero())
	// A flood makes no more of them.
	for range 20 {
		p.refused(events.CodeConflict, "n1-1", own)
	}
	require.Len(t, p.alarms("n1-1"), 2)

	// From elsewhere, before and after the delivery.
	p.reboot("j1", "n1-2", 1)
	p.refused(events.CodeBadRequest, "n1-2", stranger)
	require.Len(t, p.alarms("n1-2"), 1)
	require.Equal(t, events.MisuseAddress, p.alarms("n1-2")[0].Reason)
	require.Equal(t, "127.0.0.66", p.alarms("n1-2")[0].Address)
	_, err = p.issue("n1-2", own)
	require.NoError(t, err, "the node itself gets it")

	// A node whose part is over gets none.
	p.reboot("j1", "n1-3", 1)
	p.fact("j1", events.NodeFailed{NodeRef: events.NodeRef{Job: "j1", Node: "n1-3", Attempt: 1}, Class: events.ClassCheckin}, "n1-3", 1)
	p.refused(events.CodeNotFound, "n1-3", own)
	require.Empty(t, p.alarms("n1-3"))
}

// TestIssueRace: of many who ask in one moment, one gets it.
func TestIssueRace(t *testing.T) {
	p := newPlace(t)
	p.reboot("j1", "n1-1", 1)
	var wg sync.WaitGroup
	results := make(chan error, 16)
	for range cap(results) {
		wg.Go(func() {
			_, err := p.issue("n1-1", own)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	got := 0
	for err := range results {
		if err == nil {
			got++
			continue
		}
		var e *events.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, events.CodeConflict, e.Code)
	}
	require.Equal(t, 1, got)
}

func TestBootCredential(t *testing.T) {
	p := newPlace(t)
	p.reboot("j1", "n1-1", 1)
	c, err := p.issue("n1-1", own)
	require.NoError(t, err)

	for name, change := range map[string]func(*events.Credential){
		"password":  func(c *events.Credential) { c.Password = c.Password[1:] + "0" },
		"none":      func(c *events.Credential) { c.Password = "" },
		"node":      func(c *events.Credential) { c.User = "node.default.n1-2." + c.User[len(c.User)-32:] },
		"boot":      func(c *events.Credential) { c.User = c.User[:len(c.User)-1] + "x" },
		"other":     func(c *events.Credential) { c.User = c.User[:len(c.User)-32] + "00000000000000000000000000000000" },
		"wildcard":  func(c *events.Credential) { c.User = "node.default.n1-1.*" },
		"no record": func(c *events.Credential) { c.User = "node.default.n1-1" },
	} {
		bad := c
		change(&bad)
		_, err := p.connect(bad, nil)
		require.ErrorIs(t, err, bus.ErrDenied, name)
	}

	// Another address, with the right password.
	_, err = bus.Connect(p.ctx(), bus.Config{URLs: []string{p.h.Server().ClientURL()}, Credential: &c, Options: []nats.Option{
		nats.SetCustomDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: stranger.AsSlice()}}),
	}})
	require.ErrorIs(t, err, bus.ErrDenied)

	states := make(chan bool, 16)
	node, err := p.connect(c, states)
	require.NoError(t, err)
	defer node.Close()
	require.True(t, <-states)
	ev, err := events.New(events.Meta{ID: "u", Source: "/x", Time: time.Now()}, events.Up{NodeRef: events.NodeRef{Node: "n1-1", Boot: "b"}})
	require.NoError(t, err)
	_, err = node.Publish(p.ctx(), events.ReportSubject(tb, "n1-1", events.KindUp), ev)
	require.NoError(t, err)
	for _, subject := range []string{
		events.ReportSubject(tb, "n1-2", events.KindUp), events.ReportSubject(tb, "n1-1", events.KindCredentialMisused),
		"$KV.OMF_CREDENTIALS.x", events.JobFactSubject(tb, "j1", events.KindJobFinished),
	} {
		_, err = node.Publish(p.ctx(), subject, ev)
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}

	// Once used, it is good beyond its first two minutes, and after a restart
	// of the bus.
	p.mu.Lock()
	p.now = p.now.Add(time.Hour)
	p.mu.Unlock()
	again, err := p.connect(c, nil)
	require.NoError(t, err)
	again.Close()

	// The next boot ends it: its connections are closed, and nobody comes in
	// with it again.
	p.reboot("j1", "n1-1", 2)
	require.False(t, <-states)
	p.denied(c)
	second, err := p.issue("n1-1", own)
	require.NoError(t, err)
	require.NotEqual(t, c.User, second.User)
	n2, err := p.connect(second, nil)
	require.NoError(t, err)
	n2.Close()

	// So does the end of the job.
	p.fact("j1", events.JobFinished{Job: "j1", Outcome: events.OutcomeOK}, "", 0)
	p.eventually("revoked", func() bool {
		conn, err := p.connect(second, nil)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, bus.ErrDenied)
	})
}

func TestUnusedExpires(t *testing.T) {
	p := newPlace(t)
	p.reboot("j1", "n1-1", 1)
	// Delivered long ago by the clock of whoever did it.
	p.mu.Lock()
	p.now = time.Now().Add(-3 * time.Minute)
	p.mu.Unlock()
	c, err := p.issue("n1-1", own)
	require.NoError(t, err)
	p.denied(c)
}

// TestRestart: the state is on the bus. A credential survives the restart of
// the server, revoked ones stay so, and what ended while nobody looked is
// revoked at the start.
func TestRestart(t *testing.T) {
	p := newPlace(t)
	var creds []events.Credential
	for _, n := range []string{"n1-1", "n1-2"} {
		p.reboot("j-"+n, n, 1)
		c, err := p.issue(n, own)
		require.NoError(t, err)
		creds = append(creds, c)
		conn, err := p.connect(c, nil)
		require.NoError(t, err)
		conn.Close()
	}
	p.h.Restart()
	p.fact("j-n1-2", events.JobFinished{Job: "j-n1-2", Outcome: events.OutcomeOK}, "", 0)
	p.keep()
	conn, err := p.connect(creds[0], nil)
	require.NoError(t, err)
	conn.Close()
	p.refused(events.CodeConflict, "n1-1", own)
	p.eventually("revoked", func() bool {
		conn, err := p.connect(creds[1], nil)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, bus.ErrDenied)
	})
}
