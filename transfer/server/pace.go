package server

import (
	"context"
	"sync"
	"time"

	"loadnode/transfer/wire"
)

const (
	// DefaultRate is the pace when none is given, in bit/s on the wire.
	DefaultRate = 300_000_000
	// Unlimited as a rate sends as fast as the sockets take it.
	Unlimited = -1
	// WireBlock is what one BLOCK occupies on Ethernet, in bytes (§4).
	WireBlock = wire.BlockDatagramSize + wire.Overhead
)

// BurstRate is the rate in bit/s on the wire of burst blocks each gap, which is
// how the original's options -B and -G state it; a gap of 0 is Unlimited.
func BurstRate(burst int, gap time.Duration) int64 {
	if gap <= 0 {
		return Unlimited
	}
	return int64(float64(burst) * WireBlock * 8 / gap.Seconds())
}

// Limiter says when bytes may go on the wire. Several sessions which share a
// link share a Limiter; it must allow use from several goroutines.
type Limiter interface {
	// Wait returns when the bytes (with all overheads) may be sent, or the
	// error of ctx.
	Wait(ctx context.Context, bytes int) error
}

// Clock is the time by which a Bucket keeps its pace.
type Clock interface {
	Now() time.Time
	// Sleep waits for d or until ctx ends, and then returns its error.
	Sleep(ctx context.Context, d time.Duration) error
}

// systemClock is the real clock, or the virtual one inside testing/synctest.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	// catchUp is how far behind its schedule a sender may be and still make it
	// up: as much as a timer is late on a busy machine. Beyond it the time is lost.
	catchUp = 4 * time.Millisecond
	// tooShort is a wait that is not worth a timer, which is late by more.
	tooShort = 500 * time.Microsecond
)

// Bucket is a Limiter that keeps a rate by a schedule: each send moves the time
// of the next one. Errors of the timer do not add up, so the mean rate is exact.
type Bucket struct {
	clock Clock

	mu   sync.Mutex
	rate int64
	next time.Time
}

// NewBucket makes a Limiter of rate bit/s, or Unlimited. A nil clock is the system's.
func NewBucket(rate int64, clock Clock) *Bucket {
	if clock == nil {
		clock = systemClock{}
	}
	return &Bucket{clock: clock, rate: rate}
}

// SetRate changes the rate for everything not yet admitted.
func (b *Bucket) SetRate(rate int64) {
	b.mu.Lock()
	b.rate = rate
	b.mu.Unlock()
}

// Rate is the rate in bit/s.
func (b *Bucket) Rate() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate
}

// Wait implements Limiter.
func (b *Bucket) Wait(ctx context.Context, bytes int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	if b.rate <= 0 {
		b.mu.Unlock()
		return nil
	}
	now := b.clock.Now()
	switch late := now.Sub(b.next); {
	case b.next.IsZero():
		b.next = now
	case late > catchUp:
		b.next = now.Add(-catchUp)
	}
	wait := b.next.Sub(now)
	b.next = b.next.Add(time.Duration(float64(bytes) * 8 / float64(b.rate) * float64(time.Second)))
	b.mu.Unlock()
	if wait < tooShort {
		return nil
	}
	return b.clock.Sleep(ctx, wait)
}
