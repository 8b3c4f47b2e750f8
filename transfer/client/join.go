package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// joinEvery is how often a join is repeated until it is answered (§5).
const joinEvery = 500 * time.Millisecond

// join asks for the size of the image until somebody answers, and gives the
// number of chunks.
func (c *Client) join(ctx context.Context) (int, error) {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	var p wire.Packet
	for {
		if err := c.sendJoin(); err != nil {
			return 0, err
		}
		again := c.lastJoin.Add(joinEvery)
		if c.cfg.JoinTimeout > 0 && again.After(c.start.Add(c.cfg.JoinTimeout)) {
			again = c.start.Add(c.cfg.JoinTimeout)
		}
		for {
			if err := c.cfg.Conn.SetReadDeadline(again); err != nil {
				return 0, err
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			n, err := c.cfg.Conn.Receive(ds)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if time.Now().Before(again) {
					continue // woken; the loop sees why
				}
				break
			}
			if err != nil {
				return 0, fmt.Errorf("receive from %v: %w", c.cfg.Conn.Group(), err)
			}
			for i, d := range ds[:n] {
				if !c.answersJoin(&p, d) {
					continue
				}
				c.server = d.From.Addr()
				chunks, err := c.checkSize(p.Blocks)
				if err != nil {
					return 0, err
				}
				c.now.Joined, c.now.Server, c.now.Chunks = true, c.server, chunks
				return chunks, c.askedWithJoin(&p, ds[i+1:n])
			}
		}
		c.publish()
		if c.cfg.JoinTimeout > 0 && time.Since(c.start) >= c.cfg.JoinTimeout {
			return 0, c.noServer()
		}
	}
}

func (c *Client) sendJoin() error {
	c.now.Joins++
	c.lastJoin = time.Now()
	return c.send(&wire.Packet{Type: wire.TypeRequest, Subtype: wire.Join, ClientID: c.id})
}

// answersJoin says whether d is an answer, of the right server if one is
// configured, and leaves it in p. An answer to somebody else will do (§3).
func (c *Client) answersJoin(p *wire.Packet, d mcast.Datagram) bool {
	if p.Decode(d.Data) != nil || p.SourceAddr() != d.From.Addr() {
		c.now.Bad++
		return false
	}
	if p.Subtype != wire.Join || !p.ForClient() {
		return false
	}
	return !c.cfg.Server.IsValid() || c.cfg.Server == d.From.Addr()
}

// askedWithJoin looks in what came together with the answer for questions for
// progress and reports, which servers send just behind it. Blocks are of no use yet.
func (c *Client) askedWithJoin(p *wire.Packet, ds []mcast.Datagram) error {
	for _, d := range ds {
		if p.Decode(d.Data) != nil || p.Subtype != wire.Progress && p.Subtype != wire.Reports || !p.ForClient() {
			continue
		}
		if err := c.handle(p, d, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// checkSize gives the number of chunks a number of blocks makes.
func (c *Client) checkSize(blocks uint32) (int, error) {
	chunks := int(blocks / wire.BlocksPerChunk)
	want := c.cfg.Chunks
	if c.now.Joined {
		want = c.now.Chunks
	}
	switch {
	case blocks == 0 || blocks%wire.BlocksPerChunk != 0:
		return 0, fmt.Errorf("%w: %v serves %d blocks of %d bytes, not a whole number of %d-byte chunks", ErrSize, c.server, blocks, wire.BlockSize, wire.ChunkSize)
	case c.now.Joined && chunks != want:
		return 0, fmt.Errorf("%w: %v now serves %d chunks, it served %d when we joined: the image was exchanged", ErrSize, c.server, chunks, want)
	case want != 0 && chunks != want:
		return 0, fmt.Errorf("%w: %v serves %d chunks, expected are %d: it is another image", ErrSize, c.server, chunks, want)
	case chunks > maxChunks:
		return 0, fmt.Errorf("%w: %v serves %d chunks, at most %d are possible", ErrSize, c.server, chunks, maxChunks)
	}
	return chunks, nil
}

// maxChunks bounds the memory of a client which takes the server's word: 2 TiB of image.
const maxChunks = 1 << 21

func (c *Client) noServer() error {
	who := "nobody answers"
	if c.cfg.Server.IsValid() {
		who = c.cfg.Server.String() + " does not answer"
	}
	return fmt.Errorf("%w: asked %d times in %v on group %v from %v, %s (is the server running, is this the right interface, does the switch pass multicast?)",
		ErrNoServer, c.now.Joins, c.cfg.JoinTimeout, c.cfg.Conn.Group(), c.cfg.Conn.Addr(), who)
}

func (c *Client) stalled(now time.Time) error {
	last := fmt.Sprintf("the last of %d blocks came %v ago: the server or the link is gone, or our requests do not reach it",
		c.now.Blocks, now.Sub(c.lastBlock).Round(time.Millisecond))
	if c.now.Blocks == 0 {
		last = "not one block came since: no IGMP querier on this network, the wrong interface, or a filter"
	}
	return fmt.Errorf("%w for %v from %v on group %v although it answered our join; %s", ErrStalled, c.cfg.StallTimeout, c.server, c.cfg.Conn.Group(), last)
}

// leave tells the server that we are gone, with the statistics it shows. It is
// sent once and may be lost (§3), so its error has nobody to go to.
func (c *Client) leave() {
	elapsed := time.Since(c.start)
	_ = c.send(&wire.Packet{Type: wire.TypeRequest, Subtype: wire.Leave2, ClientID: c.id,
		Elapsed: int32(elapsed / time.Second), Stats: c.wireStats(elapsed)})
}

func (c *Client) wireStats(elapsed time.Duration) wire.Stats {
	s := wire.Stats{Version: 1, RunSeconds: int32(elapsed / time.Second), RunMS: int32(elapsed % time.Second / time.Millisecond),
		ChunkBufs: int32(c.most), MaxReadAhead: int32(c.cfg.ReadAhead), MaxInProgress: int32(c.most),
		PktTimeout: int32(tick / time.Microsecond), IdleTimer: int32(idleAfter / tick), RedoDelay: int32(redoAfter / time.Microsecond),
		StartDelay: int32(c.cfg.StartDelay / time.Second),
		DupBlocks:  c.now.Duplicates, NoFreeChunks: c.now.NoRoom, LostBlocks: c.now.Lost, ReRequests: c.now.Retries,
		Requests: c.now.Requests, PartialRequests: c.now.Retries, RecvIdles: c.now.Idle, JoinAttempts: c.now.Joins}
	if c.cfg.Shuffle && !c.cfg.InOrder {
		s.Randomize = 1
	}
	if c.cfg.Written != nil {
		s.RealBytes, s.EffectiveBytes = c.cfg.Written()
	}
	return s
}

// send sends one datagram to the group: requests must be seen by the other
// clients (§7 rule 6).
func (c *Client) send(p *wire.Packet) error {
	p.Source = c.source
	if err := c.cfg.Conn.Send([][]byte{p.Append(nil)}); err != nil {
		return fmt.Errorf("send %v to %v: %w", p.Subtype, c.cfg.Conn.Group(), err)
	}
	return nil
}
