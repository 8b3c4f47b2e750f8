package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestMisusedCredential goes from the requests of a stranger to the facts of
// the job, through the routes, the issuer and the handler of a server. One from
// another address is refused and ends nothing. One that has the node's address
// and comes first makes the node's own request the second: the attempt fails.
func TestMisusedCredential(t *testing.T) {
	t.Parallel()
	_, nats, base := bootServer(t)
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{nats}, Name: "test"})
	require.NoError(t, err)
	defer conn.Close()
	const config = "/boot/config?mac=52:54:00:00:01:01"
	r := omf(t, "", "load", "n1", "small.ndz", "--detach", "--server", nats)
	require.Zero(t, r.code, r.stderr)
	job := strings.TrimSpace(r.stdout)
	// The boot service follows the facts.
	bustest.Await(t, conn, bus.StreamTelemetry, events.BootSubject("default", "n1"), nil)
	misused := func(reason string) events.CredentialMisused {
		t.Helper()
		var found events.CredentialMisused
		bustest.Await(t, conn, bus.StreamFacts, events.NodeFactSubject("default", job, "n1", events.KindCredentialMisused), func(m bus.Message) bool {
			d, err := events.Decode(m.Event)
			require.NoError(t, err)
			found = d.(events.CredentialMisused)
			return found.Reason == reason
		})
		return found
	}
	show := func(command ...string) string {
		t.Helper()
		r := omf(t, "", append(command, "--server", nats)...)
		require.Zero(t, r.code, r.stderr)
		return r.stdout
	}

	require.NotContains(t, show("jobs"), "alarm")
	code, _ := getFrom(t, "127.0.0.66", base+config)
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "127.0.0.66", misused(events.MisuseAddress).Address)
	require.Empty(t, bustest.All(t, conn, bus.StreamFacts, events.NodeFactSubject("default", job, "n1", events.KindLoadFailed)))
	require.Contains(t, show("jobs"), "accepted (alarm)")
	require.Contains(t, show("job", "show", job), "alarm 1: the credential of n1 was asked for from 127.0.0.66")

	code, body := getFrom(t, "127.0.0.1", base+config) // a stranger with the node's address
	require.Equal(t, http.StatusOK, code, body)
	code, _ = getFrom(t, "127.0.0.1", base+config) // the node
	require.Equal(t, http.StatusConflict, code)
	second := misused(events.MisuseSecond)
	require.Equal(t, events.NodeRef{Job: job, Node: "n1", Attempt: 1}, second.NodeRef)
	m := bustest.Await(t, conn, bus.StreamFacts, events.NodeFactSubject("default", job, "n1", events.KindLoadFailed), nil)
	d, err := events.Decode(m.Event)
	require.NoError(t, err)
	require.Equal(t, events.ClassCredential, d.(events.LoadFailed).Class)
	require.Equal(t, 1, d.(events.LoadFailed).Attempt)
	// The next boot gets a credential of its own.
	bustest.Await(t, conn, bus.StreamTelemetry, events.BootSubject("default", "n1"), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		require.NoError(t, err)
		b, ok := d.(events.BootStage)
		return ok && b.Attempt == 2
	})
	code, body = getFrom(t, "127.0.0.1", base+config)
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, show("job", "show", job), "alarm 2:")
	var state events.HandlerState
	require.NoError(t, conn.Request(t.Context(), events.HandlerSubject("default", events.HandlerStatus), events.Empty{}, &state))
	require.EqualValues(t, 2, state.Counters["alarms"])
	r = omf(t, "", "job", "cancel", job, "--server", nats)
	require.Zero(t, r.code, r.stderr)
	watched := omf(t, "", "watch", job, "--server", nats)
	require.Contains(t, watched.stdout, "alarm: the credential of n1 was asked for from 127.0.0.66")
	require.Contains(t, watched.stdout, "credential: the credential of this boot of n1 was delivered")
}
