package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// outbox is the memory of a burst of blocks: headers made here, payloads where
// they lie in the image.
type outbox struct {
	conn   mcast.Conn
	parts  mcast.PartsSender // nil if conn joins no parts
	arena  []byte
	heads  [][]byte
	bodies [][]byte
}

func newOutbox(conn mcast.Conn) *outbox {
	o := &outbox{conn: conn, heads: make([][]byte, maxBurst), bodies: make([][]byte, maxBurst)}
	size := wire.BlockHeaderSize
	if o.parts, _ = conn.(mcast.PartsSender); o.parts == nil {
		size = wire.BlockDatagramSize
	}
	o.arena = make([]byte, maxBurst*size)
	for i := range o.heads {
		o.heads[i] = o.arena[i*size : (i+1)*size : (i+1)*size]
	}
	return o
}

// send sends blocks of a chunk.
func (o *outbox) send(source [4]byte, chunk int, data []byte, blocks []int) error {
	for i, b := range blocks {
		body := data[b*wire.BlockSize : (b+1)*wire.BlockSize]
		wire.PutBlockHeader(o.heads[i], source, chunk, b)
		if o.parts == nil {
			copy(o.heads[i][wire.BlockHeaderSize:], body)
		}
		o.bodies[i] = body
	}
	n := len(blocks)
	if o.parts == nil {
		return o.conn.Send(o.heads[:n])
	}
	return o.parts.SendParts(o.heads[:n], o.bodies[:n])
}

// send is the sending loop, until ctx ends or there is a reason to stop.
func (s *Server) send(ctx context.Context) error {
	out := newOutbox(s.cfg.Conn)
	var blocks, ahead, here []int
	// Only what the store was told to keep is certain to be there still when it is sent.
	ready := func(chunk int) bool { return slices.Contains(here, chunk) }
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		ahead = s.plan.upcoming(s.cfg.ReadAhead, ahead)
		s.mu.Unlock()
		if err := s.store.want(ahead); err != nil {
			return err
		}
		if here = s.store.here(here); len(here) == 0 {
			if err := s.rest(ctx, time.Now()); err != nil {
				return err
			}
			continue
		}
		// Wait for the turn before choosing, so that what is noted as sent at
		// some moment was sent at it, for those who join meanwhile.
		if err := s.pace.Wait(ctx, 0); err != nil {
			return err
		}
		now := time.Now()
		s.mu.Lock()
		burst := s.burstNow(now)
		s.mu.Unlock()
		if s.cfg.Limiter != nil {
			if err := s.cfg.Limiter.Wait(ctx, burst*WireBlock); err != nil {
				return err
			}
			now = time.Now()
		}
		var chunk int
		s.mu.Lock()
		chunk, blocks = s.plan.take(burst, ready, blocks)
		if len(blocks) > 0 {
			s.account(chunk, blocks, now)
		}
		s.mu.Unlock()
		if s.cfg.Limiter != nil {
			s.cfg.Limiter.Refund((burst - len(blocks)) * WireBlock)
		}
		if len(blocks) == 0 {
			if err := s.rest(ctx, now); err != nil {
				return err
			}
			continue
		}
		data := s.store.chunk(chunk)
		if data == nil {
			return fmt.Errorf("chunk %d vanished from memory before it was sent", chunk)
		}
		if err := s.pace.Wait(ctx, len(blocks)*WireBlock); err != nil {
			return err
		}
		if err := out.send(s.source, chunk, data, blocks); err != nil {
			return fmt.Errorf("send to %v: %w", s.cfg.Conn.Group(), err)
		}
	}
}

// burstNow sets the rate and gives how many blocks to send in one go. The
// caller holds s.mu.
func (s *Server) burstNow(now time.Time) int {
	rate := s.pace.Rate()
	if s.adapt != nil {
		rate = s.adapt.consider(now, s.clients)
		s.pace.SetRate(rate)
	}
	if s.burst > 0 {
		return min(s.burst, maxBurst)
	}
	return burstAt(rate)
}

// account notes what is about to be sent. The caller holds s.mu.
func (s *Server) account(chunk int, blocks []int, now time.Time) {
	s.recent.add(chunk, blocks, now)
	if s.begun[chunk].IsZero() {
		s.begun[chunk] = now
	}
	for _, b := range blocks {
		if s.sent[chunk].Has(b) {
			s.stats.Resent++
		}
		s.sent[chunk].Set(b)
	}
	s.stats.BlocksSent += uint64(len(blocks))
	s.stats.BytesSent += uint64(len(blocks)) * wire.BlockSize
	if s.adapt != nil {
		s.adapt.sent += float64(len(blocks))
	}
}

// rest waits for something to do, or ends the session when nobody wants it.
func (s *Server) rest(ctx context.Context, now time.Time) error {
	defer s.pace.rest() // what was not sent meanwhile is not owed
	s.mu.Lock()
	empty := s.plan.size() == 0
	var until time.Time
	var why error
	if empty && s.cfg.Idle > 0 {
		until, why = s.active.Add(s.cfg.Idle), ErrIdle
	}
	if empty && s.cfg.UntilLeft && s.clients.joined && !s.left.IsZero() && s.clients.remaining(now.Add(-s.silentFor())) == 0 {
		if t := s.left.Add(leftGrace); until.IsZero() || t.Before(until) {
			until, why = t, ErrAllLeft
		}
	}
	s.mu.Unlock()
	if why != nil && !until.After(now) {
		return why
	}
	var timer <-chan time.Time
	if why != nil {
		t := time.NewTimer(until.Sub(now))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-s.wake:
	case <-timer:
	case <-ctx.Done():
	}
	return nil
}

// silentFor is after how long a client that never left counts as gone, for UntilLeft.
func (s *Server) silentFor() time.Duration {
	if s.cfg.Idle > 0 {
		return s.cfg.Idle
	}
	return 30 * time.Minute
}
