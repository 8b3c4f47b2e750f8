package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"loadnode/bus"
	"loadnode/events"
)

const secretBytes = 32

// authority knows the secret that all credentials derive from.
type authority struct {
	secret   []byte
	required bool
	log      *slog.Logger
}

// newAuthority reads the secret of a store, or makes it at the first start.
func newAuthority(path string, required bool, log *slog.Logger) (*authority, error) {
	a := &authority{required: required, log: log}
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		a.secret, err = hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(a.secret) != secretBytes {
			return nil, fmt.Errorf("embedded bus: %s is damaged: want %d bytes in hexadecimal digits; without it, all credentials are to be handed out anew: remove it to do so", path, secretBytes)
		}
		return a, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("embedded bus: secret: %w", err)
	}
	a.secret = make([]byte, secretBytes)
	rand.Read(a.secret)
	if err := writeSecret(path, hex.EncodeToString(a.secret)+"\n"); err != nil {
		return nil, fmt.Errorf("embedded bus: secret: %w", err)
	}
	return a, nil
}

// writeSecret writes a file as a whole or not at all: half a secret would
// lock everybody out.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".auth-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// password derives the password of a user. The length before each part keeps
// ("a", "bc") and ("ab", "c") apart.
func (a *authority) password(kind events.CredentialKind, testbed, node string) string {
	h := hmac.New(sha256.New, a.secret)
	for _, part := range []string{"loadnode bus credential 1", string(kind), testbed, node} {
		fmt.Fprintf(h, "%d:%s;", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (a *authority) credential(kind events.CredentialKind, testbed, node string) events.Credential {
	cr := events.Credential{User: string(kind), Password: a.password(kind, testbed, node)}
	switch kind {
	case events.CredentialNode:
		cr.Inbox = bus.NodeInbox(testbed, node)
	case events.CredentialResident:
		cr.Inbox = bus.ResidentInbox(testbed, node)
	case events.CredentialOperator:
		cr.Inbox = bus.OperatorInbox
	case events.CredentialService:
		cr.Inbox = bus.ServiceInbox
	}
	if node != "" {
		cr.User += "." + events.Escape(testbed) + "." + events.Escape(node)
	}
	return cr
}

// Check implements server.Authentication.
func (a *authority) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == "" && o.Password == "" && o.Token == "" && o.Nkey == "" && o.JWT == "" {
		if a.required || !local(c.RemoteAddress()) {
			a.log.Warn("connection without a credential refused", "addr", c.RemoteAddress(), "name", o.Name)
			return false
		}
		a.register(c, "anonymous", bus.ServicePermissions())
		return true
	}
	kind, testbed, node, ok := parseUser(o.Username)
	if !ok || !hmac.Equal([]byte(o.Password), []byte(a.password(kind, testbed, node))) {
		a.log.Warn("connection with a wrong credential refused", "addr", c.RemoteAddress(), "user", fmt.Sprintf("%.300q", o.Username))
		return false
	}
	switch kind {
	case events.CredentialNode:
		a.register(c, o.Username, bus.NodePermissions(testbed, node))
	case events.CredentialResident:
		a.register(c, o.Username, bus.ResidentPermissions(testbed, node))
	case events.CredentialOperator:
		a.register(c, o.Username, bus.OperatorPermissions())
	default:
		a.register(c, o.Username, bus.ServicePermissions())
	}
	return true
}

func (a *authority) register(c server.ClientAuthentication, user string, p bus.Permissions) {
	c.RegisterUser(&server.User{Username: user, Permissions: subjects(p)})
}

// parseUser is the inverse of the user names of credentials.
func parseUser(user string) (kind events.CredentialKind, testbed, node string, ok bool) {
	if len(user) > 1024 {
		return "", "", "", false
	}
	parts := strings.Split(user, ".")
	kind = events.CredentialKind(parts[0])
	switch kind {
	case events.CredentialOperator, events.CredentialService:
		return kind, "", "", len(parts) == 1
	case events.CredentialNode, events.CredentialResident:
		if len(parts) != 3 {
			return "", "", "", false
		}
		var err1, err2 error
		testbed, err1 = events.Unescape(parts[1])
		node, err2 = events.Unescape(parts[2])
		return kind, testbed, node, err1 == nil && err2 == nil
	}
	return "", "", "", false
}

// local reports whether a connection comes from this machine.
func local(a net.Addr) bool {
	if a == nil || a.Network() == "pipe" {
		return true
	}
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// NodeCredential is the credential of the agent of a node.
func (s *Server) NodeCredential(testbed, node string) events.Credential {
	return s.auth.credential(events.CredentialNode, testbed, node)
}

// ResidentCredential is the credential of whoever serves the power of a node.
func (s *Server) ResidentCredential(testbed, node string) events.Credential {
	return s.auth.credential(events.CredentialResident, testbed, node)
}

// OperatorCredential is the credential of people and scripts.
func (s *Server) OperatorCredential() events.Credential {
	return s.auth.credential(events.CredentialOperator, "", "")
}

// ServiceCredential is the credential of handlers and image services.
func (s *Server) ServiceCredential() events.Credential {
	return s.auth.credential(events.CredentialService, "", "")
}

// ServeCredentials answers events.BusSubject(testbed, events.BusCredential)
// on conn: who may ask services gets the credential of any node. Nodes may
// not ask.
func (s *Server) ServeCredentials(ctx context.Context, conn *bus.Conn, testbed string) (*bus.Service, error) {
	return conn.Serve(ctx, bus.ServiceConfig{
		Name:        "omf-bus",
		Version:     "1.0.0",
		Description: "credentials of nodes",
		Endpoints: []bus.Endpoint{{
			Name:    "credential",
			Subject: events.BusSubject(testbed, events.BusCredential),
			Handle: func(_ context.Context, r bus.Request) (any, error) {
				var q events.CredentialRequest
				if err := r.Decode(&q); err != nil {
					return nil, err
				}
				if err := events.CheckName(q.Node); err != nil {
					return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("node %q: %v", q.Node, err)}
				}
				if q.Kind != events.CredentialNode && q.Kind != events.CredentialResident {
					return nil, &events.Error{
						Code:    events.CodeBadRequest,
						Message: fmt.Sprintf("credential of kind %q: want %s or %s", q.Kind, events.CredentialNode, events.CredentialResident),
					}
				}
				return s.auth.credential(q.Kind, testbed, q.Node), nil
			},
		}},
	})
}
