package server

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/transfer/wire"
)

// stepClock is a clock whose sleeps are late, as real ones are.
type stepClock struct {
	now  time.Time
	late time.Duration
}

func (c *stepClock) Now() time.Time { return c.now }
func (c *stepClock) Sleep(_ context.Context, d time.Duration) error {
	c.now = c.now.Add(d + c.late)
	return nil
}

// TestBucketKeepsTheRate: never faster than asked for, and not slower either,
// though timers are late by a millisecond.
func TestBucketKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(100_000, 10_000_000_000).Draw(t, "rate")
		bytes := rapid.IntRange(1, 64).Draw(t, "blocks") * WireBlock
		late := rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Millisecond}).Draw(t, "late")
		clock := &stepClock{now: time.Unix(1000, 0), late: late}
		b := NewBucket(rate, clock)
		start := clock.now
		const sends = 500
		for range sends {
			require.NoError(t, b.Wait(context.Background(), bytes))
			clock.now = clock.now.Add(time.Microsecond) // sending takes time, too
		}
		took := clock.now.Sub(start).Seconds()
		ideal := float64(sends*bytes) * 8 / float64(rate)
		one := float64(bytes) * 8 / float64(rate)
		require.GreaterOrEqual(t, took, ideal-one-catchUp.Seconds())
		floor := sends * time.Microsecond.Seconds() // it cannot send faster than sending takes
		require.LessOrEqual(t, took, max(ideal, floor)+one+0.005)
	})
}

func TestBucketForgetsIdleTime(t *testing.T) {
	clock := &stepClock{now: time.Unix(1000, 0)}
	b := NewBucket(8_000_000, clock) // a byte each µs
	require.NoError(t, b.Wait(context.Background(), 1000))
	clock.now = clock.now.Add(time.Hour)
	start := clock.now
	for range 100 {
		require.NoError(t, b.Wait(context.Background(), 1000))
	}
	require.GreaterOrEqual(t, clock.now.Sub(start), 99*time.Millisecond-catchUp)
	b.SetRate(Unlimited)
	before := clock.now
	require.NoError(t, b.Wait(context.Background(), 1<<30))
	require.Equal(t, before, clock.now)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, b.Wait(ctx, 1), context.Canceled)
}

// TestRates: -W counts what a block really is on the wire, 1114 bytes; -B and
// -G come to the documented 65.5 Mbit/s of data.
func TestRates(t *testing.T) {
	require.Equal(t, 1114, WireBlock)
	data := float64(BurstRate(16, 2*time.Millisecond)) * wire.BlockSize / WireBlock
	require.InDelta(t, 65.5e6, data, 0.1e6)
	require.EqualValues(t, Unlimited, BurstRate(16, 0))
	for _, rate := range []int64{1e6, 50e6, 300e6, 1e9} {
		synctest.Test(t, func(t *testing.T) {
			img := image(8)
			lim := &countingLimiter{}
			b := start(t, Config{Image: img, Rate: rate, Fixed: true, Limiter: lim})
			p := b.peer(1, img)
			for c := range 8 {
				p.whole(c)
			}
			time.Sleep(40 * time.Millisecond)
			st := b.end()
			require.InDelta(t, float64(rate)/WireBlock/8*0.040, float64(st.BlocksSent), float64(rate)/WireBlock/8*0.005+64)
			require.EqualValues(t, rate, st.Rate)
			require.EqualValues(t, st.BlocksSent*WireBlock, lim.bytes, "the shared limiter is asked for every byte")
		})
	}
}

type countingLimiter struct {
	mu    sync.Mutex
	bytes uint64
}

func (l *countingLimiter) Wait(ctx context.Context, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += uint64(n)
	return ctx.Err()
}

// TestAdaptation: the rate starts low, rises to the cap, falls while a quarter
// of the clients lose much, not below an eighth, and recovers.
func TestAdaptation(t *testing.T) {
	const cap = 800
	now := time.Unix(1000, 0)
	a, tab := newAdapter(cap), newTable()
	for i := range 8 {
		tab.join(addr(i), uint32(i+1), now)
	}
	step := func(losers int) int64 {
		now = now.Add(adaptEvery)
		a.sent += 1000
		for i := range 8 {
			e := tab.touch(addr(i), now)
			if i < losers {
				e.losses += 100
			}
		}
		return a.consider(now, tab)
	}
	require.EqualValues(t, 200, a.rate)
	for range 5 {
		step(0)
	}
	require.EqualValues(t, cap, a.rate)
	for range 50 {
		step(1)
	}
	require.EqualValues(t, cap, a.rate, "one bad node of eight slows nobody")
	for range 100 {
		step(3)
		require.GreaterOrEqual(t, a.rate, int64(cap/floorPart))
	}
	require.EqualValues(t, cap/floorPart, a.rate)
	require.NotZero(t, a.reducing)
	for range 70 {
		step(0)
	}
	require.EqualValues(t, cap, a.rate)
}
