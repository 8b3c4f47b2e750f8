package initramfs

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

func TestIdentity(t *testing.T) {
	answers := []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { http.Error(w, "starting", http.StatusServiceUnavailable) },
		func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"testbed":"tb","node":"n1-2","bus":["nats://10.0.0.1:4222"],"credential":{"user":"u","password":"secret","inbox":"i"},"later":1}`)
		},
	}
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/base/boot/config", r.URL.Path)
		require.Equal(t, "52:54:00:00:00:01", r.URL.Query().Get("mac"))
		answers[min(asked, len(answers)-1)](w)
		asked++
	}))
	defer srv.Close()
	base, err := url.Parse(srv.URL + "/base/")
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	c, err := fetchIdentity(t.Context(), srv.Client(), base, "52:54:00:00:00:01", log)
	require.NoError(t, err)
	require.Equal(t, 2, asked)
	a := Assignment{Servers: []string{"nats://old:4222"}, Testbed: "default", Node: "old"}
	a.merge(c)
	require.Equal(t, Assignment{Servers: []string{"nats://10.0.0.1:4222"}, Testbed: "tb", Node: "n1-2", Credential: &events.Credential{User: "u", Password: "secret", Inbox: "i"}}, a)

	for _, code := range []int{http.StatusConflict, http.StatusForbidden} {
		asked = 0
		answers = []func(w http.ResponseWriter){func(w http.ResponseWriter) { http.Error(w, "delivered already", code) }}
		_, err = fetchIdentity(t.Context(), srv.Client(), base, "52:54:00:00:00:01", log)
		require.ErrorIs(t, err, ErrRefused)
		require.ErrorContains(t, err, "delivered already")
		require.Equal(t, 1, asked, "asking again would be another alarm")
	}
	for _, body := range []string{"no json", strings.Repeat(" ", maxAnswer+1)} {
		answers = []func(w http.ResponseWriter){func(w http.ResponseWriter) { _, _ = io.WriteString(w, body) }}
		_, err = askIdentity(t.Context(), srv.Client(), srv.URL+"/base/boot/config?mac=52:54:00:00:00:01")
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrRefused)
	}
}

func TestClockWrong(t *testing.T) {
	require.False(t, clockWrong(-30*time.Second, false))
	require.True(t, clockWrong(-2*time.Minute, false))
	require.True(t, clockWrong(30*time.Second, true))
	require.False(t, clockWrong(time.Millisecond, true))
}

func TestRole(t *testing.T) {
	require.Equal(t, RoleInit, Role("/init", 1))
	require.Equal(t, RoleAgent, Role("omf-agent", 1), "in a container")
	require.Equal(t, RoleAgent, Role("/init", 7))
	require.Equal(t, RoleModprobe, Role("/sbin/modprobe", 7))
}

// TestSecure: certificates are checked where the bus says so or the credential
// has an authority; then the clock must be right.
func TestSecure(t *testing.T) {
	require.False(t, (&Assignment{Servers: []string{"nats://a"}, Credential: &events.Credential{User: "u"}}).secure())
	require.True(t, (&Assignment{Servers: []string{"nats://a", "tls://b"}}).secure())
	require.True(t, (&Assignment{Servers: []string{"nats://a"}, Credential: &events.Credential{CA: "pem"}}).secure())
}
