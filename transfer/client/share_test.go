package client_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/client"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// milestones is an Installer which tells when its client is so far.
type milestones struct {
	*keeper
	mu   sync.Mutex
	done int
	at   map[int][]chan struct{} // closed when so many chunks are installed
}

func (m *milestones) Install(ctx context.Context, i int, data []byte) error {
	if err := m.keeper.Install(ctx, i, data); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	for _, c := range m.at[m.done] {
		close(c)
	}
	return nil
}

// race is one early client and some who join late, in one session.
type race struct {
	image  *picture
	seed   uint64
	loss   float64
	late   []float64     // when they join: what part of the image the first client has by then
	disk   time.Duration // what the first one needs for each chunk
	rate   int64         // 0 means 200 Mbit/s
	adapts bool          // the rate
}

// finish is what became of it.
type finish struct {
	ends   []time.Duration // since the first client began, its own end first
	sent   float64         // images
	server server.Stats
}

func (r race) run(t *testing.T) (f finish) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{Seed: r.seed, Loss: r.loss, Delay: 100 * time.Microsecond}), image: r.image, light: true}
		chunks := int(r.image.Size() / wire.ChunkSize)
		s, stop := l.serve(func(c *server.Config) { c.Rate = cmp.Or(r.rate, 200e6); c.Fixed = !r.adapts })
		far := milestones{at: map[int][]chan struct{}{}}
		out := make([]outcome, 1+len(r.late))
		f.ends = make([]time.Duration, len(out))
		begin := time.Now()
		var wg sync.WaitGroup
		run := func(i int, more func(*client.Config, *keeper)) {
			out[i] = l.load(i, func(c *client.Config, k *keeper) {
				c.Rand = rand.New(rand.NewPCG(r.seed, uint64(i)))
				more(c, k)
			})
			f.ends[i] = time.Since(begin)
		}
		for i, part := range r.late {
			so := make(chan struct{})
			n := int(part * float64(chunks))
			far.at[n] = append(far.at[n], so)
			wg.Go(func() {
				<-so
				run(i+1, func(*client.Config, *keeper) {})
			})
		}
		run(0, func(c *client.Config, k *keeper) {
			k.slow = r.disk
			far.keeper = k
			c.Installer = &far
		})
		wg.Wait()
		l.complete(t, out)
		synctest.Wait()
		require.ErrorIs(t, stop(), context.Canceled)
		f.server = s.Stats()
		f.sent = float64(f.server.BlocksSent) / float64(chunks*wire.BlocksPerChunk)
	})
	return f
}

// TestLateJoinersDoNotSlowTheFirst: several jobs for one image share a session.
// Who joins late costs those who were there before a bounded share, gets
// everything all the same, and needs no more than one further image for it.
func TestLateJoinersDoNotSlowTheFirst(t *testing.T) {
	large.Test(t)
	const usual = 32 // chunks
	tenth, half, four := []float64{0.1}, []float64{0.5}, []float64{0.1, 0.25, 0.5, 0.8}
	for name, tc := range map[string]struct {
		race
		chunks int
		late   [][]float64 // each with its own seed
		waste  float64     // images sent beyond one and what the last one missed
	}{
		"no loss": {race{}, usual, [][]float64{tenth, {0.3}, half, {0.9}, four}, 3. / usual},
		// Two workers do half of what the network brings; what they have no
		// room for must be sent again.
		"slow disk": {race{disk: 180 * time.Millisecond}, 48, [][]float64{four}, 0.9},
		"adapting":  {race{adapts: true}, usual, [][]float64{half}, 3. / usual},
		// Repeats wait longer than a client waits before it asks again.
		"slow link": {race{rate: 20e6}, usual, [][]float64{tenth, half}, 3. / usual},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tc.race
			r.image = image(9, tc.chunks)
			alone := r.run(t).ends[0]
			for i, late := range tc.late {
				r.seed, r.late = uint64(i+1), late
				f := r.run(t)
				last := slices.Max(f.ends[1:])
				about := fmt.Sprintf("late %v: the first took %.3f of the time alone, the last ended at %.3f, %.3f images were sent",
					late, f.ends[0].Seconds()/alone.Seconds(), last.Seconds()/alone.Seconds(), f.sent)
				t.Log(about)
				require.LessOrEqual(t, f.ends[0], alone*110/100, about)
				require.LessOrEqual(t, last, f.ends[0]+alone, about)
				require.LessOrEqual(t, f.sent, 1+slices.Max(late)+tc.waste, about)
				require.Zero(t, f.server.Reductions, "late joiners are not losses")
				require.LessOrEqual(t, f.server.Requests+f.server.PartialRequests, uint64(max(3, 1+len(late))*tc.chunks), about)
			}
		})
	}
}

