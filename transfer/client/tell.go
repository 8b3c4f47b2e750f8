package client

import (
	"math"
	"net/netip"
	"time"

	"loadnode/transfer/wire"
)

const (
	// tellPause is the least time between two reports of how we fare.
	tellPause = 25 * time.Millisecond
	// catchUp is how long a report waits for an empty receive queue, as long as
	// no more than roomy of it is in use. A busy machine that lets us run a
	// moment late and then gives us the time to read everything says nothing of
	// the rate.
	catchUp = 50 * time.Millisecond
	roomy   = 0.25
)

// tell sends a server that asked for it reports of how we fare (REPORT): by
// them it finds the rate which its receivers bear. At first, and when trouble
// begins or ends, they come sooner than at other times; on average never more
// often than the server wants.
type tell struct {
	every  time.Duration // 0: not asked
	burst  float64
	tokens float64 // reports that may be sent now
	filled time.Time
	last   time.Time
	held   time.Time // since then a report waits for an empty receive queue
	queued float64   // the most of the receive queue that was in use since the last report
	early  uint32    // reports still to be sent soon after each other
	blocks uint64    // when the last report was sent, as are these
	noRoom uint64
	full   bool
}

// ask takes a server's question.
func (t *tell) ask(c *Client, a wire.Ask, now time.Time) {
	first := t.every == 0
	t.every = time.Duration(min(a.Every, 60_000)) * time.Millisecond
	t.burst = float64(min(a.Burst, 16))
	t.tokens = min(t.tokens, t.burst+1)
	t.early = min(t.early, a.Burst)
	if first && t.every > 0 {
		t.early = uint32(t.burst)
		t.tokens, t.filled = t.burst+1, now
		// Not all who heard the same question should answer at the same moment.
		t.last = now.Add(-time.Duration(c.rand.Int64N(int64(t.every))))
	}
}

// due sends a report when it is time. More says that the receive queue is not empty.
func (t *tell) due(c *Client, now time.Time, more bool) error {
	if t.every == 0 {
		return nil
	}
	queued := 0.0
	if more {
		queued = c.cfg.Conn.Backlog()
		t.queued = max(t.queued, queued)
	}
	if now.Sub(t.last) < tellPause {
		return nil
	}
	t.tokens = min(t.tokens+float64(now.Sub(t.filled))/float64(t.every), t.burst+1)
	t.filled = now
	full := c.room() == 0
	since := now.Sub(t.last)
	switch {
	case t.tokens < 1:
		return nil
	case t.early > 0 && c.now.Blocks != t.blocks:
	case since >= t.every/4 && (full != t.full || c.now.NoRoom != t.noRoom):
	case since >= t.every*5/4:
	default:
		return nil
	}
	if more {
		if t.held.IsZero() {
			t.held = now
		}
		if now.Sub(t.held) < catchUp && queued <= roomy {
			return nil
		}
	}
	t.held = time.Time{}
	t.early -= min(t.early, 1)
	t.tokens--
	t.last, t.blocks, t.noRoom, t.full = now, c.now.Blocks, c.now.NoRoom, full
	p := wire.Packet{Type: wire.TypeReply, Subtype: wire.Reports, Source: c.source, ClientID: c.id, Report: wire.Report{
		Clock: uint32(now.Sub(c.start) / time.Millisecond), Blocks: uint32(c.now.Blocks), NoRoom: uint32(c.now.NoRoom),
		Overruns: uint32(c.cfg.Conn.Overruns()), Retries: uint32(c.now.Retries),
		Received: uint32(c.now.Received), Done: uint32(c.now.Installed), Speed: c.speed.tell(now),
		Free: uint32(c.room()), Buffers: uint32(c.most), Backlog: uint32(1000 * t.queued), LastChunk: int32(c.current), LastBlock: int32(c.currentBlock)}}
	c.now.Reports++
	t.queued = 0
	return c.reply(&p)
}

// reply sends something to the server alone.
func (c *Client) reply(p *wire.Packet) error {
	if c.server == c.cfg.Conn.Addr().Addr() {
		return c.send(p) // one machine: unicast would come back to us
	}
	// Nobody behind the server's address is the stall timeout's business.
	_ = c.cfg.Conn.SendTo(netip.AddrPortFrom(c.server, c.cfg.Conn.Addr().Port()), p.Append(nil))
	return nil
}

// speed measures how fast chunks are installed while there are any to install.
type speed struct {
	out  int           // chunks with the workers
	busy time.Duration // of the workers, any of them, since the last report
	from time.Time     // they are busy, if out > 0
	done int           // since the last report
	mean float64       // chunks a second; 0: not known
}

func (s *speed) begin(now time.Time) {
	if s.out == 0 {
		s.from = now
	}
	s.out++
}

func (s *speed) end(now time.Time) {
	s.out--
	s.done++
	if s.out == 0 {
		s.busy += now.Sub(s.from)
	}
}

// tell gives the mean of the last reports, in chunks in 1000 s.
func (s *speed) tell(now time.Time) uint32 {
	if s.out > 0 {
		s.busy += now.Sub(s.from)
		s.from = now
	}
	if s.done > 0 {
		rate := float64(s.done) / max(s.busy, 10*time.Microsecond).Seconds()
		if s.mean == 0 {
			s.mean = rate
		}
		s.mean += (rate - s.mean) / 2
		s.done, s.busy = 0, 0
	}
	return uint32(min(s.mean*1000, math.MaxUint32))
}
