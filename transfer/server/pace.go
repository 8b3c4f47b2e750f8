package server

import (
	"context"
	"sync"
	"time"

	"loadnode/transfer/mcast"
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

const (
	// maxBurst is what is sent in one go at most: as much as the kernel takes
	// as one datagram.
	maxBurst = mcast.BatchSize
	// goodBurst is below which sending together saves most; smallest bursts
	// are this many blocks, if that is not more than slowBurst of time.
	goodBurst = 16
	slowBurst = 10 * time.Millisecond
)

// burstAt is how many blocks are sent in one go at a rate: two milliseconds'
// worth, as the original's, within bounds. Each sleep costs as much processor
// time as sending several bursts; a switch has to have room for one.
func burstAt(rate int64) int {
	if rate <= 0 {
		return maxBurst
	}
	worth := func(d time.Duration) int {
		return int(min(float64(rate)*d.Seconds()/(WireBlock*8), maxBurst))
	}
	return max(worth(2*time.Millisecond), min(worth(slowBurst), goodBurst), 1)
}

// Limiter says when bytes may go on the wire. Several sessions which share a
// link share a Limiter or have Limiters of one Link; it must allow use from
// several goroutines.
type Limiter interface {
	// Wait returns when the bytes (with all overheads) may be sent, or the
	// error of ctx.
	Wait(ctx context.Context, bytes int) error
	// Refund takes back what was waited for and will not be sent.
	Refund(bytes int)
}

const (
	// catchUp is how far behind its schedule a sender may be and still make it
	// up. Beyond it the time is lost. A cap has less memory: waiting for the
	// turn on a link shall not be made up beyond what timers are late.
	catchUp    = 20 * time.Millisecond
	capCatchUp = 4 * time.Millisecond
	// While it catches up it is faster than its rate by one part in hurry.
	hurry = 4
	// quantum is how much time's worth may be sent in one go, if a burst is
	// not more than that anyway.
	quantum = 500 * time.Microsecond
	// tooShort is a wait that is not worth a timer: one may be so early.
	tooShort = 300 * time.Microsecond
	// latest is the most by which timers are taken to be late as a rule, and
	// lateMemory after how many better sleeps that is forgotten.
	latest     = 4 * time.Millisecond
	lateMemory = 8
)

// pacer decides when to send, by two schedules. On the one each send moves the
// time of the next, so that errors of the timers do not add up and the mean
// rate is exact. The other has a slightly higher rate and next to no memory: it
// stretches what a late timer leaves to be made up, which would otherwise go
// out as one burst. Where timers are late as a rule nothing can be both exact
// and smooth; there the pace is exact and the bursts are as long as the timers
// are late.
type pacer struct {
	rate   int64            // bit/s
	owed   time.Duration    // how much is made up at most
	next   time.Time        // by the first schedule
	soon   time.Time        // by the second
	late   time.Duration    // of sleeps, as a rule
	before [2]time.Duration // lateness of the last ones
}

// cost is how long bytes take at the rate.
func (p *pacer) cost(bytes int) time.Duration {
	return time.Duration(float64(bytes) * 8e9 / float64(p.rate))
}

// wait is how long to sleep before sending.
func (p *pacer) wait(now time.Time) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	switch late := now.Sub(p.next); {
	case p.next.IsZero():
		p.next = now
	case late > p.owed:
		p.next = now.Add(-p.owed)
	}
	wait := p.next.Sub(now)
	if wait < tooShort {
		wait = 0
	}
	if soon := p.soon.Sub(now); soon > wait && soon >= tooShort/6 {
		wait = soon
	}
	return wait
}

// charge notes that bytes are sent.
func (p *pacer) charge(now time.Time, bytes int) {
	if p.rate <= 0 || bytes == 0 {
		return
	}
	cost := p.cost(bytes)
	if p.next.IsZero() {
		p.next = now
	}
	p.next = p.next.Add(cost)
	// What may be early is credit: it is taken off the time from which the
	// second schedule counts.
	credit := max(0, quantum-cost) + p.late
	if from := now.Add(-credit); p.soon.Before(from) {
		p.soon = from
	}
	p.soon = p.soon.Add(cost * hurry / (hurry + 1))
}

// refund undoes a charge.
func (p *pacer) refund(bytes int) {
	if p.rate > 0 && bytes > 0 {
		cost := p.cost(bytes)
		p.next = p.next.Add(-cost)
		p.soon = p.soon.Add(-cost * hurry / (hurry + 1))
	}
}

// slept notes how late a sleep was. Three times in a row are the rule.
func (p *pacer) slept(late time.Duration) {
	late = min(max(late, 0), latest)
	rule := min(late, p.before[0], p.before[1])
	p.before = [2]time.Duration{late, p.before[0]}
	p.late = max(rule, p.late-(p.late-rule)/lateMemory)
}

// rest forgets that nothing was sent until now: there was nothing to send.
func (p *pacer) rest(now time.Time) {
	if p.next.Before(now) {
		p.next = now
	}
}

// Bucket is a Limiter that keeps one rate.
type Bucket struct {
	clock Clock

	mu   sync.Mutex
	pace pacer
}

// NewBucket makes a Limiter of rate bit/s, or Unlimited. A nil clock is the
// runtime's, which is late by up to a millisecond.
func NewBucket(rate int64, clock Clock) *Bucket {
	if clock == nil {
		clock = systemClock{}
	}
	return &Bucket{clock: clock, pace: pacer{rate: rate, owed: catchUp}}
}

// SetRate changes the rate for everything not yet admitted.
func (b *Bucket) SetRate(rate int64) {
	b.mu.Lock()
	b.pace.rate = rate
	b.mu.Unlock()
}

// Rate is the rate in bit/s.
func (b *Bucket) Rate() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pace.rate
}

// longestSleep is after how long a changed rate is noticed.
const longestSleep = 100 * time.Millisecond

// Wait implements Limiter.
func (b *Bucket) Wait(ctx context.Context, bytes int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		now := b.clock.Now()
		wait := min(b.pace.wait(now), longestSleep)
		if wait == 0 {
			b.pace.charge(now, bytes)
			return nil
		}
		b.mu.Unlock()
		err := b.clock.Sleep(ctx, wait)
		b.mu.Lock()
		if err != nil {
			return err
		}
		b.pace.slept(b.clock.Now().Sub(now) - wait)
	}
}

// Refund implements Limiter.
func (b *Bucket) Refund(bytes int) {
	b.mu.Lock()
	b.pace.refund(bytes)
	b.mu.Unlock()
}

// rest says that there is nothing to send just now.
func (b *Bucket) rest() {
	b.mu.Lock()
	b.pace.rest(b.clock.Now())
	b.mu.Unlock()
}
