package server

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// load sends over a share until ctx ends or so many bytes have gone, and counts.
type load struct {
	share *Share
	sent  atomic.Int64
	ended time.Time
}

func (l *load) run(ctx context.Context, burst int, total int64) {
	for l.sent.Load() < total && l.share.Wait(ctx, burst*WireBlock) == nil {
		l.sent.Add(int64(burst * WireBlock))
	}
	l.ended = time.Now()
}

const forever = int64(1) << 60

func mustShare(t testing.TB, l *Link, weight float64, cap int64) *load {
	t.Helper()
	s, err := l.Session(weight, cap)
	require.NoError(t, err)
	return &load{share: s}
}

// shares runs loads side by side for a time and gives what each sent, bit/s.
func shares(d time.Duration, bursts []int, loads ...*load) []float64 {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var all sync.WaitGroup
	out := make([]float64, len(loads))
	for i, l := range loads {
		before := l.sent.Load()
		all.Go(func() {
			l.run(ctx, bursts[i%len(bursts)], forever)
			out[i] = float64(l.sent.Load()-before) * 8 / d.Seconds()
		})
	}
	all.Wait()
	return out
}

func TestLinkDivides(t *testing.T) {
	const rate = 1e9
	for _, tc := range []struct {
		name    string
		weights []float64
		caps    []int64
		bursts  []int
		want    []float64
	}{
		{"alone", []float64{1}, []int64{0}, []int{62}, []float64{1e9}},
		{"equal", []float64{1, 1, 1, 1}, []int64{0, 0, 0, 0}, []int{62}, []float64{.25e9, .25e9, .25e9, .25e9}},
		{"bursts of different sizes", []float64{1, 1}, []int64{0, 0}, []int{62, 5}, []float64{.5e9, .5e9}},
		{"one to three", []float64{1, 3}, []int64{0, Unlimited}, []int{62}, []float64{.25e9, .75e9}},
		{"weights", []float64{1, 2, 5}, []int64{0, 0, 0}, []int{16}, []float64{.125e9, .25e9, .625e9}},
		{"what a cap leaves goes to the others", []float64{1, 1, 1}, []int64{100e6, 0, 0}, []int{62}, []float64{.1e9, .45e9, .45e9}},
		{"caps below the rate", []float64{1, 1}, []int64{100e6, 200e6}, []int{62}, []float64{.1e9, .2e9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLink(rate, nil)
				var loads []*load
				for i, w := range tc.weights {
					loads = append(loads, mustShare(t, l, w, tc.caps[i]))
				}
				for i, got := range shares(time.Second, tc.bursts, loads...) {
					require.InEpsilon(t, tc.want[i], got, 0.02, "share %d", i)
					if tc.caps[i] > 0 {
						require.LessOrEqual(t, got, float64(tc.caps[i])+62*WireBlock*8)
					}
				}
			})
		})
	}
}

// TestLinkFinishes: four that have the same to send finish together; who comes
// later is not owed what it did not use, and who goes leaves its part.
func TestLinkFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(1e9, nil)
		begin := time.Now()
		var all sync.WaitGroup
		loads := make([]*load, 4)
		for i := range loads {
			loads[i] = mustShare(t, l, 1, 0)
			all.Go(func() { loads[i].run(context.Background(), 62, 25e6) })
		}
		all.Wait()
		first, last := time.Hour, time.Duration(0)
		for _, o := range loads {
			first, last = min(first, o.ended.Sub(begin)), max(last, o.ended.Sub(begin))
		}
		require.InDelta(t, 0.8, last.Seconds(), 0.01, "100 MB at 1 Gbit/s")
		require.LessOrEqual(t, last.Seconds(), 1.02*first.Seconds())

		late := mustShare(t, l, 1, 0)
		early := mustShare(t, l, 1, 0)
		shares(time.Second, []int{62}, early)
		got := shares(100*time.Millisecond, []int{62}, early, late)
		require.InEpsilon(t, got[0], got[1], 0.1)
		got = shares(100*time.Millisecond, []int{62}, late)
		require.InEpsilon(t, 1e9, got[0], 0.05)
	})
}

// TestLinkChanges: rate, weights and caps while sessions send.
func TestLinkChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(100e6, nil)
		a, b := mustShare(t, l, 1, 0), mustShare(t, l, 1, 0)
		run := func() []float64 { return shares(time.Second, []int{16}, a, b) }
		require.InEpsilon(t, 50e6, run()[0], 0.02)
		l.SetRate(1e9)
		require.EqualValues(t, 1e9, l.Rate())
		require.InEpsilon(t, 500e6, run()[0], 0.02)
		require.NoError(t, b.share.SetWeight(4))
		require.InEpsilon(t, 200e6, run()[0], 0.02)
		b.share.SetCap(50e6)
		got := run()
		require.InEpsilon(t, 950e6, got[0], 0.02)
		require.InEpsilon(t, 50e6, got[1], 0.02)
		b.share.SetCap(0)
		require.InEpsilon(t, 800e6, run()[1], 0.02)

		// A sleep at a low rate notices a higher one.
		l.SetRate(1000)
		require.NoError(t, a.share.Wait(context.Background(), WireBlock)) // the next is in 9 s
		begin := time.Now()
		time.AfterFunc(100*time.Millisecond, func() { l.SetRate(1e9) })
		for range 3 {
			require.NoError(t, a.share.Wait(context.Background(), WireBlock))
		}
		require.Less(t, time.Since(begin), 30*time.Second)
	})
	l := NewLink(1e9, nil)
	for _, w := range []float64{0, -1, 1e9} {
		_, err := l.Session(w, 0)
		require.ErrorIs(t, err, ErrShare)
	}
	_, err := l.Session(1, -2)
	require.ErrorIs(t, err, ErrShare)
	require.ErrorIs(t, mustShare(t, l, 1, 0).share.SetWeight(0), ErrShare)
}

