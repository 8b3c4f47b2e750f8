package callout_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/bus/credential"
	"loadnode/bus/credential/callout"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tb = bustest.Testbed

// guarded is a server from deploy/nats with the callout that guards it.
type guarded struct {
	t      *testing.T
	url    string
	secret *credential.Secret
	conn   *bus.Conn // of a service
	grants *credential.Grants
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func newGuarded(t *testing.T) *guarded {
	key, err := nkeys.CreateAccount()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	for name, value := range map[string]string{
		"LOADNODE_NATS_NAME": "bus1", "LOADNODE_NATS_STORE": t.TempDir(), "LOADNODE_ROUTE_PASSWORD": "route-secret",
		"LOADNODE_ROUTE_1": "nats-route://127.0.0.1:1", "LOADNODE_ROUTE_2": "nats-route://127.0.0.1:1", "LOADNODE_ROUTE_3": "nats-route://127.0.0.1:1",
		"LOADNODE_AUTH_ISSUER": public, "LOADNODE_AUTH_PASSWORD": "auth-secret", "LOADNODE_SYS_PASSWORD": "sys-secret",
	} {
		t.Setenv(name, value)
	}
	opts, err := server.ProcessConfigFile("../../../deploy/nats/server.conf")
	require.NoError(t, err)
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true
	opts.Cluster, opts.Routes = server.ClusterOpts{}, nil // of one
	srv, err := server.NewServer(opts)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(bustest.Patience))

	g := &guarded{t: t, url: srv.ClientURL()}
	g.secret, err = credential.OpenSecret(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	authority := credential.NewAuthority(g.secret)
	user := func(name string) *nats.Conn {
		nc, err := nats.Connect(g.url, nats.UserInfo(name, name+"-secret"))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	svc, err := callout.Start(within(t), callout.Config{Auth: user("auth"), System: user("sys"), Authority: authority, Key: key})
	require.NoError(t, err)
	t.Cleanup(svc.Stop)
	g.conn = g.connect(g.secret.Credential(events.CredentialService, "", ""))
	require.NoError(t, g.conn.EnsureStreams(within(t), bus.StreamOptions{}))
	g.grants, err = credential.OpenGrants(within(t), g.conn)
	require.NoError(t, err)
	authority.Use(g.grants)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- credential.NewKeeper(g.conn, g.grants, svc.Revoked, nil).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return g
}

func (g *guarded) try(c *events.Credential, state func(bool)) (*bus.Conn, error) {
	return bus.Connect(within(g.t), bus.Config{URLs: []string{g.url}, Credential: c, OnState: state})
}

func (g *guarded) connect(c events.Credential) *bus.Conn {
	g.t.Helper()
	conn, err := g.try(&c, nil)
	require.NoError(g.t, err)
	g.t.Cleanup(conn.Close)
	return conn
}

func (g *guarded) denied(c *events.Credential, what string) {
	g.t.Helper()
	_, err := g.try(c, nil)
	require.ErrorIs(g.t, err, bus.ErrDenied, what)
}

// TestNodeMayNot is the table of forbidden subjects that the embedded server
// passes as well.
func TestNodeMayNot(t *testing.T) {
	g := newGuarded(t)
	bustest.NodeMayNot(t, g.connect(g.secret.Credential(events.CredentialNode, tb, "n1-1")), g.conn)
}

func TestWhoComesIn(t *testing.T) {
	g := newGuarded(t)
	ctx := within(t)
	good := g.secret.Credential(events.CredentialNode, tb, "n1-1")
	g.denied(nil, "anonymous")
	wrong := good
	wrong.Password = wrong.Password[1:] + "0"
	g.denied(&wrong, "password")
	other := good
	other.User = "node.default.n1-2"
	g.denied(&other, "another node")
	for _, name := range []string{"auth", "sys"} {
		g.denied(&events.Credential{User: name, Password: "guess"}, name)
	}

	// What they have to do, they may.
	node := g.connect(good)
	s, err := node.Serve(ctx, bus.ServiceConfig{Name: "agent", Plain: true, Endpoints: []bus.Endpoint{{
		Name: "probe", Subject: events.CommandSubject(tb, "n1-1", events.VerbProbe),
		Handle: func(context.Context, bus.Request) (any, error) { return events.CommandReply{State: "idle"}, nil },
	}}})
	require.NoError(t, err)
	defer s.Stop()
	for range 3 {
		var reply events.CommandReply
		require.NoError(t, g.conn.Request(ctx, events.CommandSubject(tb, "n1-1", events.VerbProbe), nil, &reply))
		require.Equal(t, "idle", reply.State)
	}
	resident := g.connect(g.secret.Credential(events.CredentialResident, tb, "n1-1"))
	_, err = resident.Subscribe(ctx, events.NodePower(tb, "n1-1"), func(bus.Message) {})
	require.NoError(t, err)
	_, err = resident.Subscribe(ctx, events.NodeCommands(tb, "n1-1"), func(bus.Message) {})
	require.ErrorIs(t, err, bus.ErrDenied)
	operator := g.connect(g.secret.Credential(events.CredentialOperator, "", ""))
	require.NoError(t, operator.AwaitStreams(ctx))
	require.ErrorIs(t, operator.Request(ctx, events.CommandSubject(tb, "n1-1", events.VerbHalt), nil, nil), bus.ErrDenied)
}

// TestBoot: the credential of a boot comes in, and its connection is closed
// when the node is told to boot again.
func TestBoot(t *testing.T) {
	g := newGuarded(t)
	ctx := within(t)
	last := uint64(0)
	reboot := func(attempt int) {
		d := events.RebootRequested{NodeRef: events.NodeRef{Job: "j", Node: "n1-1", Attempt: attempt}, Effect: events.EffectID("j", "n1-1", "reboot", attempt)}
		ev, err := events.New(events.Meta{ID: events.FactID("j", "n1-1", d.Kind(), attempt), Source: "/x", Time: time.Now()}, d)
		require.NoError(t, err)
		last, err = g.conn.Append(ctx, events.JobFacts(tb, "j"), last, bus.Record{Subject: events.NodeFactSubject(tb, "j", "n1-1", d.Kind()), Event: ev})
		require.NoError(t, err)
	}
	own := netip.MustParseAddr("127.0.0.1")
	issuer := credential.NewIssuer(credential.IssuerConfig{Conn: g.conn, Grants: g.grants, Address: func(string, string) (netip.Addr, bool) { return own, true }})
	reboot(1)
	c, err := issuer.Issue(ctx, tb, "n1-1", "02:00:00:00:00:01", own)
	require.NoError(t, err)
	states := make(chan bool, 16)
	node, err := g.try(&c, func(up bool) { states <- up })
	require.NoError(t, err)
	defer node.Close()
	require.True(t, <-states)
	_, err = node.Subscribe(ctx, events.NodeCommands(tb, "n1-1"), func(bus.Message) {})
	require.NoError(t, err)
	reboot(2)
	select {
	case up := <-states:
		require.False(t, up)
	case <-ctx.Done():
		require.Fail(t, "the connection of the boot before is still there")
	}
	g.denied(&c, "revoked")
}
