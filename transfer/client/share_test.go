package client_test

import (
	"bytes"
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
	image  *bytes.Reader
	seed   uint64
	loss   float64
	late   []float64     // when they join: what part of the image the first client has by then
	disk   time.Duration // what the first one needs for each chunk
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
		l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{Seed: r.seed, Loss: r.loss, Delay: 100 * time.Microsecond}), image: r.image}
		chunks := int(r.image.Size() / wire.ChunkSize)
		s, stop := l.serve(func(c *server.Config) { c.Rate = 200e6; c.Fixed = !r.adapts })
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
	const chunks = 48
	img := image(9, chunks)
	one := [][]float64{{0.1}, {0.3}, {0.5}, {0.9}}
	four := []float64{0.1, 0.25, 0.5, 0.8}
	for name, tc := range map[string]struct {
		race
		seeds uint64
		late  [][]float64
		waste float64 // images sent beyond one and what the last one missed
	}{
		"no loss": {race{}, 3, append(one, four), 3. / chunks},
		// Two workers do half of what the network brings; what they have no
		// room for must be sent again.
		"slow disk": {race{disk: 180 * time.Millisecond}, 1, [][]float64{{0.5}, four}, 0.9},
		"adapting":  {race{adapts: true}, 1, [][]float64{{0.5}, four}, 3. / chunks},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range tc.seeds {
				r := tc.race
				r.image, r.seed = img, seed
				alone := r.run(t).ends[0]
				for _, r.late = range tc.late {
					f := r.run(t)
					last := slices.Max(f.ends[1:])
					about := fmt.Sprintf("seed %d, late %v: the first took %.3f of the time alone, the last ended at %.3f, %.3f images were sent",
						seed, r.late, f.ends[0].Seconds()/alone.Seconds(), last.Seconds()/alone.Seconds(), f.sent)
					t.Log(about)
					require.LessOrEqual(t, f.ends[0], alone*110/100, about)
					require.LessOrEqual(t, last, f.ends[0]+alone, about)
					require.LessOrEqual(t, f.sent, 1+slices.Max(r.late)+tc.waste, about)
					require.Zero(t, f.server.Reductions, "late joiners are not losses")
				}
			}
		})
	}
}
