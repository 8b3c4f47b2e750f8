package server

import (
	"slices"
	"time"

	"loadnode/transfer/wire"
)

// repeatCost is how many blocks are sent for the first time, or to repair a
// loss, for each block that is repeated for a late joiner, while both wait: late
// joiners take one part in repeatCost+1 of the rate, about 6 %, from those who
// were there before. What is left of 10 % is for the ends of transfers.
const repeatCost = 16

// plan decides what is sent next. What nobody was sent yet, and repairs of what
// its asker was there for and lost, come first: everybody can use the former,
// and the latter hold up a transfer that is under way. Repeats, which only those
// want who came after them, get a small share so that nobody starves, and all
// of the rate when nothing else can be sent. Whoever waits for a repeat receives
// the new blocks meanwhile, so it loses nothing by waiting.
//
// The share is paid with whole tasks: a repeat waits until the sending of new
// blocks has earned all of it, and is then sent in one piece, since clients take
// a change of the chunk for the end of its sending. A repeat that began because
// nothing else was there gives way at once when something is; it finishes when
// the rest of it is earned.
//
// No block is in both queues. A plan is guarded by Server.mu.
type plan struct {
	first   *queue
	repeats *queue
	earned  int // blocks sent from first, less what repeats were paid with
	// gate says whether a chunk may be sent for the first time now; nil: always.
	gate func(chunk int) bool
	// stamps tell, by chunk, in which order they were last sent; 0: never.
	stamps []uint64
	clock  uint64
	// since is when each chunk was last sent as a whole. lacked says
	// whether somebody who can take it came after that; nil: nobody did.
	since  []time.Time
	lacked func(chunk int, since time.Time) bool
	begun  int // chunks with a stamp
}

func newPlan() *plan { return &plan{first: newQueue(), repeats: newQueue()} }

// addFirst queues blocks to be sent as soon as possible; fresh says that nothing
// of the chunk was queued.
func (p *plan) addFirst(chunk int, want *wire.Bitmap) (fresh bool) {
	waits := p.repeats.byChunk[chunk] != nil
	p.repeats.remove(chunk, want)
	return p.first.add(chunk, want) && !waits
}

// addRepeat queues blocks which were sent before their asker came. What is
// queued already comes as it would have come. What was sent longest ago is first:
// most of those who came late lack it, and so each has what it lacks after one
// round, whenever it came. A repair goes before all of these.
func (p *plan) addRepeat(chunk int, want wire.Bitmap, repair bool) (fresh bool) {
	queued := p.first.queued(chunk)
	want.AndNot(&queued)
	if want.Empty() {
		return false
	}
	rank := uint64(0)
	if !repair && chunk < len(p.stamps) {
		rank = p.stamps[chunk]
	}
	return p.repeats.insert(chunk, &want, rank) && p.first.byChunk[chunk] == nil
}

// size counts the tasks.
func (p *plan) size() int { return len(p.first.tasks) + len(p.repeats.tasks) }

// upcoming lists the next n chunks: the next one of each queue in front, because
// either may be taken.
func (p *plan) upcoming(n int, dst []int) []int {
	dst = dst[:0]
	add := func(ts []*task) {
		for _, t := range ts {
			if len(dst) >= n {
				return
			}
			if !slices.Contains(dst, t.chunk) {
				dst = append(dst, t.chunk)
			}
		}
	}
	f, r := p.first.tasks, p.repeats.tasks
	add(f[:min(1, len(f))])
	add(r[:min(1, len(r))])
	add(f)
	add(r)
	return dst
}

// take removes up to n blocks of the next chunk for which ready says true and
// gives their numbers.
func (p *plan) take(n int, ready func(chunk int) bool, dst []int) (chunk int, blocks []int) {
	f, r := p.first.first(func(c int) bool { return ready(c) && (p.gate == nil || p.gate(c)) }), p.repeats.first(ready)
	if len(p.repeats.tasks) == 0 {
		p.earned = 0 // nothing is saved up for who may come
	}
	switch {
	case f < 0 && r < 0:
		return 0, nil
	case f < 0:
		return p.takeFrom(p.repeats, r, n, dst)
	case r >= 0 && p.earned >= repeatCost*p.repeats.tasks[r].ahead():
		chunk, blocks = p.takeFrom(p.repeats, r, n, dst)
		p.earned -= repeatCost * len(blocks)
		return chunk, blocks
	}
	chunk, blocks = p.takeFrom(p.first, f, n, dst)
	p.earned = min(p.earned+len(blocks), repeatCost*wire.BlocksPerChunk)
	return chunk, blocks
}

// takeFrom takes blocks and notes when the sending of a whole chunk begins. Parts
// do not count: those who lack all of it have waited no less for it.
func (p *plan) takeFrom(q *queue, i, n int, dst []int) (chunk int, blocks []int) {
	t := q.tasks[i]
	if t.cursor > 0 {
		if t.whole {
			p.since[t.chunk] = time.Now()
		}
		return q.take(i, n, dst)
	}
	for len(p.stamps) <= t.chunk {
		p.stamps, p.since = append(p.stamps, 0), append(p.since, time.Time{})
	}
	if q == p.repeats && p.stamps[t.chunk] > 0 && p.lacked != nil && p.lacked(t.chunk, p.since[t.chunk]) {
		// The rest of it will be asked for anyhow, perhaps when this part is over.
		rest := wire.FullBitmap()
		sooner := p.first.queued(t.chunk)
		rest.AndNot(&sooner)
		t.want.Or(&rest)
	}
	if t.whole = t.want.Count() > wire.BlocksPerChunk*7/8; t.whole {
		if p.stamps[t.chunk] == 0 {
			p.begun++
		}
		p.clock++
		p.stamps[t.chunk], p.since[t.chunk] = p.clock, time.Now()
	}
	return q.take(i, n, dst)
}
