package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"loadnode/transfer/wire"
)

// maxBurst bounds what is sent in one go.
const maxBurst = 64

// send is the sending loop, until ctx ends or there is a reason to stop.
func (s *Server) send(ctx context.Context) error {
	arena := make([]byte, maxBurst*wire.BlockDatagramSize)
	datagrams := make([][]byte, maxBurst)
	for i := range datagrams {
		datagrams[i] = arena[i*wire.BlockDatagramSize : (i+1)*wire.BlockDatagramSize : (i+1)*wire.BlockDatagramSize]
	}
	var blocks, ahead []int
	// Only what the store was told to keep is certain to be there still after take.
	ready := func(chunk int) bool { return slices.Contains(ahead, chunk) && s.store.has(chunk) }
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
		// Wait for the turn before choosing, so that what is noted as sent at
		// some moment was sent at it, for those who join meanwhile.
		if err := s.pace.Wait(ctx, 0); err != nil {
			return err
		}
		now := time.Now()
		var chunk int
		s.mu.Lock()
		burst := s.burstNow(now)
		chunk, blocks = s.plan.take(burst, ready, blocks)
		if len(blocks) > 0 {
			s.account(chunk, blocks, now)
		}
		s.mu.Unlock()
		if len(blocks) == 0 {
			if err := s.rest(ctx, now); err != nil {
				return err
			}
			continue
		}
		for i, b := range blocks {
			wire.PutBlockHeader(datagrams[i], s.source, chunk, b)
		}
		if !s.store.blocks(chunk, blocks, datagrams) {
			return fmt.Errorf("chunk %d vanished from memory before it was sent", chunk)
		}
		n := len(blocks) * WireBlock
		if s.cfg.Limiter != nil {
			if err := s.cfg.Limiter.Wait(ctx, n); err != nil {
				return err
			}
		}
		if err := s.pace.Wait(ctx, n); err != nil {
			return err
		}
		if err := s.cfg.Conn.Send(datagrams[:len(blocks)]); err != nil {
			return fmt.Errorf("send to %v: %w", s.cfg.Conn.Group(), err)
		}
	}
}

// burstNow sets the rate and gives how many blocks to send in one go: about a
// millisecond's worth, so that timers suffice and switches are not flooded. The
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
	if rate <= 0 {
		return maxBurst
	}
	return int(min(max(rate/1000/(WireBlock*8), 4), maxBurst))
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