// TestLinkGivingUp: who is tired of waiting, the leader included, holds up nobody
// and is not charged; what is given back others use.
func TestLinkGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(1e6, nil)
		a, b := mustShare(t, l, 1, 0), mustShare(t, l, 1, 0)
		require.NoError(t, a.share.Wait(context.Background(), 12500)) // busy for 100 ms
		begin := time.Now()
		var all sync.WaitGroup
		for i := range 8 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*5*time.Millisecond)
			defer cancel()
			all.Go(func() { require.ErrorIs(t, a.share.Wait(ctx, 12500), context.DeadlineExceeded) })
		}
		all.Go(func() { require.NoError(t, b.share.Wait(context.Background(), 12500)) })
		all.Wait()
		require.Equal(t, 100*time.Millisecond, time.Since(begin))
		require.Empty(t, l.waiting)
		b.share.Refund(12500)
		b.share.Refund(-1)
		require.NoError(t, a.share.Wait(context.Background(), 12500))
		require.Less(t, time.Since(begin), 100*time.Millisecond+4*moment)
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, a.share.Wait(gone, 1), context.Canceled)
	})
}

// TestSessionsShareALink: four real sessions over sockets, each with a client
// that asks for everything at once.
func TestSessionsShareALink(t *testing.T) {
	const sessions, chunks, rate = 4, 3, 400e6
	clock := NewFineClock()
	defer clock.Close()
	link := NewLink(rate, clock)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	img := image(chunks)
	begin := time.Now()
	took := make([]time.Duration, sessions)
	var clients sync.WaitGroup
	for i := range sessions {
		o := mcast.Options{Group: netip.AddrFrom4([4]byte{239, 255, 83, byte(i)}), Port: 9083, Local: netip.AddrFrom4([4]byte{127, 83, 0, byte(i + 1)})}
		conn, err := Listen(o)
		require.NoError(t, err)
		defer conn.Close()
		share, err := link.Session(1, 0)
		require.NoError(t, err)
		s, err := New(Config{Conn: conn, Image: img, Rate: Unlimited, Limiter: share})
		require.NoError(t, err)
		running.Go(func() { _ = s.Run(ctx) })
		o.Local = netip.AddrFrom4([4]byte{127, 83, 1, byte(i + 1)})
		peer, err := mcast.Open(o)
		require.NoError(t, err)
		defer peer.Close()
		clients.Go(func() {
			for c := range chunks {
				ask := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Request, Source: o.Local.As4(), Chunk: int32(c), Count: wire.BlocksPerChunk}
				if err := peer.Send([][]byte{ask.Append(nil)}); err != nil {
					t.Error(err)
				}
			}
			if !receiveAll(t, peer, img, chunks) {
				t.Errorf("session %d: not all came", i)
			}
			took[i] = time.Since(begin)
		})
	}
	clients.Wait()
	first, last := took[0], took[0]
	for _, d := range took {
		first, last = min(first, d), max(last, d)
	}
	t.Logf("finished after %v", took)
	require.LessOrEqual(t, last.Seconds(), 1.15*first.Seconds(), "%v", took)
	ideal := float64(sessions*chunks*wire.BlocksPerChunk*WireBlock*8) / rate
	require.GreaterOrEqual(t, last.Seconds(), ideal*0.99-catchUp.Seconds())
}

// receiveAll takes blocks until it has all of the image, which it compares.
func receiveAll(t *testing.T, c mcast.Conn, img *bytes.Reader, chunks int) bool {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	want := make([]byte, wire.BlockSize)
	got := map[[2]int32]bool{}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for len(got) < chunks*wire.BlocksPerChunk {
		n, err := c.Receive(ds)
		if err != nil {
			t.Errorf("after %d blocks: %v", len(got), err)
			return false
		}
		for _, d := range ds[:n] {
			var p wire.Packet
			if p.Decode(d.Data) != nil || p.Subtype != wire.Block {
				continue
			}
			_, _ = img.ReadAt(want, int64(p.Chunk)*wire.ChunkSize+int64(p.Block)*wire.BlockSize)
			if !bytes.Equal(want, p.Data) {
				t.Errorf("chunk %d block %d is not the image's", p.Chunk, p.Block)
				return false
			}
			got[[2]int32{p.Chunk, p.Block}] = true
		}
	}
	return true
}

// TestCapHolds: in no stretch of time does a share send more than its cap allows
// for it, but for a burst and what a timer may be late; a long pause is not made up.
func TestCapHolds(t *testing.T) {
	for name, late := range lateness() {
		clock := &stepClock{now: time.Unix(1000, 0), late: late}
		const cap, burst = 200e6, 44
		share, err := NewLink(1e9, clock).Session(1, cap)
		require.NoError(t, err)
		var at []time.Duration
		begin := clock.now
		for i := range 1500 {
			if i%300 == 299 {
				clock.now = clock.now.Add(200 * time.Millisecond)
			}
			if err := share.Wait(context.Background(), burst*WireBlock); err != nil {
				t.Fatal(err)
			}
			at = append(at, clock.now.Sub(begin))
		}
		for first := range at {
			for last := first; last < len(at) && at[last]-at[first] <= 100*time.Millisecond; last++ {
				sent := float64((last-first)*burst*WireBlock) * 8
				if allowed := cap*(at[last]-at[first]+capCatchUp).Seconds() + burst*WireBlock*8; sent > allowed {
					t.Fatalf("%s: %.0f bits in %v, %.0f are allowed", name, sent, at[last]-at[first], allowed)
				}
			}
		}
	}
}
