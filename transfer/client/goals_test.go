package client_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/client"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/mcast"
)

// TestOverdriving: with a cap far above what four receivers can take, the rate
// is found: hardly a block is sent twice, and the load takes hardly longer than
// the receivers need, which no fixed rate can undercut.
func TestOverdriving(t *testing.T) {
	large.Test(t)
	t.Parallel()
	for name, tc := range map[string]struct {
		node
		chunks int
		each   time.Duration // a receiver needs for a chunk at least
	}{
		"a disk of 105 MB/s":      {node{disk: 100}, 120, 10 * time.Millisecond},
		"a program of 1.1 Gbit/s": {node{host: mcast.Host{Each: 8 * time.Microsecond}}, 240, 1024 * 8 * time.Microsecond},
		"a link of 1 Gbit/s":      {node{host: onLink(1e9)}, 300, linkTime(1e9)},
		"a link of 100 Mbit/s":    {node{host: onLink(1e8)}, 40, linkTime(1e8)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := model{seed: 1, chunks: tc.chunks, rate: 10e9, nodes: clones(4, tc.node)}.run(t)
			least, took := time.Duration(tc.chunks)*tc.each, slices.Max(r.took)
			about := fmt.Sprintf("%v, of which %v are needed (%.3f); %.2f %% twice; rate at the end %d Mbit/s",
				took, least, took.Seconds()/least.Seconds(), 100*r.twice, r.server.Rate/1e6)
			t.Log(about)
			require.LessOrEqual(t, took, least*110/100+50*time.Millisecond, about) // they join meanwhile
			require.LessOrEqual(t, r.twice, 0.02, about)
		})
	}
}

// onLink is a host on a link behind a switch with little memory.
func onLink(rate int64) mcast.Host {
	return mcast.Host{Rate: rate, Port: 512 << 10, Coalesce: 50 * time.Microsecond}
}

// linkTime is how long a chunk occupies a link.
func linkTime(rate int64) time.Duration {
	return time.Duration(wireChunk / float64(rate) * float64(time.Second))
}

// TestOneIsWorse: one of four receivers is far worse than the others. They
// finish as they do without it, nearly, and it finishes after them.
func TestOneIsWorse(t *testing.T) {
	large.Test(t)
	t.Parallel()
	const chunks = 100
	for like, n := range map[string]node{"disks": {disk: 80, memory: 16 << 20}, "links": {host: onLink(1e9), memory: 16 << 20}} {
		for what, change := range map[string]func(*node){
			"a tenth of the disk": func(n *node) { n.disk = 8 },
			"20 % lost":           func(n *node) { n.host.Loss = 0.2 },
			"a tenth of the link": func(n *node) { n.host.Rate, n.host.Port = 1e8, 512<<10 },
		} {
			t.Run(like+", "+what, func(t *testing.T) {
				t.Parallel()
				m := model{seed: 1, chunks: chunks, nodes: clones(4, n)}
				change(&m.nodes[3])
				with := m.run(t)
				m.nodes = m.nodes[:3]
				without := slices.Max(m.run(t).took)
				others := slices.Max(with.took[:3])
				about := fmt.Sprintf("others %v, without it %v (%.3f); it %v, %.2f images sent", others, without, others.Seconds()/without.Seconds(), with.took[3], with.sent)
				t.Log(about)
				require.LessOrEqual(t, others, without*120/100, about)
				// What it takes by itself, and the others before it.
				require.LessOrEqual(t, with.took[3], 14*time.Second*chunks/80+others, about)
			})
		}
	}
}

// TestSkewedStarts: eighty receivers come within half a minute. Blocks are sent
// as if all had come with the last one, and nobody is slowed down by it.
func TestSkewedStarts(t *testing.T) {
	large.Test(t)
	t.Parallel()
	const chunks, nodes, span = 30, 80, 30 * time.Second
	alone := model{seed: 1, chunks: chunks, rate: 10e6, nodes: make([]node, 1)}.run(t).took[0]
	for name, start := range map[string]func(i int) time.Duration{
		"uniform":   func(i int) time.Duration { return time.Duration(i) * span / (nodes - 1) },
		"clustered": func(i int) time.Duration { return time.Duration(i/20) * span / 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := model{seed: 2, chunks: chunks, rate: 10e6, nodes: make([]node, nodes)}
			for i := range m.nodes {
				m.nodes[i].start = start(i)
			}
			r := m.run(t)
			worst := slices.Max(r.took).Seconds() / alone.Seconds()
			about := fmt.Sprintf("alone %v, the slowest took %.3f of it, the mean %.3f; %.3f images sent, %.3f of them before the last one came; %d+%d requests",
				alone, worst, r.mean().Seconds()/alone.Seconds(), r.sent, r.before, r.server.Requests, r.server.PartialRequests)
			t.Log(about)
			require.LessOrEqual(t, r.sent-r.before-1, 0.10, about)
			require.LessOrEqual(t, worst, 1.10, about)
		})
	}
}

// TestCarefulStart: the first megabytes are not lost to a slow link, and a fast
// one is found soon.
func TestCarefulStart(t *testing.T) {
	large.Test(t)
	t.Parallel()
	slow := model{seed: 1, chunks: 20, rate: 10e9, nodes: []node{{host: mcast.Host{Rate: 1e8, Port: 512 << 10}}}}.run(t)
	t.Logf("100 Mbit/s: %v, %.2f %% twice", slow.took[0], 100*slow.twice)
	require.LessOrEqual(t, slow.twice, 0.02)
	fast := model{seed: 1, chunks: 200, rate: 10e9, nodes: []node{{host: mcast.Host{Rate: 5e9, Port: 1 << 20}}}}.run(t)
	least := time.Duration(200 * wireChunk / 5e9 * float64(time.Second))
	t.Logf("5 Gbit/s: %v, at least %v are needed; %.2f %% twice", fast.took[0], least, 100*fast.twice)
	require.LessOrEqual(t, fast.took[0], least+300*time.Millisecond)
}

// wireChunk is what a chunk takes on Ethernet, bits.
const wireChunk = 1024 * 1114 * 8.0

// TestReportsAreFew: no more than four a second from each client in the long
// run, and no more than two hundred a second from all.
func TestReportsAreFew(t *testing.T) {
	large.Test(t)
	t.Parallel()
	for _, n := range []int{1, 80} {
		r := model{seed: 1, chunks: 6, rate: 10e6, nodes: clones(n, node{})}.run(t)
		seconds := slices.Max(r.took).Seconds()
		t.Logf("%d clients: %d reports in %.1f s", n, r.server.Told, seconds)
		require.NotZero(t, r.server.Told)
		require.LessOrEqual(t, float64(r.server.Told), min(4*float64(n), 200)*seconds+float64(min(n, 8)*12))
	}
	r := model{seed: 1, chunks: 4, nodes: clones(2, node{legacy: true})}.run(t)
	require.Zero(t, r.server.Told, "who is not asked does not report")
}

// TestMemoryIsBounded: at any rate a client takes no more buffers than it may.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, client.DefaultMemory, 96<<20, "and what the installer takes, below 128 MB")
	r := model{seed: 1, chunks: 40, rate: 10e9, fixed: true, nodes: clones(2, node{disk: 40, memory: 8 << 20})}.run(t)
	for _, st := range r.stats {
		require.Equal(t, 40, st.Installed)
	}
}
