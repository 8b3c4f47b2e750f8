package client

import (
	"slices"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// state of a chunk.
type state uint8

const (
	lacking   state = iota // no block of it is here
	filling                // some are
	complete               // with the installer
	installed              // done
)

// chunk is what the client knows of one chunk.
type chunk struct {
	state state
	ours  bool      // we have asked for it, so a next request is a repeated one
	bad   uint8     // how often it arrived damaged
	asked time.Time // last request by anybody, or block, seen
	fill  *fill     // while filling
	// turn is the place of the first unanswered request for it among all, 0 if
	// there is none, and doubtAt when to make it again; zero if that is no question.
	turn    uint32
	doubtAt time.Time
}

// fill is a chunk that is arriving.
type fill struct {
	index   int
	buf     []byte
	missing wire.Bitmap
	lack    int   // blocks missing
	tries   uint8 // how often they were asked for since the last came
	// repairAt is when to ask for what is missing, set when the server went on
	// to another chunk; zero otherwise.
	repairAt time.Time
}

const (
	// repairAfter is how long blocks may be late (reordering; and our server
	// does not send again what it sent 60 ms ago), repairSpread the random
	// addition by which one client's repair request comes before the others',
	// which then keep theirs.
	repairAfter  = 60 * time.Millisecond
	repairSpread = 40 * time.Millisecond
)

// handle takes one datagram.
func (c *Client) handle(p *wire.Packet, d mcast.Datagram, now time.Time) error {
	if p.Decode(d.Data) != nil || p.SourceAddr() != d.From.Addr() {
		c.now.Bad++
		return nil
	}
	if !p.ForClient() {
		return nil
	}
	switch p.Subtype {
	case wire.Block:
		c.block(p, d, now)
	case wire.Request:
		want := wire.RangeBitmap(int(p.Block), int(p.Count))
		c.overhear(int(p.Chunk), &want, now)
	case wire.PRequest:
		c.overhear(int(p.Chunk), &p.Wanted, now)
	case wire.Join:
		// A restarted server, or the answer to somebody else: the size must not have changed.
		if d.From.Addr() == c.server {
			c.outage = false
			_, err := c.checkSize(p.Blocks)
			return err
		}
	case wire.Progress:
		if d.From.Addr() == c.server && (p.ClientID == 0 || p.ClientID == c.id) {
			return c.report.ask(c, p, now)
		}
	case wire.Reports:
		if d.From.Addr() == c.server && (p.ClientID == 0 || p.ClientID == c.id) {
			c.tell.ask(c, p.Ask, now)
		}
	}
	return nil
}

// block takes a BLOCK.
func (c *Client) block(p *wire.Packet, d mcast.Datagram, now time.Time) {
	if d.From.Addr() != c.server {
		c.now.Foreign++
		return
	}
	i := int(p.Chunk)
	if i >= len(c.chunks) {
		c.now.Bad++
		return
	}
	c.now.Blocks++
	c.gap += (min(now.Sub(c.lastBlock), longestGap) - c.gap) / gapMemory
	c.lastBlock, c.lastHeard = now, now
	c.backoff = 0
	if i != c.current {
		c.passed(c.current, now)
		c.current = i
	}
	c.currentBlock = int(p.Block)
	c.place(i)
	c.answered(i, now)
	ch := &c.chunks[i]
	switch ch.state {
	case complete, installed:
		c.now.Duplicates++
		return
	case lacking:
		buf := c.buffer()
		if buf == nil {
			c.now.NoRoom++
			c.noteAsked(i, now)
			ch.turn = 0    // this was the answer
			ch.ours = true // what we ask for later is a repetition
			return
		}
		ch.state = filling
		ch.fill = &fill{index: i, buf: buf, missing: wire.FullBitmap(), lack: wire.BlocksPerChunk}
		c.fills = append(c.fills, ch.fill)
	}
	f := ch.fill
	ch.asked, f.repairAt = now, time.Time{}
	b := int(p.Block)
	if !f.missing.Has(b) {
		c.now.Duplicates++
		return
	}
	f.missing.Clear(b)
	f.lack--
	f.tries = 0
	copy(f.buf[b*c.size/wire.BlocksPerChunk:], p.Data)
	c.lastNew = now
	if f.lack == 0 {
		c.finish(ch, now)
	}
}

// place begins the order of asking with chunk i, by which the group is seen for
// the first time.
func (c *Client) place(i int) {
	if c.placed {
		return
	}
	c.placed = true
	k, _ := slices.BinarySearch(c.todo, i)
	c.todo = append(slices.Clone(c.todo[k:]), c.todo[:k]...)
}

// passed notes that the server went on from chunk i to another: what is
// missing of it now will not come by itself.
func (c *Client) passed(i int, now time.Time) {
	if i < 0 || c.chunks[i].state != filling {
		return
	}
	c.chunks[i].fill.repairAt = now.Add(repairAfter + time.Duration(c.rand.Int64N(int64(repairSpread))))
}

// finish hands a complete chunk to the workers.
func (c *Client) finish(ch *chunk, now time.Time) {
	f := ch.fill
	for k, o := range c.fills {
		if o == f {
			c.fills = append(c.fills[:k], c.fills[k+1:]...)
			break
		}
	}
	ch.state, ch.fill = complete, nil
	c.now.Received++
	c.speed.begin(now)
	c.jobs <- job{f.index, f.buf} // never waits: there are as many places as buffers
}

// buffer gives memory for a chunk, nil if all is in use.
func (c *Client) buffer() []byte {
	if n := len(c.free); n > 0 {
		b := c.free[n-1]
		c.free = c.free[:n-1]
		return b
	}
	if c.buffers == c.most {
		return nil
	}
	c.buffers++
	return make([]byte, c.size)
}

// room is how many more chunks can begin to arrive.
func (c *Client) room() int { return len(c.free) + c.most - c.buffers }

// overhear takes a request, perhaps our own: what somebody asked for will come.
func (c *Client) overhear(i int, want *wire.Bitmap, now time.Time) {
	if i >= len(c.chunks) {
		return
	}
	ch := &c.chunks[i]
	switch ch.state {
	case lacking:
		if want.Empty() {
			return
		}
		c.place(i)
		if want.Count() == wire.BlocksPerChunk {
			c.noteAsked(i, now)
		}
		// A part will come and be kept. That we want all of it must be known
		// before it does, or the rest will have to wait for the next round.
	case filling:
		if !want.Covers(&ch.fill.missing) {
			return
		}
		if want.Count() < wire.BlocksPerChunk {
			// A repair, which serves us as well. A request for the whole chunk
			// is a late joiner's; the server may let it wait, we do not.
			ch.asked, ch.fill.repairAt = now, time.Time{}
			c.sighted(i)
		}
	default:
		c.sighted(i)
		return
	}
	c.lastHeard = now
}

// noteAsked remembers that somebody has just asked for a chunk we lack.
func (c *Client) noteAsked(i int, now time.Time) {
	ch := &c.chunks[i]
	if ch.asked.IsZero() {
		c.asked = append(c.asked, i)
	}
	ch.asked = now
	c.sighted(i)
}
