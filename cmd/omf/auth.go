package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"loadnode/bus"
	"loadnode/bus/credential"
	"loadnode/bus/credential/callout"
	"loadnode/events"
)

// calloutAuth answers an external bus that asks who its connections are.
type calloutAuth struct {
	authority *credential.Authority
	service   *callout.Service
}

// openCallout begins to answer: before that, nobody is let in, not even this
// process. The function ends it.
func (s *server) openCallout(ctx context.Context) (func(), error) {
	dir := filepath.Join(s.cfg.state, roleAuth)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("role auth: %w", err)
	}
	secret, err := credential.OpenSecret(filepath.Join(dir, "secret"))
	if err != nil {
		return nil, fmt.Errorf("role auth: %w", err)
	}
	key, err := s.issuerKey(filepath.Join(dir, "issuer.nk"))
	if err != nil {
		return nil, fmt.Errorf("role auth: %w", err)
	}
	users, err := readAuthUsers(s.cfg.authUsers)
	if err != nil {
		return nil, usagef("role auth: --auth-users: %w", err)
	}
	operator, service := secret.Credential(events.CredentialOperator, "", ""), secret.Credential(events.CredentialService, "", "")
	operator.CA, service.CA = s.cfg.tls.ca, s.cfg.tls.ca
	for name, c := range map[string]events.Credential{"operator.json": operator, "service.json": service} {
		if err := writeCredential(filepath.Join(s.cfg.state, name), c); err != nil {
			return nil, fmt.Errorf("credential %s: %w", name, err)
		}
	}
	s.cfg.credential = &service

	var conns []*nats.Conn
	end := func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for _, user := range []struct{ name, password string }{{"auth", users.Auth}, {"sys", users.Sys}} {
		options := []nats.Option{nats.UserInfo(user.name, user.password), nats.Name("omf serve auth"),
			nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort()}
		if ca := s.cfg.tls.ca; ca != "" {
			options = append(options, bus.Trust(ca))
		}
		nc, err := nats.Connect(strings.Join(s.cfg.nats, ","), options...)
		if err != nil {
			end()
			return nil, fmt.Errorf("role auth: connect as %s: %w", user.name, err)
		}
		conns = append(conns, nc)
	}
	s.auth = &calloutAuth{authority: credential.NewAuthority(secret)}
	s.auth.service, err = callout.Start(ctx, callout.Config{
		Auth: conns[0], System: conns[1], Authority: s.auth.authority, Key: key, Logger: s.log.With("role", roleAuth),
	})
	if err != nil {
		end()
		return nil, err
	}
	return func() { s.auth.service.Stop(); end() }, nil
}

// issuerKey reads the key that answers are signed with, or makes it at the
// first start and says what the servers of the bus have to know.
func (s *server) issuerKey(path string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	var key nkeys.KeyPair
	switch {
	case errors.Is(err, os.ErrNotExist):
		if key, err = nkeys.CreateAccount(); err != nil {
			return nil, err
		}
		if seed, err = key.Seed(); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, append(seed, '\n'), 0o600); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if key, err = nkeys.FromSeed([]byte(strings.TrimSpace(string(seed)))); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	if !nkeys.IsValidPublicAccountKey(public) {
		return nil, fmt.Errorf("%s: not the key of an account", path)
	}
	s.log.Warn("the servers of the bus need LOADNODE_AUTH_ISSUER", "LOADNODE_AUTH_ISSUER", public, "operator", filepath.Join(s.cfg.state, "operator.json"), "service", filepath.Join(s.cfg.state, "service.json"))
	return key, nil
}

// authUsers are the passwords of deploy/nats/auth.conf.
type authUsers struct {
	Auth string `json:"auth"`
	Sys  string `json:"sys"`
}

func readAuthUsers(file string) (authUsers, error) {
	var u authUsers
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &u)
	}
	if err == nil && (u.Auth == "" || u.Sys == "") {
		err = errors.New("want a JSON object with the passwords auth and sys")
	}
	if err != nil {
		return u, fmt.Errorf("%q: %w", file, err)
	}
	return u, nil
}

// authRole checks and revokes the credentials of boots, and hands out the
// lasting ones of simulated and legacy nodes.
func (s *server) authRole(ctx context.Context) (role, func(), error) {
	grants, err := credential.OpenGrants(ctx, s.conn)
	if err != nil {
		return role{}, nil, err
	}
	s.auth.authority.Use(grants)
	var services []*bus.Service
	undo := func() {
		for _, svc := range services {
			svc.Stop()
		}
	}
	for _, tb := range s.cfg.inventory.Testbeds() {
		svc, err := credential.Serve(ctx, s.conn, s.auth.authority.Secret(), tb.Name, s.cfg.tls.ca)
		if err != nil {
			undo()
			return role{}, nil, err
		}
		services = append(services, svc)
	}
	keeper := credential.NewKeeper(s.conn, grants, s.auth.service.Revoked, s.log.With("role", roleAuth))
	return role{run: keeper.Run, ready: func(context.Context) error { return nil }}, undo, nil
}
