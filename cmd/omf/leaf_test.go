package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
)

// TestLeaf runs a hub and a leaf from the very files that others install: only
// addresses and directories are those of the test. A job of handlers at the hub
// loads nodes at the leaf, for an operator at the leaf; a node's credential is
// checked at the leaf.
func TestLeaf(t *testing.T) {
	key, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := key.Seed()
	require.NoError(t, err)
	issuer, err := key.PublicKey()
	require.NoError(t, err)
	dir := t.TempDir()
	for name, value := range map[string]string{
		"NATS_NAME": "bus1", "NATS_STORE": filepath.Join(dir, "store"), "ROUTE_PASSWORD": "route-secret",
		"ROUTE_1": "nats-route://127.0.0.1:1", "ROUTE_2": "nats-route://127.0.0.1:1", "ROUTE_3": "nats-route://127.0.0.1:1",
		"AUTH_ISSUER": issuer, "AUTH_PASSWORD": "auth-secret", "SYS_PASSWORD": "sys-secret", "LEAF_PASSWORD": "leaf-secret",
	} {
		t.Setenv("LOADNODE_"+name, value)
	}
	start := func(file string, change func(*natsd.Options)) *natsd.Server {
		opts, err := natsd.ProcessConfigFile("../../deploy/nats/" + file)
		require.NoError(t, err)
		opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true
		change(opts)
		s, err := natsd.NewServer(opts)
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		require.True(t, s.ReadyForConnections(patience))
		return s
	}
	var leaves *natsd.Options
	hub := start("hub.conf", func(o *natsd.Options) {
		o.Cluster, o.Routes = natsd.ClusterOpts{}, nil // of one
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", -1
		leaves = o
	})
	t.Setenv("LOADNODE_NATS_NAME", "leaf1")
	for i := range 3 {
		t.Setenv(fmt.Sprint("LOADNODE_LEAF_", i+1), fmt.Sprintf("nats-leaf://leaf:leaf-secret@127.0.0.1:%d", leaves.LeafNode.Port))
	}
	leaf := start("leaf.conf", func(o *natsd.Options) {
		require.Len(t, o.LeafNode.Remotes, 1)
		require.Equal(t, &url.URL{Scheme: "nats-leaf", User: url.UserPassword("leaf", "leaf-secret"), Host: fmt.Sprint("127.0.0.1:", leaves.LeafNode.Port)}, o.LeafNode.Remotes[0].URLs[0])
	})
	require.Eventually(t, func() bool { return hub.NumLeafNodes() == 1 }, patience, patience/1000)

	users := filepath.Join(dir, "users.json")
	require.NoError(t, os.WriteFile(users, []byte(`{"auth": "auth-secret", "sys": "sys-secret"}`), 0o600))
	// Both answer with the same secret and the same key.
	secret := []byte(strings.Repeat("5a", 32) + "\n")
	for _, where := range []string{"hub", "leaf"} {
		auth := filepath.Join(dir, where, "auth")
		require.NoError(t, os.MkdirAll(auth, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(auth, "issuer.nk"), seed, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(auth, "secret"), secret, 0o600))
	}
	images := filepath.Join(dir, "images")
	require.NoError(t, os.Mkdir(images, 0o755))
	smallImage(t, filepath.Join(images, "small.ndz"), 1)
	operator, service := filepath.Join(dir, "leaf", "operator.json"), filepath.Join(dir, "hub", "service.json")
	serve := func(where, roles, bus string, more ...string) {
		omfBackground(t, "ready: ", append([]string{"serve", "--roles", roles, "--state", filepath.Join(dir, where), "--nats", bus, "--grid", "1x1", "--log", "error"}, more...)...)
	}
	// The role that makes the streams waits for the one that lets it in.
	serve("hub", "auth,handler,frisbee", hub.ClientURL(), append(ownSessions(t), "--auth-users", users, "--http", "127.0.0.1:0", "--images", images)...)
	require.FileExists(t, service)
	serve("leaf", "auth", leaf.ClientURL(), "--auth-users", users, "--http", "none")
	omfBackground(t, "ready: 1 nodes", "sim", "--grid", "1x1", "--server", leaf.ClientURL(), "--credential", operator, "--dir", t.TempDir(), "--boot", "10ms", "--log", "error")
	r := omf(t, "", "load", "all", "small.ndz", "--server", leaf.ClientURL(), "--credential", operator)
	require.Zero(t, r.code, r.stderr)

	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{leaf.ClientURL()}, Credential: must(readCredential(operator))})
	require.NoError(t, err)
	defer conn.Close()
	var c events.Credential
	require.NoError(t, conn.Request(t.Context(), events.BusSubject("default", events.BusCredential), events.CredentialRequest{Node: "n1-1", Kind: events.CredentialNode}, &c))
	c.Password = strings.Repeat("0", len(c.Password))
	_, err = bus.Connect(t.Context(), bus.Config{URLs: []string{leaf.ClientURL()}, Credential: &c})
	require.ErrorIs(t, err, bus.ErrDenied)
	_, err = bus.Connect(t.Context(), bus.Config{URLs: []string{leaf.ClientURL()}})
	require.ErrorIs(t, err, bus.ErrDenied)
}
