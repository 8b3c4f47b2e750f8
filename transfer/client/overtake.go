package client

import (
	"math"
	"time"
)

// Requests get lost like everything else, and then nothing comes for them. An
// idle group shows that at once, but where others' blocks keep coming it would
// take a second or more. Servers answer in the order in which they were asked,
// so a request whose answer was overtaken by that to a later one is doubted:
// it is made again, once, after a moment in which another client may do so. If
// it was only waiting, as repeats for late joiners do, the server merges it.

// doubted is the turn of a request that was made again for being overtaken. How
// it stands to the others is unknown; only the redo time applies to it.
const doubted = math.MaxUint32

// sighted notes a request by anybody for chunk i, for what we need of it or,
// if we need nothing, for anything.
func (c *Client) sighted(i int) {
	ch := &c.chunks[i]
	if ch.turn == 0 {
		c.turns++
		ch.turn = c.turns
	}
	if !ch.doubtAt.IsZero() {
		ch.turn, ch.doubtAt = doubted, time.Time{}
	}
}

// answered notes that blocks of chunk i are coming, and doubts what was asked
// for before it and is not.
func (c *Client) answered(i int, now time.Time) {
	turn := c.chunks[i].turn
	if turn == 0 {
		return
	}
	c.chunks[i].turn, c.chunks[i].doubtAt = 0, time.Time{}
	if turn == doubted {
		return
	}
	doubt := func(i int) {
		ch := &c.chunks[i]
		if ch.turn != 0 && ch.turn < turn && ch.doubtAt.IsZero() {
			ch.doubtAt = now.Add(repairAfter + time.Duration(c.rand.Int64N(int64(repairSpread))))
		}
	}
	for _, k := range c.asked {
		doubt(k)
	}
	for _, f := range c.fills {
		doubt(f.index)
	}
}

// overtaken says that the request for a chunk is to be made again now.
func (ch *chunk) overtaken(now time.Time) bool {
	return !ch.doubtAt.IsZero() && !now.Before(ch.doubtAt)
}
