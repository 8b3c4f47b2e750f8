package server

import (
	"time"

	"loadnode/transfer/wire"
)

// task is what is still to be sent of one chunk.
type task struct {
	chunk  int
	want   wire.Bitmap
	cursor int // blocks below it were passed in this round
}

// queue is what is to be sent, in the order of the first requests, one task for
// each chunk. It is guarded by Server.mu; its size is bounded by the image's.
type queue struct {
	tasks   []*task
	byChunk map[int]*task
}

func newQueue() *queue { return &queue{byChunk: map[int]*task{}} }

// add merges blocks into what is queued for the chunk; fresh says that nothing was.
func (q *queue) add(chunk int, want *wire.Bitmap) (fresh bool) {
	t := q.byChunk[chunk]
	if t == nil {
		t = &task{chunk: chunk}
		q.byChunk[chunk] = t
		q.tasks = append(q.tasks, t)
		fresh = true
	}
	t.want.Or(want)
	return fresh
}

// upcoming lists the next n chunks.
func (q *queue) upcoming(n int, dst []int) []int {
	dst = dst[:0]
	for _, t := range q.tasks[:min(n, len(q.tasks))] {
		dst = append(dst, t.chunk)
	}
	return dst
}

// take removes up to n blocks of the first chunk for which ready says true and
// gives their numbers. A chunk whose end was reached gives way to the others,
// even if its beginning was asked for again meanwhile: else a stream of late
// joiners could hold up everybody.
func (q *queue) take(n int, ready func(chunk int) bool, dst []int) (chunk int, blocks []int) {
	for i, t := range q.tasks {
		if !ready(t.chunk) {
			continue
		}
		blocks = dst[:0]
		for b := t.want.Next(t.cursor); b >= 0 && len(blocks) < n; b = t.want.Next(b + 1) {
			blocks = append(blocks, b)
			t.want.Clear(b)
			t.cursor = b + 1
		}
		if t.want.Next(t.cursor) < 0 {
			q.tasks = append(q.tasks[:i], q.tasks[i+1:]...)
			if t.want.Empty() {
				delete(q.byChunk, t.chunk)
			} else {
				t.cursor = 0
				q.tasks = append(q.tasks, t)
			}
		} else if i > 0 {
			// Finish what was begun, whatever becomes ready meanwhile: clients
			// take a change of the chunk for the end of its sending.
			copy(q.tasks[1:i+1], q.tasks[:i])
			q.tasks[0] = t
		}
		return t.chunk, blocks
	}
	return 0, nil
}

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
