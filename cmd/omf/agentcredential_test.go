package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
)

// TestAgentCredential: the credential of the agent on a node's disk is that of
// a resident, and does not do what an operator's does.
func TestAgentCredential(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "2x1")
	printed := decode[events.Credential](t, b.ok("nodes", "credential", "[2,1]"))
	file := filepath.Join(t.TempDir(), "agent.credential")
	require.Empty(t, b.ok("nodes", "credential", "n2-1", "--out", file))
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, st.Mode().Perm())
	cred, err := readCredential(file)
	require.NoError(t, err)
	require.Equal(t, printed, *cred)
	require.Equal(t, bus.ResidentInbox("default", "n2-1"), cred.Inbox)
	imaging := decode[events.Credential](t, b.ok("nodes", "credential", "n2-1", "--imaging"))
	require.Equal(t, bus.NodeInbox("default", "n2-1"), imaging.Inbox)

	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{b.nats}, Name: "agent", Credential: cred})
	require.NoError(t, err)
	conn.Close()
	r := b.omf("nodes", "--credential", file)
	require.NotZero(t, r.code)
	require.NotContains(t, r.stdout, "n1-1", "nodes may not ask")

	for _, bad := range []string{"n9-9", "all"} {
		r := b.omf("nodes", "credential", bad)
		require.Equal(t, exitRefused, r.code, r.stderr)
		require.Empty(t, r.stdout)
	}
	require.Equal(t, exitUsage, b.omf("nodes", "credential").code)
}
