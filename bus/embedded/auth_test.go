package embedded_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/bus/embedded"
	"loadnode/events"
)

func made(t testing.TB, id string, d events.Data) event.Event {
	t.Helper()
	ev, err := events.New(events.Meta{ID: id, Source: "/x", Time: time.Now()}, d)
	require.NoError(t, err)
	return ev
}

func up(t testing.TB, id, node string) event.Event {
	return made(t, id, events.Up{NodeRef: events.NodeRef{Node: node, Boot: "b"}})
}

// TestNodeMay goes through everything that an agent has to do.
func TestNodeMay(t *testing.T) {
	h := bustest.Start(t)
	node, svc, ctx := h.ConnectNode(t, "omf.nicta.node1"), h.Connect(t), within(t)
	const name = "omf.nicta.node1"
	for _, k := range events.ReportKinds() {
		ack, err := node.Publish(ctx, events.ReportSubject(tb, name, k), up(t, string(k), name))
		require.NoError(t, err, k)
		require.Equal(t, bus.StreamReports, ack.Stream)
	}
	require.NoError(t, node.Emit(ctx, events.ProgressSubject(tb, "anyjob", name), made(t, "p", events.Progress{NodeRef: events.NodeRef{Node: name}})))
	bustest.Await(t, svc, bus.StreamTelemetry, events.AllTelemetry, nil)
	_, err := node.Publish(ctx, events.ProgressSubject(tb, "anyjob", name), made(t, "p", events.Progress{}))
	require.NoError(t, err)

	var eps []bus.Endpoint
	for _, v := range []events.Verb{events.VerbLoad, events.VerbProbe} {
		eps = append(eps, bus.Endpoint{Name: string(v), Subject: events.CommandSubject(tb, name, v), Handle: func(context.Context, bus.Request) (any, error) {
			return events.CommandReply{State: string(v)}, nil
		}})
	}
	s, err := node.Serve(ctx, bus.ServiceConfig{Name: "agent", Plain: true, Endpoints: eps})
	require.NoError(t, err)
	defer s.Stop()
	for range 3 { // an answer is allowed once for each request
		var reply events.CommandReply
		require.NoError(t, svc.Request(ctx, events.CommandSubject(tb, name, events.VerbProbe), nil, &reply))
		require.Equal(t, "probe", reply.State)
	}
	stop, err := node.Subscribe(ctx, events.NodeCommands(tb, name), func(bus.Message) {})
	require.NoError(t, err)
	stop()

	// The same after a restart: the credential is still good.
	h.Restart()
	_, err = node.Publish(ctx, events.ReportSubject(tb, name, events.KindLeaving), up(t, "l", name))
	require.NoError(t, err)
	_, err = h.ConnectNode(t, name).Publish(ctx, events.ReportSubject(tb, name, events.KindUp), up(t, "again", name))
	require.NoError(t, err)
}

// TestNodeMayNot tries what a hostile node would.
func TestNodeMayNot(t *testing.T) {
	h := bustest.Start(t)
	bustest.NodeMayNot(t, h.ConnectNode(t, "n1-1"), h.Connect(t))
}

