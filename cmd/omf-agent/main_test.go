package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus/bustest"
	"loadnode/bus/embedded"
	"loadnode/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noEnv(string) string { return "" }

func environ(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cred")
	require.NoError(t, os.WriteFile(file, []byte(`{"user":"u","password":"secret","inbox":"i"}`), 0o600))
	var out bytes.Buffer

	s, err := parse([]string{"--node", "n1-1", "--credential", file, "--nats", "nats://a:1,nats://b:2"}, noEnv, &out)
	require.NoError(t, err)
	require.Equal(t, []string{"nats://a:1", "nats://b:2"}, s.urls())
	require.Equal(t, &events.Credential{User: "u", Password: "secret", Inbox: "i"}, s.credential)
	require.Equal(t, "default", s.testbed)
	require.False(t, s.imaging, "nothing is written unless it is said that this is the imaging system")
	require.Zero(t, s.timeout)
	kernel, err := os.ReadFile(bootIDFile)
	require.NoError(t, err)
	require.Equal(t, string(bytes.TrimSpace(kernel)), s.boot)

	env := environ(map[string]string{
		"OMF_AGENT_NODE": "n2-2", "OMF_AGENT_IMAGING": "true", "OMF_AGENT_HTTP_TIMEOUT": "3s", "OMF_AGENT_BOOT_ID": "b7",
		"OMF_AGENT_CREDENTIAL": `{"user":"v"}`, "OMF_AGENT_TESTBED": "tb", "OMF_AGENT_ADDRESS": "10.0.0.7",
	})
	s, err = parse([]string{"--testbed", "flag-wins"}, env, &out)
	require.NoError(t, err)
	require.Equal(t, "n2-2", s.node)
	require.Equal(t, "flag-wins", s.testbed)
	require.True(t, s.imaging)
	require.Equal(t, 3*time.Second, s.httpTimeout)
	require.Equal(t, "b7", s.boot)
	require.Equal(t, "v", s.credential.User)
	require.Equal(t, "10.0.0.7", s.address.String())

	s, err = parse([]string{"--node", "n"}, noEnv, &out)
	require.NoError(t, err)
	require.Nil(t, s.credential)
}

func TestWrongUsage(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte(`{"password":"secret"}`), 0o600))
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
	}{
		"no node":            {nil, nil},
		"unknown flag":       {[]string{"--what"}, nil},
		"an argument":        {[]string{"--node", "n", "x"}, nil},
		"bad address":        {[]string{"--node", "n", "--address", "::1"}, nil},
		"bad memory":         {[]string{"--node", "n", "--memory", "1"}, nil},
		"bad duration":       {[]string{"--node", "n", "--http-timeout", "0s"}, nil},
		"bad environment":    {[]string{"--node", "n"}, map[string]string{"OMF_AGENT_MEMORY": "much"}},
		"no credential file": {[]string{"--node", "n", "--credential", broken + "x"}, nil},
		"broken credential":  {[]string{"--node", "n", "--credential", broken}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, exitUsage, run(t.Context(), c.args, environ(c.env), &out, &out))
			require.NotContains(t, out.String(), "secret")
			require.NotEmpty(t, out.String())
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	var out, bad bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"--version"}, noEnv, &out, &bad))
	require.Equal(t, "omf-agent dev\n", out.String())
	require.Zero(t, run(t.Context(), []string{"--help"}, noEnv, &out, &bad))
	require.Contains(t, bad.String(), "-credential")
}

func TestRun(t *testing.T) {
	h := bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:-1"})
	handler := h.Connect(t)
	cred, err := json.Marshal(h.Server().NodeCredential(bustest.Testbed, "n1-1"))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "cred")
	require.NoError(t, os.WriteFile(file, cred, 0o600))

	ctx, signal := context.WithCancel(context.Background())
	var log bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--nats", h.Server().ClientURL(), "--node", "n1-1", "--credential", file, "--boot-id", "b1", "--imaging"}, noEnv, &log, &log)
	}()
	_, d := bustest.AwaitReport(t, handler, "n1-1", events.KindUp)
	require.Equal(t, "b1", d.(events.Up).Boot)
	require.True(t, d.(events.Up).Imaging)
	var reply events.CommandReply
	require.NoError(t, handler.Request(t.Context(), events.CommandSubject(bustest.Testbed, "n1-1", events.VerbProbe), nil, &reply))
	require.Equal(t, "idle", reply.State)
	signal()
	require.Zero(t, <-code)

	// Another node's credential is no way in under this name, a wrong
	// password is none at all.
	require.Equal(t, exitUnreachable, run(t.Context(), []string{"--nats", h.Server().ClientURL(), "--node", "n1-2", "--credential", file, "--imaging"}, noEnv, &log, &log))
	wrong := environ(map[string]string{"OMF_AGENT_CREDENTIAL": `{"user":"node.default.n1-1","password":"guess"}`})
	require.Equal(t, exitUnreachable, run(t.Context(), []string{"--nats", h.Server().ClientURL(), "--node", "n1-1"}, wrong, &log, &log))
	require.Equal(t, exitUnreachable, run(t.Context(), []string{"--nats", "nats://127.0.0.1:1", "--node", "n1-1", "--timeout", "200ms"}, noEnv, &log, &log))
}

// TestResident: on its own disk the agent answers for the power of the node,
// with a credential that is good for nothing else, and with no other.
func TestResident(t *testing.T) {
	h := bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:-1"})
	handler := h.Connect(t)
	file := func(c events.Credential) string {
		raw, err := json.Marshal(c)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "credential")
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	agent := func(ctx context.Context, credential string) (int, string) {
		var log bytes.Buffer
		code := run(ctx, []string{"--nats", h.Server().ClientURL(), "--node", "n1-1", "--credential", credential, "--boot-id", "b1"}, noEnv, &log, &log)
		return code, log.String()
	}
	ctx, signal := context.WithCancel(t.Context())
	code := make(chan int, 1)
	credential := file(h.Server().ResidentCredential(bustest.Testbed, "n1-1"))
	go func() { c, _ := agent(ctx, credential); code <- c }()
	var st events.PowerState
	require.Eventually(t, func() bool {
		return handler.Request(t.Context(), events.PowerSubject(bustest.Testbed, "n1-1", events.PowerStatus), events.PowerRequest{Node: "n1-1"}, &st) == nil
	}, bustest.Patience, 10*time.Millisecond)
	require.Equal(t, events.PowerState{Power: events.PowerOn, Boot: "b1", Cycles: -1}, st)
	signal()
	require.Zero(t, <-code)

	c, text := agent(t.Context(), file(h.Server().NodeCredential(bustest.Testbed, "n1-1")))
	require.Equal(t, exitUnreachable, c)
	require.Contains(t, text, "omf nodes credential n1-1")
}
