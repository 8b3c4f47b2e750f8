package server

import (
	"time"

	"loadnode/transfer/wire"
)

// recent remembers what was sent lately and when, block by block.
type recent struct {
	ring []sentRun
	next int
}

type sentRun struct {
	chunk  int
	blocks wire.Bitmap
	at     time.Time
}

// recentRuns bounds the memory: at 64 blocks a run, 100 ms are covered up to 20 Gbit/s.
const recentRuns = 4096

func newRecent() *recent { return &recent{ring: make([]sentRun, 0, 64)} }

func (r *recent) add(chunk int, blocks []int, at time.Time) {
	run := sentRun{chunk: chunk, at: at}
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
