package server

import (
	"slices"

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
// queued already comes as it would have come.
func (p *plan) addRepeat(chunk int, want wire.Bitmap) (fresh bool) {
	queued := p.first.queued(chunk)
	want.AndNot(&queued)
	if want.Empty() {
		return false
	}
	return p.repeats.add(chunk, &want) && p.first.byChunk[chunk] == nil
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
	f, r := p.first.first(ready), p.repeats.first(ready)
	if len(p.repeats.tasks) == 0 {
		p.earned = 0 // nothing is saved up for who may come
	}
	switch {
	case f < 0 && r < 0:
		return 0, nil
	case f < 0:
		return p.repeats.take(r, n, dst)
	case r >= 0 && p.earned >= repeatCost*p.repeats.tasks[r].ahead():
		chunk, blocks = p.repeats.take(r, n, dst)
		p.earned -= repeatCost * len(blocks)
		return chunk, blocks
	}
	chunk, blocks = p.first.take(f, n, dst)
	p.earned = min(p.earned+len(blocks), repeatCost*wire.BlocksPerChunk)
	return chunk, blocks
}