// TestNodeCannotSuppress has a hostile node use the identifiers and headers
// with which the report of another one could be made to vanish.
func TestNodeCannotSuppress(t *testing.T) {
	h := bustest.Start(t)
	bad, good, svc, ctx := h.ConnectNode(t, "n6-6"), h.ConnectNode(t, "n1-1"), h.Connect(t), within(t)
	const id = "stolen"
	forged := func(headers ...string) error {
		m, err := bus.Encode(events.ReportSubject(tb, "n6-6", events.KindUp), up(t, id, "n6-6"))
		require.NoError(t, err)
		m.Header.Set(jetstream.MsgIDHeader, id)
		for i := 0; i < len(headers); i += 2 {
			m.Header.Set(headers[i], headers[i+1])
		}
		_, err = bad.JetStream().PublishMsg(ctx, m)
		return err
	}
	require.NoError(t, forged())
	// The victim's report, sent as Publish does and as a plain publisher with
	// the library's own options for reports would: neither carries a message id.
	ack, err := good.Publish(ctx, events.ReportSubject(tb, "n1-1", events.KindUp), up(t, id, "n1-1"))
	require.NoError(t, err)
	require.False(t, ack.Duplicate)
	for _, headers := range [][]string{
		{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"},
		{"Nats-Schedule", "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target", events.ReportSubject(tb, "n1-1", events.KindUp)},
		{"Nats-Batch-Id", "b", "Nats-Batch-Sequence", "1", "Nats-Batch-Commit", "1"},
		{"Nats-Incr", "1"}, {"Nats-Stream-Source", "x"},
	} {
		require.Error(t, forged(append(headers, jetstream.MsgIDHeader, strings.Join(headers, " "))...), headers)
	}
	// A reply subject of somebody else does not make the server write there.
	heard := make(chan string, 1)
	stop, err := svc.Subscribe(ctx, bus.NodeInbox(tb, "n1-1")+".>", func(m bus.Message) { heard <- m.Subject })
	require.NoError(t, err)
	defer stop()
	all := bustest.All(t, svc, bus.StreamReports, events.AllReports)
	require.Len(t, all, 2)
	_, d := bustest.AwaitReport(t, svc, "n1-1", events.KindUp)
	require.Equal(t, "n1-1", d.(events.Up).Node)
	require.Empty(t, heard)
}

func TestResident(t *testing.T) {
	h := bustest.Start(t)
	res, svc, ctx := h.ConnectResident(t, "n1-1"), h.Connect(t), within(t)
	e := bus.Endpoint{Name: "status", Subject: events.PowerSubject(tb, "n1-1", events.PowerStatus), Handle: func(context.Context, bus.Request) (any, error) {
		return events.PowerState{Power: "on"}, nil
	}}
	s, err := res.Serve(ctx, bus.ServiceConfig{Name: "power", Plain: true, Endpoints: []bus.Endpoint{e}})
	require.NoError(t, err)
	defer s.Stop()
	var state events.PowerState
	require.NoError(t, svc.Request(ctx, e.Subject, nil, &state))
	require.Equal(t, "on", state.Power)
	for _, subject := range []string{events.ReportSubject(tb, "n1-1", events.KindUp), events.RequestSubject(tb, "load"), events.JobFactSubject(tb, "j", "x")} {
		_, err := res.Publish(ctx, subject, up(t, "i", "n1-1"))
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}
	for _, subject := range []string{events.NodePower(tb, "n1-2"), events.NodeCommands(tb, "n1-1"), events.AllFacts} {
		_, err := res.Subscribe(ctx, subject, func(bus.Message) {})
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}
}

func TestOperator(t *testing.T) {
	h := bustest.Start(t)
	op, svc, ctx := h.ConnectOperator(t), h.Connect(t), within(t)
	require.NoError(t, op.AwaitStreams(ctx))
	_, err := op.Publish(ctx, events.RequestSubject(tb, events.VerbLoad), made(t, "r", events.LoadRequest{}))
	require.NoError(t, err)
	_, err = svc.Append(ctx, events.JobFacts(tb, "j"), 0, bus.Record{Subject: events.JobFactSubject(tb, "j", events.KindJobRequested), Event: made(t, "f", events.JobRequested{Job: "j"})})
	require.NoError(t, err)
	bustest.AwaitFact(t, op, events.JobFacts(tb, "j"), events.KindJobRequested)
	m, err := op.Last(ctx, bus.StreamFacts, events.JobFacts(tb, "j"))
	require.NoError(t, err)
	require.Equal(t, "f", m.Event.ID())
	stop, err := op.Subscribe(ctx, events.AllTelemetry, func(bus.Message) {})
	require.NoError(t, err)
	stop()
	s, err := h.Server().ServeCredentials(ctx, svc, tb)
	require.NoError(t, err)
	defer s.Stop()
	ask := func(q events.CredentialRequest) (cr events.Credential, err error) {
		return cr, op.Request(ctx, events.BusSubject(tb, events.BusCredential), q, &cr)
	}
	cr, err := ask(events.CredentialRequest{Node: "n1-1", Kind: events.CredentialNode})
	require.NoError(t, err)
	require.Equal(t, h.Server().NodeCredential(tb, "n1-1"), cr)
	_, err = h.ConnectAs(t, cr).Publish(ctx, events.ReportSubject(tb, "n1-1", events.KindUp), up(t, "u", "n1-1"))
	require.NoError(t, err)
	var remote *events.Error
	for _, q := range []events.CredentialRequest{{Node: "n1-1", Kind: events.CredentialService}, {Kind: events.CredentialNode}, {Node: strings.Repeat("x", 200), Kind: events.CredentialNode}} {
		_, err = ask(q)
		require.ErrorAs(t, err, &remote)
		require.Equal(t, events.CodeBadRequest, remote.Code)
	}

	// They write no history and command no agent.
	for _, subject := range []string{events.JobFactSubject(tb, "j", events.KindJobFinished), events.LeasesSubject(tb), events.ReportSubject(tb, "n1-1", events.KindUp), events.DueSubject(tb, "j")} {
		_, err := op.Publish(ctx, subject, up(t, "i", "n1-1"))
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}
	for _, subject := range []string{events.CommandSubject(tb, "n1-1", events.VerbHalt), "$JS.API.STREAM.PURGE.OMF_EVT", "$JS.API.STREAM.DELETE.OMF_EVT", "$JS.API.CONSUMER.MSG.NEXT.OMF_REQ.handler"} {
		require.ErrorIs(t, op.Request(ctx, subject, nil, nil), bus.ErrDenied, subject)
	}
}

func TestWrongCredentials(t *testing.T) {
	h := bustest.Start(t)
	good := h.Server().NodeCredential(tb, "n1-1")
	for name, change := range map[string]func(*events.Credential){
		"no password":      func(c *events.Credential) { c.Password = "" },
		"wrong password":   func(c *events.Credential) { c.Password = strings.Repeat("0", 64) },
		"other node":       func(c *events.Credential) { c.User = "node.default.n1-2" },
		"other kind":       func(c *events.Credential) { c.User = "resident.default.n1-1" },
		"service":          func(c *events.Credential) { c.User = "service" },
		"service and more": func(c *events.Credential) { c.User = "service.default.n1-1" },
		"not canonical":    func(c *events.Credential) { c.User = "node.default._6e1-1" },
		"wildcard":         func(c *events.Credential) { c.User = "node.default.>" },
		"unknown kind":     func(c *events.Credential) { c.User = "root" },
		"no user":          func(c *events.Credential) { c.User = "" },
		"long user":        func(c *events.Credential) { c.User = strings.Repeat("x", 3000) },
	} {
		cr := good
		change(&cr)
		ctx := within(t)
		_, err := bus.Connect(ctx, bus.Config{InProcess: h, Credential: &cr, Wait: true})
		require.ErrorIs(t, err, bus.ErrDenied, name)
		require.NoError(t, ctx.Err(), "at once, even with Wait")
	}
}

func TestAnonymous(t *testing.T) {
	open := bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:0"})
	ctx := within(t)
	for _, cfg := range []bus.Config{{InProcess: open}, {URLs: []string{open.Server().ClientURL()}}} {
		c, err := bus.Connect(ctx, cfg)
		require.NoError(t, err)
		require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
		c.Close()
	}
	closed := bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:0", Auth: embedded.AuthConfig{Required: true}})
	for _, cfg := range []bus.Config{{InProcess: closed}, {URLs: []string{closed.Server().ClientURL()}}} {
		_, err := bus.Connect(ctx, cfg)
		require.ErrorIs(t, err, bus.ErrDenied)
	}
	require.NoError(t, closed.Connect(t).AwaitStreams(ctx))
}

// TestAnonymousFromElsewhere connects from an address that is not loopback,
// if this machine has one: no rights without a credential, required or not.
func TestAnonymousFromElsewhere(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	own := ""
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			own = ip.IP.String()
		}
	}
	if own == "" {
		t.Skip("this machine has no address but loopback")
	}
	h := bustest.StartWith(t, embedded.Config{Listen: net.JoinHostPort(own, "0")})
	_, err = bus.Connect(within(t), bus.Config{URLs: []string{h.Server().ClientURL()}})
	require.ErrorIs(t, err, bus.ErrDenied)
	cr := h.Server().OperatorCredential()
	c, err := bus.Connect(within(t), bus.Config{URLs: []string{h.Server().ClientURL()}, Credential: &cr})
	require.NoError(t, err)
	c.Close()
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	start := func() (*embedded.Server, error) {
		return embedded.Start(within(t), embedded.Config{StoreDir: dir, Listen: embedded.InProcessOnly})
	}
	s, err := start()
	require.NoError(t, err)
	first := s.NodeCredential(tb, "n1-1")
	require.NotEqual(t, first.Password, s.NodeCredential(tb, "n1-2").Password)
	require.NotEqual(t, first.Password, s.NodeCredential("other", "n1-1").Password)
	require.NotEqual(t, first.Password, s.ResidentCredential(tb, "n1-1").Password)
	require.NotEqual(t, s.NodeCredential("a", "bc").Password, s.NodeCredential("ab", "c").Password)
	s.Shutdown()
	path := filepath.Join(dir, "auth")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s, err = start()
	require.NoError(t, err)
	require.Equal(t, first, s.NodeCredential(tb, "n1-1"), "survives a restart")
	s.Shutdown()
	require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
	_, err = start()
	require.ErrorContains(t, err, path)
	require.NoError(t, os.Remove(path))
	s, err = start()
	require.NoError(t, err)
	require.NotEqual(t, first.Password, s.NodeCredential(tb, "n1-1").Password)
	s.Shutdown()
}

