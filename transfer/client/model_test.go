package client_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// A model is a server and nodes on a network in memory and a virtual clock.
// Server and clients are the real ones; the blocks they exchange are real, but
// the clients keep no data, so that eighty of them can be afforded.
type model struct {
	seed   uint64
	chunks int
	rate   int64 // of the server, bit/s; 0 means 1 Gbit/s
	fixed  bool
	loss   float64 // everywhere
	host   mcast.Host
	nodes  []node
}

// node is one machine of a model.
type node struct {
	host   mcast.Host
	start  time.Duration
	disk   float64 // chunks a second, 0 infinitely many
	memory int64
	legacy bool // sends no reports, as an original client
}

// clones gives n equal nodes.
func clones(n int, like node) (all []node) {
	for range n {
		all = append(all, like)
	}
	return all
}

// ran is what became of a model.
type ran struct {
	took   []time.Duration // by each node, since its start
	stats  []client.Stats
	server server.Stats
	sent   float64 // images
	twice  float64 // part of the blocks sent that had been sent before
	before float64 // images that had been sent when the last node came
}

// blank is an image of nothing.
type blank int

func (blank) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (b blank) Size() int64                         { return int64(b) * wire.ChunkSize }

// platter is a disk on which one chunk is written after the other. It notes
// which came.
type platter struct {
	each time.Duration
	mu   sync.Mutex
	free time.Time
	got  map[int]bool
}

func (p *platter) Install(ctx context.Context, i int, _ []byte) error {
	now := time.Now()
	p.mu.Lock()
	if p.got[i] {
		p.mu.Unlock()
		return fmt.Errorf("chunk %d came twice", i)
	}
	p.got[i] = true
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(p.each)
	wait := p.free.Sub(now)
	p.mu.Unlock()
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// deaf is a Conn of a client that knows no extensions.
func deaf(c mcast.Conn) mcast.Conn {
	return mcast.WithFaults(c, mcast.Faults{Loss: 1, Match: func(d []byte) bool { return d[4] == byte(wire.Reports) }}, 1)
}

func nodeAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 78, 2, byte(i + 1)}) }

// run runs a model to its end.
func (m model) run(t *testing.T) (r ran) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := mcast.NewNetwork(mcast.NetworkConfig{Seed: m.seed, Loss: m.loss, Delay: 100 * time.Microsecond})
		conn, err := net.OpenHost(mcast.Options{Group: group, Port: memPort, Local: serverAddr(), Ignore: server.Ignore(), Exclusive: true}, m.host)
		require.NoError(t, err)
		s, err := server.New(server.Config{Conn: conn, Image: blank(m.chunks), Rate: cmp.Or(m.rate, 1_000_000_000), Fixed: m.fixed})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		r.took, r.stats = make([]time.Duration, len(m.nodes)), make([]client.Stats, len(m.nodes))
		var last time.Duration
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, n := range m.nodes {
			last = max(last, n.start)
			all.Go(func() {
				time.Sleep(n.start)
				conn, err := net.OpenHost(mcast.Options{Group: group, Port: memPort, Local: nodeAddr(i)}, n.host)
				require.NoError(t, err)
				defer conn.Close()
				if n.legacy {
					conn = deaf(conn)
				}
				disk := &platter{got: map[int]bool{}}
				if n.disk > 0 {
					disk.each = time.Duration(float64(time.Second) / n.disk)
				}
				c, err := client.New(client.Config{Conn: conn, Installer: disk, Chunks: m.chunks, Workers: 2, Memory: n.memory,
					JoinTimeout: time.Minute, StallTimeout: 5 * time.Minute, Rand: rand.New(rand.NewPCG(m.seed, uint64(i)))})
				require.NoError(t, err)
				c.Weightless()
				stats, err := c.Run(context.Background())
				require.NoError(t, err, "node %d: %+v", i, stats)
				require.Len(t, disk.got, m.chunks)
				mu.Lock()
				r.took[i], r.stats[i] = stats.Elapsed, stats
				mu.Unlock()
			})
		}
		image := float64(m.chunks * wire.BlocksPerChunk)
		all.Go(func() {
			time.Sleep(last)
			r.before = float64(s.Stats().BlocksSent) / image
		})
		all.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, conn.Close())
		r.server = s.Stats()
		r.sent = float64(r.server.BlocksSent) / image
		r.twice = float64(r.server.Resent) / float64(r.server.BlocksSent)
	})
	return r
}

// mean is the mean time the nodes took.
func (r ran) mean() (d time.Duration) {
	for _, t := range r.took {
		d += t
	}
	return d / time.Duration(len(r.took))
}