// TestLateJoinersAndLoss: the same where each client loses its own fiftieth of
// all datagrams. What chance does to a single run, a lost join for instance, is
// more than late joiners may; so the medians of some runs are compared.
func TestLateJoinersAndLoss(t *testing.T) {
	large.Test(t)
	t.Parallel()
	const chunks, seeds = 32, 5
	m := model{chunks: chunks, rate: 200e6, loss: 0.02}
	var alone time.Duration
	for _, parts := range [][]float64{nil, {0.2}, {0.8}, {0.1, 0.25, 0.5, 0.8}} {
		var took []time.Duration
		for seed := range uint64(seeds) {
			m.seed, m.nodes = seed, make([]node, 1)
			for _, part := range parts {
				m.nodes = append(m.nodes, node{start: time.Duration(part * float64(alone))})
			}
			r := m.run(t)
			took = append(took, r.took[0])
			if parts != nil {
				require.LessOrEqual(t, slices.Max(r.took), 2*alone)
			}
		}
		slices.Sort(took)
		if parts == nil {
			alone = took[seeds/2]
		}
		t.Logf("late %v: %v, %.3f of the time alone", parts, took, took[seeds/2].Seconds()/alone.Seconds())
		require.LessOrEqual(t, took[seeds/2], alone*110/100, "late %v", parts)
	}
}

// TestLittleIsMissing: who lacks nothing but what was sent long ago gets it while
// others are still being served.
func TestLittleIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunks = 48
		l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{}), image: image(9, chunks)}
		_, stop := l.serve(func(c *server.Config) { c.Rate, c.Fixed = 20e6, true })
		var first, late outcome
		var wg sync.WaitGroup
		wg.Go(func() {
			first = l.load(0, func(c *client.Config, _ *keeper) { c.InOrder = true })
		})
		wg.Go(func() {
			time.Sleep(2 * time.Second) // four chunks
			late = l.load(1, func(c *client.Config, _ *keeper) {
				c.Have = func(i int) bool { return i > 1 }
				c.StallTimeout = 10 * time.Second
			})
		})
		wg.Wait()
		require.ErrorIs(t, stop(), context.Canceled)
		l.complete(t, []outcome{first})
		require.NoError(t, late.err)
		require.Equal(t, map[int]bool{0: true, 1: true}, late.kept.got)
		// A chunk takes 0.46 s; each repeat comes after 16 others.
		require.Less(t, late.stats.Elapsed, 17*time.Second)
		require.Less(t, first.stats.Elapsed, 24*time.Second)
	})
}

// forgetful is a Conn that loses the first request of a kind after a while.
type forgetful struct {
	mcast.Conn
	kind  wire.Subtype
	after int // so many of them
}

func (f *forgetful) Send(ds [][]byte) error {
	if ds[0][4] == byte(f.kind) {
		if f.after--; f.after == -1 {
			return nil
		}
	}
	return f.Conn.Send(ds)
}

// TestLostRequest: that a request was lost shows when later ones are answered,
// also where the group is never idle because late joiners keep it busy.
func TestLostRequest(t *testing.T) {
	for _, kind := range []wire.Subtype{wire.Request, wire.PRequest} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const chunks = 24 // 1.1 s
				l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{}), image: image(9, chunks)}
				_, stop := l.serve(func(c *server.Config) { c.Rate, c.Fixed = 200e6, true })
				out := l.loadAll(2, 500*time.Millisecond, func(i int, c *client.Config, _ *keeper) {
					c.InOrder = true
					c.Have = func(k int) bool { return i == 1 && k >= 12 } // it asks for nothing the first one lacks
					if i == 0 {
						isBlock := func(d []byte) bool { return d[4] == byte(wire.Block) }
						c.Conn = mcast.WithFaults(&forgetful{c.Conn, kind, 16}, mcast.Faults{Loss: 0.002, Match: isBlock}, 3)
					}
				})
				require.ErrorIs(t, stop(), context.Canceled)
				l.complete(t, out[:1])
				require.NoError(t, out[1].err)
				require.Less(t, out[0].stats.Elapsed, 1300*time.Millisecond, "%+v", out[0].stats)
			})
		})
	}
}