// TestRepliesArePrivate asks as one party and listens as another.
func TestRepliesArePrivate(t *testing.T) {
	h := bustest.Start(t)
	a, b, ctx := h.ConnectNode(t, "a"), h.ConnectNode(t, "b"), within(t)
	require.True(t, strings.HasPrefix(a.NATS().NewInbox(), bus.NodeInbox(tb, "a")+"."))
	_, err := b.Subscribe(ctx, bus.NodeInbox(tb, "a")+".>", func(bus.Message) {})
	require.ErrorIs(t, err, bus.ErrDenied)
	// Answering is allowed a few times, to the one who asked, also when a
	// subscription is left over from a lost connection.
	const many = 20
	answered := make(chan struct{})
	subject := events.CommandSubject(tb, "b", events.VerbProbe)
	_, err = b.NATS().Subscribe(subject, func(m *nats.Msg) {
		for range many {
			_ = m.Respond([]byte(`{}`)) // the refusal comes later
		}
		close(answered)
	})
	require.NoError(t, err)
	_, err = b.NATS().Subscribe(subject, func(*nats.Msg) {})
	require.NoError(t, err)
	require.NoError(t, b.NATS().FlushWithContext(ctx))
	svc := h.Connect(t)
	inbox := svc.NATS().NewInbox()
	answers, err := svc.NATS().SubscribeSync(inbox)
	require.NoError(t, err)
	require.NoError(t, svc.NATS().PublishRequest(subject, inbox, nil))
	m, err := answers.NextMsgWithContext(ctx)
	require.NoError(t, err)
	require.True(t, json.Valid(m.Data))
	<-answered
	require.NoError(t, b.NATS().FlushWithContext(ctx))
	require.NoError(t, svc.NATS().FlushWithContext(ctx))
	n, _, err := answers.Pending()
	require.NoError(t, err)
	require.Less(t, n, many/2)
}
