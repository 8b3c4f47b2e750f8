package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrShare says that a weight or a cap makes no sense.
var ErrShare = errors.New("bad share of a link")

// Link divides the rate of one outgoing link among the sessions that send over
// it. Of those which want to send each gets a part in proportion to its weight;
// what one does not use the others get. A share may have a cap.
//
// It is start-time fair queueing: each burst is marked with the share's own
// time, which passes by bytes per weight, and the link takes the burst with the
// earliest mark when its pace allows one. A share that comes back after a pause
// begins at the time of the others, less a few bursts: a session that was not
// scheduled in time keeps what was its own, and nobody saves up more. For one
// that is about to come back and whose turn it would be the link waits a moment,
// if it can make that up: else those with large weights or small bursts, who
// have to come most often, would lose to those who are just there.
type Link struct {
	clock Clock

	mu      sync.Mutex
	pace    pacer
	time    float64 // of the burst sent last, bytes per weight
	step    float64 // by how much the time of a share goes on with a burst, the largest of late
	waiting []*turn
	out     []*Share // had a turn just now and are not back yet
	led     bool     // somebody who waits is looking after all who wait
}

// turn is one who waits to send.
type turn struct {
	share   *Share
	mark    float64
	bytes   int
	granted bool
	wake    chan struct{} // granted, or shall lead
}

// NewLink makes a link of rate bit/s, or Unlimited. A nil clock is the
// runtime's, which is late by up to a millisecond; see FineClock.
func NewLink(rate int64, clock Clock) *Link {
	if clock == nil {
		clock = systemClock{}
	}
	return &Link{clock: clock, pace: pacer{rate: rate, owed: catchUp}}
}

// SetRate changes the rate in bit/s, or Unlimited, of what is not yet admitted.
func (l *Link) SetRate(rate int64) {
	l.mu.Lock()
	l.pace.rate = rate
	l.mu.Unlock()
}

// Rate is the rate in bit/s.
func (l *Link) Rate() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pace.rate
}

// Share is one session's part of a Link. It is a Limiter.
type Share struct {
	link *Link
	cap  *Bucket

	// Guarded by link.mu:
	weight float64
	end    float64 // of its last burst, in its own time
	spare  *turn
	away   bool          // is in link.out
	had    time.Time     // its last turn
	think  time.Duration // until it comes back, as a rule
}

// Session gives a share: its weight above 0 (1 for most), and at most cap bit/s
// of the link, 0 or Unlimited for no cap. A share that is not used any more
// needs no end.
func (l *Link) Session(weight float64, cap int64) (*Share, error) {
	if !(weight > 0 && weight < 1e9) || cap < Unlimited {
		return nil, fmt.Errorf("%w: weight %v, cap %d bit/s", ErrShare, weight, cap)
	}
	if cap == 0 {
		cap = Unlimited
	}
	s := &Share{link: l, cap: NewBucket(cap, l.clock), weight: weight}
	s.cap.pace.owed = capCatchUp
	return s, nil
}

// SetWeight changes the weight, above 0.
func (s *Share) SetWeight(weight float64) error {
	if !(weight > 0 && weight < 1e9) {
		return fmt.Errorf("%w: weight %v", ErrShare, weight)
	}
	s.link.mu.Lock()
	s.weight = weight
	s.link.mu.Unlock()
	return nil
}

// SetCap changes the cap in bit/s, 0 or Unlimited for none.
func (s *Share) SetCap(cap int64) {
	if cap == 0 {
		cap = Unlimited
	}
	s.cap.SetRate(cap)
}

const (
	// lag is how many bursts of the lightest share a share may be behind the
	// others and still be owed them.
	lag = 4
	// stepMemory is after how many bursts a larger step is forgotten.
	stepMemory = 64
	// moment is the least a link waits for one who is away, prompt how soon one
	// must come back as a rule to be waited for, and patience how far behind
	// its schedule the link may be to wait for anybody.
	moment   = 50 * time.Microsecond
	prompt   = 500 * time.Microsecond
	patience = 2 * time.Millisecond
)

