package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/nats-io/nats-server/v2/server"

	"loadnode/bus"
	"loadnode/bus/credential"
	"loadnode/events"
)

// gate lets connections to this server in. Who they are is decided by package
// credential.
type gate struct {
	authority *credential.Authority
	required  bool
	log       *slog.Logger
	// close ends a connection.
	close func(id uint64)
	live  credential.Live[uint64]
}

func newGate(path string, required bool, log *slog.Logger) (*gate, error) {
	secret, err := credential.OpenSecret(path)
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	return &gate{authority: credential.NewAuthority(secret), required: required, log: log}, nil
}

// Check implements server.Authentication.
func (g *gate) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == "" && o.Password == "" && o.Token == "" && o.Nkey == "" && o.JWT == "" {
		if g.required || !local(c.RemoteAddress()) {
			g.log.Warn("connection without a credential refused", "addr", c.RemoteAddress(), "name", o.Name)
			return false
		}
		g.register(c, "anonymous", bus.ServicePermissions())
		return true
	}
	u, err := g.authority.Check(context.Background(), o.Username, o.Password, remote(c.RemoteAddress()))
	if err == nil && !g.admit(u, c.GetID()) {
		err = credential.ErrRevoked
	}
	if err != nil {
		g.log.Warn("connection refused", "addr", c.RemoteAddress(), "user", fmt.Sprintf("%.300q", o.Username), "err", err)
		return false
	}
	g.register(c, o.Username, u.Permissions())
	return true
}

func (g *gate) register(c server.ClientAuthentication, user string, p bus.Permissions) {
	c.RegisterUser(&server.User{Username: user, Permissions: subjects(p)})
}

// admit notes a connection that uses the credential of a boot, of which only so
// many may be open. It is false if that was revoked while it was checked.
func (g *gate) admit(u credential.User, id uint64) bool {
	forgotten, ok := g.live.Admit(u, id)
	for _, old := range forgotten {
		g.close(old)
	}
	return ok
}

// revoked closes the connections that use a credential.
func (g *gate) revoked(u credential.User) {
	ids := g.live.Revoke(u)
	for _, id := range ids {
		g.close(id)
	}
	if len(ids) > 0 {
		g.log.Info("connections of a revoked credential closed", "user", u.Name())
	}
}

// local reports whether a connection comes from this machine.
func local(a net.Addr) bool {
	if a == nil || a.Network() == "pipe" {
		return true
	}
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// remote is the address of a connection, zero inside the process.
func remote(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// KeepBoots has the server know the credentials of boots, and revokes them,
// until ctx ends. Before it is called they are refused. conn is a connection to
// this server with the rights of a service.
func (s *Server) KeepBoots(ctx context.Context, conn *bus.Conn) error {
	grants, err := credential.OpenGrants(ctx, conn)
	if err != nil {
		return err
	}
	s.gate.authority.Use(grants)
	return credential.NewKeeper(conn, grants, s.gate.revoked, s.gate.log).Run(ctx)
}

// credential is one that is good until the secret changes.
func (s *Server) credential(kind events.CredentialKind, testbed, node string) events.Credential {
	c := s.gate.authority.Secret().Credential(kind, testbed, node)
	c.CA = s.ca
	return c
}

// NodeCredential is the credential of the agent of a node.
func (s *Server) NodeCredential(testbed, node string) events.Credential {
	return s.credential(events.CredentialNode, testbed, node)
}

// ResidentCredential is the credential of whoever serves the power of a node.
func (s *Server) ResidentCredential(testbed, node string) events.Credential {
	return s.credential(events.CredentialResident, testbed, node)
}

// OperatorCredential is the credential of people and scripts.
func (s *Server) OperatorCredential() events.Credential {
	return s.credential(events.CredentialOperator, "", "")
}

// ServiceCredential is the credential of handlers and image services.
func (s *Server) ServiceCredential() events.Credential {
	return s.credential(events.CredentialService, "", "")
}

// ServeCredentials answers requests for the lasting credentials of nodes.
func (s *Server) ServeCredentials(ctx context.Context, conn *bus.Conn, testbed string) (*bus.Service, error) {
	return credential.Serve(ctx, conn, s.gate.authority.Secret(), testbed, s.ca)
}
