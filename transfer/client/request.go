package client

import (
	"time"

	"loadnode/transfer/wire"
)

const (
	// tick is how often a client looks around when nothing comes (§5).
	tick = 30 * time.Millisecond
	// firstAsk is when a client asks for the first time after joining.
	firstAsk = 10 * time.Millisecond
	// idleAfter is how long nothing may come before everything is asked for
	// again; each time in vain it grows by a tick, up to maxBackoff of them.
	idleAfter  = 3 * tick
	maxBackoff = 33
	// redoAfter is how long a request may stay unanswered while other things
	// come. To it is added what the chunks on order take at the present pace:
	// a fixed time is wrong for slow servers (§12).
	redoAfter = time.Second
	// repairRedo is the same for no more than fewMissing blocks of a chunk, which
	// servers send before other things; it doubles each time in vain.
	repairRedo = 250 * time.Millisecond
	fewMissing = wire.BlocksPerChunk / 4
	// rejoinAfter is how long nothing may come before we join again, and how
	// often while nothing does: a restarted server shall know us, and we want
	// to know that its image still has the same size.
	rejoinAfter = time.Second
	// saturated is how long a client whose receive queue never empties goes
	// without asking. What is in the queue may be what it would ask for.
	saturated = 500 * time.Millisecond
	// The mean gap between blocks remembers some gapMemory blocks; a gap longer
	// than longestGap is a pause and counts as that.
	gapMemory  = 256
	longestGap = 200 * time.Millisecond
)

// pace decides, after each round of receiving, what there is to ask for. A
// full batch means that more is waiting.
func (c *Client) pace(now time.Time, full bool) error {
	if err := c.report.due(c, now); err != nil {
		return err
	}
	if err := c.tell.due(c, now, full); err != nil {
		return err
	}
	wants := len(c.fills) > 0 || c.room() > 0 && len(c.todo) > 0
	if !wants {
		// Everything is with the installer: nothing to ask, nothing to miss.
		c.lastNew, c.lastHeard = now, now
		return nil
	}
	if c.cfg.StallTimeout > 0 && now.Sub(c.lastNew) >= c.cfg.StallTimeout {
		return c.stalled(now)
	}
	if err := c.rejoin(now); err != nil {
		return err
	}
	wait := max(idleAfter, min(4*c.gap, 4*longestGap)) + time.Duration(c.backoff)*tick
	if now.Sub(c.lastHeard) >= wait {
		if c.now.Requests > 0 {
			c.now.Idle++
			c.backoff = min(c.backoff+1, maxBackoff)
		}
		c.lastHeard = now
		return c.ask(now, true)
	}
	if c.now.Requests == 0 && c.now.Blocks == 0 {
		return nil // not yet: the first request waits for its random moment
	}
	if full && now.Sub(c.lastAsk) < saturated {
		return nil
	}
	return c.ask(now, false)
}

// rejoin joins again after an outage, until that is answered: also, and then
// more often, when blocks come again first.
func (c *Client) rejoin(now time.Time) error {
	every := joinEvery
	if now.Sub(c.lastBlock) >= rejoinAfter {
		c.outage, every = true, rejoinAfter
	}
	if !c.outage || now.Sub(c.lastJoin) < every {
		return nil
	}
	return c.sendJoin()
}

// ask sends the requests that are due; idle says that nothing came for a while
// and that therefore everything is.
func (c *Client) ask(now time.Time, idle bool) error {
	c.lastAsk = now
	// What somebody asked for and has not begun to come.
	redo := redoAfter + 2*c.gap*time.Duration(wire.BlocksPerChunk*(len(c.asked)+len(c.fills)))
	ordered := c.asked[:0]
	for _, i := range c.asked {
		ch := &c.chunks[i]
		switch {
		case ch.state != lacking:
		case idle || now.Sub(ch.asked) >= redo || ch.overtaken(now):
			ch.asked = time.Time{}
		default:
			ordered = append(ordered, i)
		}
	}
	c.asked = ordered

	for _, f := range c.fills {
		ch := &c.chunks[f.index]
		passed := !f.repairAt.IsZero() && !now.Before(f.repairAt)
		again := redo
		if f.lack < fewMissing {
			again = min(redo, (repairRedo+2*c.gap*wire.BlocksPerChunk)<<min(f.tries, 4))
		}
		if !idle && !passed && !ch.overtaken(now) && now.Sub(ch.asked) < again {
			continue
		}
		f.repairAt = time.Time{}
		f.tries++
		c.now.Lost += uint64(f.missing.Count())
		if err := c.partial(f.index, &f.missing, now); err != nil {
			return err
		}
	}
	return c.order(now)
}

// order asks for new chunks: as many as have room beside those already on order,
// by whomever, since these come too.
func (c *Client) order(now time.Time) error {
	kept := c.kept[:0]
	at := 0
	// What is missing of chunks that have come is on order too, but waiting for
	// repairs of many chunks must not keep us from asking for others.
	lack := wire.BlocksPerChunk - 1
	for _, f := range c.fills {
		lack += f.lack
	}
	var err error
	for at < len(c.todo) && err == nil && len(c.asked)+lack/wire.BlocksPerChunk < c.cfg.ReadAhead && c.room() > len(c.asked) {
		i := c.todo[at]
		at++
		ch := &c.chunks[i]
		if ch.state != lacking {
			continue // never again, unless it turns out damaged
		}
		kept = append(kept, i)
		if ch.asked.IsZero() {
			err = c.whole(i, now)
		}
	}
	c.kept = kept
	c.todo = c.todo[at-len(kept):]
	copy(c.todo, kept)
	return err
}

// whole asks for a chunk. Legacy servers of the OMF era know no other way the
// first time; a repetition says that it is one.
func (c *Client) whole(i int, now time.Time) error {
	c.placed = true
	if c.chunks[i].ours {
		all := wire.FullBitmap()
		c.noteAsked(i, now)
		return c.partial(i, &all, now)
	}
	c.noteAsked(i, now)
	c.chunks[i].ours = true
	c.now.Requests++
	return c.send(&wire.Packet{Type: wire.TypeRequest, Subtype: wire.Request, Chunk: int32(i), Count: wire.BlocksPerChunk})
}

// partial asks for some blocks of a chunk.
func (c *Client) partial(i int, want *wire.Bitmap, now time.Time) error {
	ch := &c.chunks[i]
	p := wire.Packet{Type: wire.TypeRequest, Subtype: wire.PRequest, Chunk: int32(i), Wanted: *want}
	if ch.ours {
		p.Retries = 1
	}
	ch.asked, ch.ours = now, true
	c.sighted(i)
	c.now.Retries++
	return c.send(&p)
}
