package client_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// freePort is a UDP port nobody uses now.
func freePort(t testing.TB) uint16 {
	t.Helper()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{})
	require.NoError(t, err)
	defer u.Close()
	return u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// session is a server on real loopback multicast.
type session struct {
	t     testing.TB
	o     mcast.Options
	image *picture
	s     *server.Server
	stop  func()
}

// startSession serves an image. No block leaves before so many clients joined:
// on a busy machine one may be late, and then rightly costs more.
func startSession(t testing.TB, group netip.Addr, net byte, image *picture, rate int64, clients uint64) *session {
	t.Helper()
	gate := &gated{picture: image, open: make(chan struct{})}
	o := mcast.Options{Group: group, Port: freePort(t), Local: netip.AddrFrom4([4]byte{127, 79, net, 1})}
	conn, err := server.Listen(o)
	require.NoError(t, err)
	s, err := server.New(server.Config{Conn: conn, Image: gate, Rate: rate})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var gatekeeper sync.WaitGroup
	gatekeeper.Go(func() {
		defer close(gate.open)
		for s.Stats().Joins < clients && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	})
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			gatekeeper.Wait()
			require.ErrorIs(t, <-done, context.Canceled)
			require.NoError(t, conn.Close())
		})
	}
	t.Cleanup(stop)
	return &session{t, o, image, s, stop}
}

// gated is an image that cannot be read before its gate opens.
type gated struct {
	*picture
	open chan struct{}
}

func (g *gated) ReadAt(b []byte, off int64) (int, error) {
	<-g.open
	return g.picture.ReadAt(b, off)
}

// load runs n clients, each with its own address, and gives their figures.
func (s *session) load(n int, installer func(i int) client.Installer) []client.Stats {
	s.t.Helper()
	var wg sync.WaitGroup
	stats, errs := make([]client.Stats, n), make([]error, n)
	for i := range n {
		o := s.o
		a := o.Local.As4()
		a[3] = byte(10 + i)
		o.Local = netip.AddrFrom4(a)
		conn, err := mcast.Open(o)
		require.NoError(s.t, err)
		defer conn.Close()
		c, err := client.New(client.Config{Conn: conn, Server: s.o.Local, Installer: installer(i),
			JoinTimeout: 10 * time.Second, StallTimeout: 20 * time.Second})
		require.NoError(s.t, err)
		wg.Go(func() { stats[i], errs[i] = c.Run(context.Background()) })
	}
	wg.Wait()
	for i, err := range errs {
		require.NoError(s.t, err, "client %d: %+v", i, stats[i])
	}
	return stats
}

// TestLoopback: real sockets, eight nodes in one process, every byte equal, at
// the price of one transfer.
func TestLoopback(t *testing.T) {
	for _, rate := range []int64{100e6, 400e6} {
		t.Run(fmt.Sprintf("%d Mbit/s", rate/1e6), func(t *testing.T) {
			const chunks, clients = 24, 8
			s := startSession(t, group, 1, image(3, chunks), rate, clients)
			keepers := make([]*keeper, clients)
			stats := s.load(clients, func(i int) client.Installer {
				keepers[i] = newKeeper(s.image)
				return keepers[i]
			})
			for i, k := range keepers {
				require.Equal(t, chunks, k.count(), "client %d", i)
				require.Zero(t, k.bad)
			}
			s.stop()
			st := s.s.Stats()
			require.LessOrEqual(t, st.BlocksSent, uint64(chunks*wire.BlocksPerChunk*101/100), "%+v\n%+v", st, stats)
		})
	}
}

// TestTwoSessions on one machine do not hear each other: neither with two
// groups nor with two ports of one group.
func TestTwoSessions(t *testing.T) {
	const chunks = 6
	groups := []netip.Addr{group, group, netip.MustParseAddr("239.255.78.2")}
	var wg sync.WaitGroup
	for k, g := range groups {
		wg.Go(func() {
			s := startSession(t, g, byte(2+k), image(uint64(10+k), chunks), 200e6, 1)
			kept := newKeeper(s.image)
			stats := s.load(1, func(int) client.Installer { return kept })
			require.Equal(t, chunks, kept.count())
			require.Zero(t, kept.bad)
			require.Zero(t, stats[0].Foreign+stats[0].Bad)
		})
	}
	wg.Wait()
}

// TestSharedAddress: server and client on one address, as between two shells.
func TestSharedAddress(t *testing.T) {
	const chunks = 4
	s := startSession(t, group, 7, image(20, chunks), 200e6, 1)
	conn, err := mcast.Open(s.o)
	require.NoError(t, err)
	defer conn.Close()
	kept := newKeeper(s.image)
	c, err := client.New(client.Config{Conn: conn, Installer: kept, JoinTimeout: 10 * time.Second, StallTimeout: 10 * time.Second})
	require.NoError(t, err)
	stats, err := c.Run(context.Background())
	require.NoError(t, err)
	require.Equal(t, chunks, kept.count())
	require.Equal(t, s.o.Local, stats.Server)
}

func cpuSeconds(b *testing.B) float64 {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	sec := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return sec(u.Utime) + sec(u.Stime)
}

type discard struct{}

func (discard) Install(context.Context, int, []byte) error { return nil }

// BenchmarkLoopback gives CPU seconds per gigabyte of image: of the server
// alone (nobody listens to what it sends for one who asks without receiving),
// and of a server with clients.
func BenchmarkLoopback(b *testing.B) {
	const chunks = 256
	gb := float64(chunks) * wire.ChunkSize / 1e9
	img := image(4, chunks)
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("server and %d clients", clients), func(b *testing.B) {
			var cpu, sent, blocks float64
			for b.Loop() {
				s := startSession(b, group, 9, img, 2e9, uint64(clients))
				before := cpuSeconds(b)
				s.load(clients, func(int) client.Installer { return discard{} })
				cpu += cpuSeconds(b) - before
				s.stop()
				sent += float64(s.s.Stats().BlocksSent)
				blocks += chunks * wire.BlocksPerChunk
			}
			b.ReportMetric(cpu/gb/float64(b.N), "cpu-s/GB")
			b.ReportMetric(sent/blocks, "sent/needed")
			b.SetBytes(chunks * wire.ChunkSize)
		})
	}
	b.Run("server alone", func(b *testing.B) {
		var cpu float64
		for b.Loop() {
			s := startSession(b, group, 9, img, server.Unlimited, 0)
			o := s.o
			o.Local = netip.AddrFrom4([4]byte{127, 79, 9, 9})
			o.Ignore = server.Ignore() // asks, and takes no block
			conn, err := mcast.Open(o)
			require.NoError(b, err)
			before := cpuSeconds(b)
			for i := range chunks {
				p := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Request, Source: o.Local.As4(), Chunk: int32(i), Count: wire.BlocksPerChunk}
				require.NoError(b, conn.Send([][]byte{p.Append(nil)}))
			}
			require.Eventually(b, func() bool { return s.s.Stats().BlocksSent >= chunks*wire.BlocksPerChunk }, time.Minute, 5*time.Millisecond)
			cpu += cpuSeconds(b) - before
			s.stop()
			require.NoError(b, conn.Close())
		}
		b.ReportMetric(cpu/gb/float64(b.N), "cpu-s/GB")
		b.SetBytes(chunks * wire.ChunkSize)
	})
}
