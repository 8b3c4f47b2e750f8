package server

import (
	"math/bits"
	"time"

	"loadnode/transfer/wire"
)

// recent remembers what was sent lately and when, block by block.
type recent struct {
	ring   []sentRun
	next   int
	blocks uint64 // sent so far
	begins int    // how often another chunk began
	chunk  int    // of the last run
}

type sentRun struct {
	chunk  int
	blocks wire.Bitmap
	at     time.Time
	before uint64 // blocks sent before this run
	begins int    // chunks begun up to and with this run
}

// recentRuns bounds the memory: at 64 blocks a run, 100 ms are covered up to 20 Gbit/s.
const recentRuns = 4096

// wholeRun is how many blocks of a chunk a run has at least when its sending
// begins; repairs mostly have fewer.
const wholeRun = 4

func newRecent() *recent { return &recent{ring: make([]sentRun, 0, 64), chunk: -1} }

func (r *recent) add(chunk int, blocks []int, at time.Time) {
	if chunk != r.chunk && len(blocks) >= wholeRun && blocks[len(blocks)-1]-blocks[0] == len(blocks)-1 {
		r.begins++
	}
	r.chunk = chunk
	run := sentRun{chunk: chunk, at: at, before: r.blocks, begins: r.begins}
	r.blocks += uint64(len(blocks))
	for _, b := range blocks {
		run.blocks.Set(b)
	}
	if len(r.ring) < recentRuns {
		r.ring = append(r.ring, run)
		return
	}
	r.ring[r.next] = run
	r.next = (r.next + 1) % recentRuns
}

// since gives the blocks of a chunk that were sent after t.
func (r *recent) since(chunk int, t time.Time) wire.Bitmap {
	var m wire.Bitmap
	n := len(r.ring)
	for k := 1; k <= n; k++ {
		run := &r.ring[(r.next-k+n)%n]
		if !run.at.After(t) {
			break
		}
		if run.chunk == chunk {
			m.Or(&run.blocks)
		}
	}
	return m
}

// place is where in the stream of blocks a receiver is.
type place struct {
	seq    uint64    // blocks sent up to the last one it saw
	at     time.Time // that was sent
	unseen time.Time // the one after it was sent; zero if there is none
	begins int       // chunks begun by then
}

// find gives the place of a receiver by the last block it saw; ok is false when
// that was sent too long ago, or never.
func (r *recent) find(chunk, block int) (p place, ok bool) {
	n := len(r.ring)
	var after time.Time
	for k := 1; k <= n; k++ {
		run := &r.ring[(r.next-k+n)%n]
		if run.chunk == chunk && run.blocks.Has(block) {
			upTo := upTo(&run.blocks, block)
			if upTo < run.blocks.Count() {
				after = run.at
			}
			return place{run.before + uint64(upTo), run.at, after, run.begins}, true
		}
		after = run.at
	}
	return place{}, false
}

// upTo counts the blocks of a set that are not above b.
func upTo(m *wire.Bitmap, b int) (n int) {
	for i := range b / 8 {
		n += bits.OnesCount8(m[i])
	}
	return n + bits.OnesCount8(m[b/8]<<(7-b%8))
}
