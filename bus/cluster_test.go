package bus_test

import (
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/internal/freeport"
)

// cluster runs three servers.
func cluster(t testing.TB) (urls []string, servers []*server.Server) {
	t.Helper()
	var ports [3]uint16 // of the routes: known before the servers start
	var routes []*url.URL
	for i := range ports {
		ports[i] = freeport.TCP(t, "127.0.0.1")
		u, err := url.Parse(fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		require.NoError(t, err)
		routes = append(routes, u)
	}
	for i, p := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: int(p)},
			Routes:  routes,
		})
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	for _, s := range servers {
		require.True(t, s.ReadyForConnections(bustest.Patience))
		urls = append(urls, s.ClientURL())
	}
	return urls, servers
}

// TestCluster runs what matters most on three replicas: the streams are
// accepted, writers that race do not fork a log, and the loss of one server
// loses nothing.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers take some seconds")
	}
	urls, servers := cluster(t)
	ctx := within(t)
	connect := func() *bus.Conn {
		c, err := bus.Connect(ctx, bus.Config{URLs: urls, Timeout: bustest.Patience})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	c := connect()
	replicas := func(want int) {
		for _, name := range bus.Streams() {
			s, err := c.JetStream().Stream(ctx, name)
			require.NoError(t, err)
			require.Equal(t, want, s.CachedInfo().Config.Replicas, name)
		}
	}
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{})) // waits for a leader
	replicas(3)
	// Who names no number leaves them as they are.
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{Replicas: 1}))
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{}))
	replicas(1)
	require.NoError(t, c.EnsureStreams(ctx, bus.StreamOptions{Replicas: 3}))
	replicas(3)

	job := newID(t)
	filter := events.JobFacts(tb, job)
	const writers, decisions, size = 3, 10, 2
	race := func(from int) {
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			conn := connect()
			wg.Go(func() {
				for n := from; n < from+decisions; {
					last := uint64(0)
					m, err := conn.Last(ctx, bus.StreamFacts, filter)
					switch {
					case err == nil:
						last = m.Seq
					case !errors.Is(err, bus.ErrNoMessage):
						if ctx.Err() != nil {
							errs <- err
							return
						}
						continue // no leader at the moment
					}
					node := fmt.Sprint("w", w)
					_, err = conn.Append(ctx, filter, last, nodeFact(t, job, node, node, 2*n), nodeFact(t, job, node, node, 2*n+1))
					switch {
					case err == nil:
						n++
					case !errors.Is(err, bus.ErrConflict):
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
	}
	whole := func(n int) {
		all := bustest.All(t, c, bus.StreamFacts, filter)
		require.Len(t, all, n)
		for i := 0; i < n; i += size {
			require.Equal(t, all[i].Event.Source(), all[i+1].Event.Source(), "decisions are whole")
			require.Equal(t, all[i].Seq+1, all[i+1].Seq)
		}
	}
	race(0)
	whole(writers * decisions * size)

	ch := wakes(t, c)
	at := time.Now().Add(500 * time.Millisecond)
	require.NoError(t, c.Schedule(ctx, tb, "j", at))
	requireWake(t, ch, "j", at)

	for _, s := range servers {
		if s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, bus.StreamFacts) {
			s.Shutdown()
			s.WaitForShutdown()
			break
		}
	}
	race(decisions)
	whole(2 * writers * decisions * size)
}
