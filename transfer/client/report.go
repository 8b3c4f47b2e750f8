package client

import (
	"time"

	"loadnode/transfer/wire"
)

// report answers a server's questions for progress (PROGRESS, §3).
type report struct {
	what  uint16
	seq   uint16
	every time.Duration // 0: not asked to repeat
	next  time.Time
}

// ask takes a question: once now, or every so many seconds.
func (r *report) ask(c *Client, p *wire.Packet, now time.Time) error {
	r.what = p.What & (wire.ProgressSummary | wire.ProgressStats)
	r.seq = p.Seq
	r.every = time.Duration(min(p.When, 24*60*60)) * time.Second
	r.next = now.Add(r.every)
	if r.every == 0 {
		return r.send(c, now)
	}
	return nil
}

// due sends the repeated report when it is time.
func (r *report) due(c *Client, now time.Time) error {
	if r.every == 0 || now.Before(r.next) {
		return nil
	}
	r.next = now.Add(r.every)
	return r.send(c, now)
}

func (r *report) send(c *Client, now time.Time) error {
	p := wire.Packet{Type: wire.TypeReply, Subtype: wire.Progress, Source: c.source, ClientID: c.id, Who: c.source,
		When: uint32(now.Unix()), What: r.what, Seq: r.seq,
		ChunksReceived: uint32(c.now.Received), ChunksDecompressed: uint32(c.now.Installed)}
	if c.cfg.Written != nil {
		p.BytesWritten, _ = c.cfg.Written()
	}
	if r.what&wire.ProgressStats != 0 {
		p.Stats = c.wireStats(now.Sub(c.start))
	}
	r.seq++ // clients count their answers, from the number of the question on
	return c.reply(&p)
}