// Wait implements Limiter.
func (s *Share) Wait(ctx context.Context, bytes int) error {
	if err := s.cap.Wait(ctx, bytes); err != nil {
		return err
	}
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	t := s.turn(bytes)
	l.waiting = append(l.waiting, t)
	for !t.granted {
		err := ctx.Err()
		switch {
		case err != nil:
		case l.led:
			l.mu.Unlock()
			select {
			case <-t.wake:
			case <-ctx.Done():
			}
			l.mu.Lock()
		default:
			err = l.lead(ctx, t)
		}
		if err != nil && !t.granted {
			l.waiting = slices.DeleteFunc(l.waiting, func(o *turn) bool { return o == t })
			s.end -= float64(bytes) / s.weight
			s.cap.Refund(bytes)
			l.pass()
			return err
		}
	}
	select { // it may have been asked to lead when it was granted already
	case <-t.wake:
	default:
	}
	if !l.led {
		l.pass()
	}
	s.spare = t
	return nil
}

// turn makes the mark of a burst. The caller holds link.mu.
func (s *Share) turn(bytes int) *turn {
	t := s.spare
	s.spare = nil // several goroutines may wait
	if t == nil {
		t = &turn{share: s, wake: make(chan struct{}, 1)}
	}
	now := s.link.clock.Now()
	if !s.had.IsZero() {
		s.think += (min(now.Sub(s.had), 10*prompt) - s.think) / 4
	}
	if s.away {
		s.away = false
		s.link.out = slices.DeleteFunc(s.link.out, func(o *Share) bool { return o == s })
	}
	each := float64(bytes) / s.weight
	t.mark = max(s.end, s.link.time-lag*max(each, s.link.step))
	t.bytes, t.granted = bytes, false
	s.end = t.mark + each
	return t
}

// lead sleeps for all who wait and grants what the pace allows, until t itself
// has its turn. The caller holds l.mu.
func (l *Link) lead(ctx context.Context, t *turn) error {
	l.led = true
	defer func() { l.led = false }()
	for !t.granted {
		now := l.clock.Now()
		if wait := min(l.pace.wait(now), longestSleep); wait > 0 {
			l.mu.Unlock()
			err := l.clock.Sleep(ctx, wait)
			l.mu.Lock()
			if err != nil {
				return err
			}
			l.pace.slept(l.clock.Now().Sub(now) - wait)
			continue
		}
		first := 0
		for i, o := range l.waiting {
			if o.mark < l.waiting[first].mark {
				first = i
			}
		}
		o := l.waiting[first]
		if wait := l.expect(now, o.mark); wait > 0 {
			l.mu.Unlock()
			err := l.clock.Sleep(ctx, wait)
			l.mu.Lock()
			if err != nil {
				return err
			}
			continue
		}
		l.waiting = slices.Delete(l.waiting, first, first+1)
		l.time = max(l.time, o.mark)
		l.step = max(float64(o.bytes)/o.share.weight, l.step*(1-1.0/stepMemory))
		l.pace.charge(now, o.bytes)
		o.granted = true
		o.share.had = now
		if !o.share.away {
			o.share.away = true
			l.out = append(l.out, o.share)
		}
		if o != t {
			o.signal()
		}
	}
	return nil
}

// expect says how long to wait for somebody who is away and comes before mark.
// The caller holds l.mu.
func (l *Link) expect(now time.Time, mark float64) (wait time.Duration) {
	if now.Sub(l.pace.next) > patience {
		return 0
	}
	l.out = slices.DeleteFunc(l.out, func(s *Share) bool {
		left := s.had.Add(2*s.think + moment).Sub(now)
		if left <= 0 || s.think > prompt {
			s.away = false
			return true
		}
		if s.end < mark {
			wait = max(wait, min(left, 2*moment))
		}
		return false
	})
	return wait
}

// pass lets somebody else lead. The caller holds l.mu.
func (l *Link) pass() {
	if len(l.waiting) > 0 && !l.led {
		l.waiting[0].signal()
	}
}

func (t *turn) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Refund implements Limiter.
func (s *Share) Refund(bytes int) {
	if bytes <= 0 {
		return
	}
	s.cap.Refund(bytes)
	s.link.mu.Lock()
	s.end -= float64(bytes) / s.weight
	s.link.pace.refund(bytes)
	s.link.mu.Unlock()
}
