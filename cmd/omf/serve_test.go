package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/events"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1")
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.http+path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	code, body := get("/healthz")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)
	code, body = get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	for _, role := range []string{roleNATS, roleHandler, roleFrisbee, roleSim} {
		require.Contains(t, body, `"`+role+`":{"ready":true}`)
	}
	b.ok("load", "all", "small.ndz", "-q")
	code, body = get("/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, want := range []string{
		`loadnode_role_up{role="handler"} 1`, `loadnode_role_up{role="frisbee"} 1`, `loadnode_jobs_open 0`, `loadnode_info{version="dev"} 1`, `go_goroutines`,
	} {
		require.Contains(t, body, want)
	}
	require.Regexp(t, `(?m)^loadnode_image_bytes_sent_total [1-9]`, body)
	http.DefaultClient.CloseIdleConnections()
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t, "1x1")
	natsAddress := strings.TrimPrefix(b.nats, "nats://")
	httpAddress := strings.TrimPrefix(b.http, "http://")
	other := t.TempDir()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"state": {[]string{"--state", b.state, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, b.state},
		"nats":  {[]string{"--state", other, "--nats-listen", natsAddress, "--http", "127.0.0.1:0"}, natsAddress},
		"http":  {[]string{"--state", other, "--nats-listen", "127.0.0.1:0", "--http", httpAddress}, httpAddress},
		"ours":  {[]string{"--state", other, "--nats-listen", "127.0.0.1:0", "--http", "192.0.2.1:80"}, "an address of this machine?"},
		"name":  {[]string{"--state", other, "--nats-listen", "127.0.0.1:0", "--http", "nonsense"}, "nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := omfContext(ctx, t, "", append([]string{"serve"}, tc.args...)...)
			require.Equal(t, exitUnreachable, r.code, r.stderr)
			require.Contains(t, r.stderr, tc.want)
			require.LessOrEqual(t, strings.Count(r.stderr, "--nats-listen"), 1, r.stderr)
			require.LessOrEqual(t, strings.Count(r.stderr, "in use"), 1, r.stderr)
			require.Empty(t, r.stdout)
		})
	}
	require.Zero(t, b.serve.stop(), "told to end, it ends well")
}

// TestImageDirectory: one that is named must exist, that of the state is made.
func TestImageDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	absent, file, state := filepath.Join(dir, "absent"), filepath.Join(dir, "file"), filepath.Join(dir, "state")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	server := []string{"serve", "--state", state, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn", "--grid", "1x1"}
	for path, want := range map[string]string{absent: "no such directory", file: "not a directory"} {
		r := omf(t, "", append(server, "--images", path)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, path+" (flag --images): "+want)
		require.Contains(t, r.stderr, "create it, or name another with --images")
	}
	require.NoDirExists(t, absent)
	require.NoDirExists(t, state, "nothing is made")
	omfBackground(t, "ready: ", append(server, ownSessions(t)...)...)
	require.DirExists(t, filepath.Join(state, "images"))
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(state, "images"), 0o755))
	smallImage(t, filepath.Join(state, "images", "small.ndz"), 1)
	s := omfBackground(t, "ready: ", append([]string{"serve", "--state", state, "--nats-listen", "0.0.0.0:0", "--http", "127.0.0.1:0", "--log", "warn", "--grid", "1x1"}, ownSessions(t)...)...)
	url := strings.Fields(s.ready)[1]
	port := url[strings.LastIndex(url, ":")+1:]
	require.True(t, strings.HasPrefix(url, "tls://"), url)
	url = "nats://127.0.0.1:" + port
	r := omf(t, "", "load", "all", "small.ndz", "--server", url)
	require.Equal(t, exitRefused, r.code, r.stderr)
	require.Contains(t, r.stderr, "--credential")
	require.Contains(t, r.stderr, "trust")
	operator := filepath.Join(state, "operator.json")
	st, err := os.Stat(operator)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	omfBackground(t, "ready: 1 nodes", "sim", "--grid", "1x1", "--server", url, "--credential", operator, "--dir", t.TempDir(), "--boot", "10ms", "--log", "warn")
	r = omf(t, "", "load", "all", "small.ndz", "--server", url, "--credential", operator)
	require.Zero(t, r.code, r.stderr)
	// The live display subscribes to telemetry too: an operator may.
	conn, err := bus.Connect(t.Context(), bus.Config{URLs: []string{url}, Credential: must(readCredential(operator))})
	require.NoError(t, err)
	defer conn.Close()
	stop, err := conn.Subscribe(t.Context(), events.JobProgress("default", "x"), func(bus.Message) {})
	require.NoError(t, err)
	require.NoError(t, conn.NATS().Flush())
	require.NoError(t, conn.NATS().LastError())
	stop()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestServeOutOfTheBox(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(state, "images"), 0o755))
	want := smallImage(t, filepath.Join(state, "images", "small.ndz"), 1)
	s := omfBackground(t, "ready: ", append([]string{"serve", "--state", state, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"}, ownSessions(t)...)...)
	url := strings.Fields(s.ready)[1]
	dir := t.TempDir()
	omfBackground(t, "ready: 4 nodes", "sim", "--grid", "2x2", "--server", url, "--dir", dir, "--boot", "10ms-50ms", "--log", "warn")
	r := omf(t, "n1-1 # the first\n[2,2]\n", "load", "-", "small.ndz", "--server", url, "-o", "json")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, 2, decode[outcome](t, r.stdout).OK)
	for _, n := range []string{"n1-1", "n2-2"} {
		got, err := os.ReadFile(sim.DiskPath(dir, n))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestGrid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g, err := parseGrid(rapid.StringMatching(`[0-9]{1,5}[xX][0-9]{1,5}`).Draw(rt, "size"))
		if err == nil && (g.columns < 1 || g.rows < 1 || g.columns > maxGrid || g.rows > maxGrid) {
			rt.Fatal(g)
		}
	})
	require.Equal(t, []string{"n1-1", "n1-2", "n2-1", "n2-2"}, grid{2, 2}.nodes())
	for _, s := range []string{"", "x", "2", "2x", "x2", "2x2x2", "-1x1", "1x1001", "1,1"} {
		_, err := parseGrid(s)
		require.Error(t, err, s)
	}
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a filesystem and compares disks")
	}
	t.Parallel()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &errs)
	a.environ, a.system = []string{"HOME=" + dir, "TMPDIR=" + dir}, ""
	// The embedded filesystem is the smaller one; mke2fs is for package demo.
	code := a.execute(t.Context(), []string{"demo", "-o", "json", "--embedded", "--nodes", "3", "--fault", "noboot:n2-1", "--boot", "10ms-100ms"})
	r := result{code, out.String(), errs.String()}
	require.Equal(t, exitFailed, r.code, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	got := decode[map[string]any](t, lines[len(lines)-1])
	for _, key := range strings.Fields("nodes ok failed verified image_bytes sent_bytes seconds") {
		require.Contains(t, got, key)
	}
	d := decode[demoResult](t, lines[len(lines)-1])
	require.Equal(t, [4]int{3, 2, 1, 2}, [4]int{d.Nodes, d.OK, d.Failed, d.Verified})
	require.Len(t, d.Failures, 1)
	require.Equal(t, "n2-1", d.Failures[0].Node)
	require.Equal(t, events.ClassCheckin, d.Failures[0].Class)
	require.NotEmpty(t, d.Failures[0].Hint)
	require.GreaterOrEqual(t, d.DiskBytes, int64(64<<20))
	require.GreaterOrEqual(t, d.SentBytes, d.ImageBytes*9/10)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
	require.Contains(t, r.stderr, "compared: 2 disks equal")
}
