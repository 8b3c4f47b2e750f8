package server

import (
	"math"
	"slices"

	"loadnode/transfer/wire"
)

// task is what is still to be sent of one chunk.
type task struct {
	chunk  int
	want   wire.Bitmap
	cursor int // blocks below it were passed in this round; there is always one at or above it
	rank   uint64
	whole  bool // all of it was wanted when the sending began
}

// ahead counts the blocks still to come in this round.
func (t *task) ahead() int {
	m := wire.RangeBitmap(t.cursor, wire.BlocksPerChunk-t.cursor)
	m.And(&t.want)
	return m.Count()
}

// queue holds tasks in the order of their ranks, and of the first requests among
// equals, one for each chunk; what was begun is before all others. It
// is guarded by Server.mu; its size is bounded by the image's.
type queue struct {
	tasks   []*task
	byChunk map[int]*task
}

func newQueue() *queue { return &queue{byChunk: map[int]*task{}} }

// add merges blocks into what is queued for the chunk; fresh says that nothing was.
func (q *queue) add(chunk int, want *wire.Bitmap) (fresh bool) {
	return q.insert(chunk, want, 0)
}

// insert is add with a rank, which counts if nothing was queued, or if it is lower.
func (q *queue) insert(chunk int, want *wire.Bitmap, rank uint64) (fresh bool) {
	t := q.byChunk[chunk]
	switch {
	case t == nil:
		t = &task{chunk: chunk, rank: rank}
		q.byChunk[chunk] = t
		q.place(t)
		fresh = true
	case rank < t.rank && t.cursor == 0:
		q.tasks = slices.DeleteFunc(q.tasks, func(o *task) bool { return o == t })
		t.rank = rank
		q.place(t)
	}
	t.want.Or(want)
	return fresh
}

// place puts a task behind those of its rank.
func (q *queue) place(t *task) {
	i := len(q.tasks)
	for i > 0 && q.tasks[i-1].rank > t.rank && q.tasks[i-1].cursor == 0 {
		i--
	}
	q.tasks = slices.Insert(q.tasks, i, t)
}

// queued gives what waits to be sent of a chunk.
func (q *queue) queued(chunk int) wire.Bitmap {
	if t := q.byChunk[chunk]; t != nil {
		return t.want
	}
	return wire.Bitmap{}
}

// first gives the first task whose chunk is ready, -1 if there is none.
func (q *queue) first(ready func(chunk int) bool) int {
	return slices.IndexFunc(q.tasks, func(t *task) bool { return ready(t.chunk) })
}

// take removes up to n blocks of task i and gives their numbers. A chunk whose
// end was reached gives way to the others, even if its beginning was asked for
// again meanwhile: else a stream of late joiners could hold up everybody.
func (q *queue) take(i, n int, dst []int) (chunk int, blocks []int) {
	t := q.tasks[i]
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
			t.cursor, t.rank = 0, math.MaxUint64 // the same chunk again: after all others
			q.place(t)
		}
	} else if i > 0 {
		// Finish what was begun, whatever becomes ready meanwhile: clients
		// take a change of the chunk for the end of its sending.
		copy(q.tasks[1:i+1], q.tasks[:i])
		q.tasks[0] = t
	}
	return t.chunk, blocks
}

// remove forgets blocks of a chunk which are sent for another reason.
func (q *queue) remove(chunk int, blocks *wire.Bitmap) {
	t := q.byChunk[chunk]
	if t == nil {
		return
	}
	t.want.AndNot(blocks)
	switch {
	case t.want.Empty():
		delete(q.byChunk, chunk)
		q.tasks = slices.DeleteFunc(q.tasks, func(o *task) bool { return o == t })
	case t.want.Next(t.cursor) < 0:
		t.cursor = 0
	}
}
