package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/bus/embedded"
	"loadnode/events"
)

const (
	tb = bustest.Testbed
	// serveEnv has the test binary run a server on the store that it names,
	// for a test that kills it.
	serveEnv = "LOADNODE_TEST_SERVE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		serveUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func TestStartTwice(t *testing.T) {
	dir := t.TempDir()
	first, err := embedded.Start(within(t), embedded.Config{StoreDir: dir, Listen: embedded.InProcessOnly})
	require.NoError(t, err)
	defer first.Shutdown()
	require.Empty(t, first.ClientURL())
	_, err = embedded.Start(within(t), embedded.Config{StoreDir: dir, Listen: embedded.InProcessOnly})
	require.ErrorIs(t, err, embedded.ErrStoreInUse)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, fmt.Sprint("process ", os.Getpid()))
	first.Shutdown()
	first.Shutdown()
	again, err := embedded.Start(within(t), embedded.Config{StoreDir: dir, Listen: embedded.InProcessOnly})
	require.NoError(t, err)
	again.Shutdown()
}

func TestStartPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = embedded.Start(within(t), embedded.Config{StoreDir: t.TempDir(), Listen: l.Addr().String()})
	require.ErrorIs(t, err, embedded.ErrPortInUse)
	require.ErrorContains(t, err, l.Addr().String())
	// An address of another machine: not ours, and not taken.
	_, err = embedded.Start(within(t), embedded.Config{StoreDir: t.TempDir(), Listen: "192.0.2.1:4222"})
	require.ErrorContains(t, err, "192.0.2.1:4222")
	require.NotErrorIs(t, err, embedded.ErrPortInUse)

	for _, bad := range []string{"127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-2", ":::"} {
		_, err = embedded.Start(within(t), embedded.Config{StoreDir: t.TempDir(), Listen: bad})
		require.ErrorContains(t, err, "embedded bus: ", bad)
	}
	_, err = embedded.Start(within(t), embedded.Config{})
	require.ErrorContains(t, err, "store directory")

	for _, free := range []string{"", "127.0.0.1:0", "127.0.0.1:-1"} {
		s, err := embedded.Start(within(t), embedded.Config{StoreDir: t.TempDir(), Listen: free})
		require.NoError(t, err)
		cr := s.OperatorCredential()
		c, err := bus.Connect(within(t), bus.Config{URLs: []string{s.ClientURL()}, Credential: &cr})
		require.NoError(t, err)
		c.Close()
		s.Shutdown()
	}
}

func TestStoreUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := embedded.Start(within(t), embedded.Config{StoreDir: file})
	require.ErrorContains(t, err, file)
}

// serveUntilKilled runs a server and says on standard output where.
func serveUntilKilled(dir string) {
	s, err := embedded.Start(context.Background(), embedded.Config{StoreDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.ClientURL())
	select {}
}

// TestKill kills the process of a server in the middle of appends: what it
// acknowledged is there afterwards, and decisions are whole.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	ctx := within(t)
	c, err := bus.Connect(ctx, bus.Config{URLs: []string{strings.TrimSpace(url)}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))

	const size = 3
	actx, stop := context.WithCancel(ctx)
	acked := make(chan uint64, 100_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := uint64(0)
		for n := 0; ; n++ {
			recs := make([]bus.Record, size)
			for i := range recs {
				d := events.LoadStarted{NodeRef: events.NodeRef{Job: "j", Node: fmt.Sprint(i), Attempt: n}}
				ev, err := events.New(events.Meta{ID: events.FactID("j", fmt.Sprint(i), d.Kind(), n), Source: "/a", Time: time.Now()}, d)
				if err != nil {
					return
				}
				recs[i] = bus.Record{Subject: events.NodeFactSubject(tb, "j", fmt.Sprint(i), d.Kind()), Event: ev}
			}
			var err error
			if last, err = c.Append(actx, events.JobFacts(tb, "j"), last, recs...); err != nil {
				return
			}
			acked <- last
		}
	}()
	for range 20 {
		<-acked
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	stop()
	<-done
	close(acked)
	newest := uint64(20 * size)
	for seq := range acked {
		newest = seq
	}

	s, err := embedded.Start(ctx, embedded.Config{StoreDir: dir, Listen: embedded.InProcessOnly})
	require.NoError(t, err)
	defer s.Shutdown()
	c2, err := bus.Connect(ctx, bus.Config{InProcess: s.Conn()})
	require.NoError(t, err)
	defer c2.Close()
	all := bustest.All(t, c2, bus.StreamFacts, events.JobFacts(tb, "j"))
	require.GreaterOrEqual(t, uint64(len(all)), newest, "what was acknowledged is there")
	require.Zero(t, len(all)%size, "decisions are whole")
	for i, m := range all {
		require.NoError(t, m.Err)
		require.Equal(t, events.FactID("j", fmt.Sprint(i%size), events.KindLoadStarted, i/size), m.Event.ID())
	}
}
