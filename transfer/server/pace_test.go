package server

import (
	"context"
	"math/rand/v2"
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
	late func() time.Duration
}

func (c *stepClock) Now() time.Time { return c.now }
func (c *stepClock) Sleep(_ context.Context, d time.Duration) error {
	c.now = c.now.Add(d)
	if c.late != nil {
		c.now = c.now.Add(c.late())
	}
	return nil
}

// lateness is how late timers are: on a quiet machine, on one that has other
// things to do at times, and on one whose timers are late always.
func lateness() map[string]func() time.Duration {
	quiet, busy := rand.New(rand.NewPCG(7, 7)), rand.New(rand.NewPCG(8, 8))
	return map[string]func() time.Duration{
		"exact": nil,
		"quiet": func() time.Duration {
			return 50*time.Microsecond + time.Duration(quiet.Int64N(int64(30*time.Microsecond)))
		},
		"busy": func() time.Duration {
			if busy.IntN(50) == 0 {
				return time.Duration(busy.Int64N(int64(3 * time.Millisecond)))
			}
			return time.Duration(busy.Int64N(int64(200 * time.Microsecond)))
		},
		"always late": func() time.Duration { return 2 * time.Millisecond },
	}
}

// TestPace is the promise over the whole range: the mean rate within 1 %, and
// in no millisecond much more than that or two bursts; when timers are late at
// times, what that left is made up little by little, and where they are late as
// a rule it is no more than they are late.
func TestPace(t *testing.T) {
	for name, late := range lateness() {
		for _, rate := range []int64{1e6, 10e6, 100e6, 300e6, 1e9, 2.5e9, 10e9} {
			clock := &stepClock{now: time.Unix(1000, 0), late: late}
			b := NewBucket(rate, clock)
			burst := burstAt(rate)
			begin, sent := clock.now, 0
			var at []time.Duration // of each burst
			for took := time.Duration(0); took < time.Second || len(at) < 300; took = clock.now.Sub(begin) {
				if err := b.Wait(context.Background(), burst*WireBlock); err != nil {
					t.Fatal(err)
				}
				at = append(at, clock.now.Sub(begin))
				sent += burst
				clock.now = clock.now.Add(time.Duration(burst) * 30 * time.Nanosecond) // sending takes time, too
			}
			most := 0 // bursts in any millisecond
			for first, last := 0, 0; last < len(at); last++ {
				for at[last]-at[first] >= time.Millisecond {
					first++
				}
				most = max(most, last-first+1)
			}
			perMs := float64(rate) / 8 / WireBlock / 1000
			mean := float64(sent-burst) * WireBlock * 8 / at[len(at)-1].Seconds()
			t.Logf("%-12s %12d bit/s: burst %2d, at most %4d datagrams in a millisecond (%.1f on average), mean %+.2f %%",
				name, rate, burst, most*burst, perMs, 100*(mean/float64(rate)-1))
			require.InEpsilon(t, float64(rate), mean, 0.01, "%s %d", name, rate)
			limits := map[string]float64{"exact": max(1.4*perMs, float64(2*burst)), "quiet": max(1.4*perMs, float64(2*burst)),
				"busy": max(2.4*perMs, float64(3*burst)), "always late": max(4*perMs, float64(3*burst))}
			require.LessOrEqual(t, float64(most*burst), limits[name], "%s %d", name, rate)
			if name != "always late" && rate <= 1e9 {
				require.Less(t, most*burst, 200, "no hundreds in a millisecond at %d", rate)
			}
		}
	}
}

// TestBucketKeepsTheRate: never faster than asked for, and not slower either,
// with whatever size of bursts.
func TestBucketKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1_000_000, 10_000_000_000).Draw(t, "rate")
		bytes := rapid.IntRange(1, 64).Draw(t, "blocks") * WireBlock
		late := rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Millisecond}).Draw(t, "late")
		clock := &stepClock{now: time.Unix(1000, 0), late: func() time.Duration { return late }}
		b := NewBucket(rate, clock)
		start := clock.now
		const sends = 500
		for range sends {
			if err := b.Wait(context.Background(), bytes); err != nil {
				t.Fatal(err)
			}
			clock.now = clock.now.Add(time.Microsecond) // sending takes time, too
		}
		took := clock.now.Sub(start).Seconds()
		ideal := float64(sends*bytes) * 8 / float64(rate)
		one := float64(bytes) * 8 / float64(rate)
		require.GreaterOrEqual(t, took, ideal-one-tooShort.Seconds())
		floor := sends * time.Microsecond.Seconds() // it cannot send faster than sending takes
		require.LessOrEqual(t, took, max(ideal, floor)+one+0.015)
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
	clock.now = clock.now.Add(time.Hour)
	b.rest()
	start = clock.now
	for range 100 {
		require.NoError(t, b.Wait(context.Background(), 1000))
	}
	require.GreaterOrEqual(t, clock.now.Sub(start), 99*time.Millisecond-tooShort, "who had nothing to send is owed nothing")
	b.Refund(10_000)
	start = clock.now
	for range 10 {
		require.NoError(t, b.Wait(context.Background(), 1000))
	}
	require.Less(t, clock.now.Sub(start), 9*time.Millisecond, "what was not sent is owed")
	b.SetRate(Unlimited)
	before := clock.now
	require.NoError(t, b.Wait(context.Background(), 1<<30))
	require.Equal(t, before, clock.now)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, b.Wait(ctx, 1), context.Canceled)
}

func TestFineClock(t *testing.T) {
	c := NewFineClock()
	ctx := context.Background()
	for _, d := range []time.Duration{-1, 0, 1, 100 * time.Microsecond, 3 * time.Millisecond, 12 * time.Millisecond} {
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				begin := c.Now()
				require.NoError(t, c.Sleep(ctx, d))
				require.GreaterOrEqual(t, c.Now().Sub(begin), d)
			})
		}
		all.Wait()
	}
	require.NotEmpty(t, c.idle, "timers are used again")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, c.Sleep(gone, 0), context.Canceled)
	require.ErrorIs(t, c.Sleep(gone, time.Hour), context.Canceled)
	require.NoError(t, c.Close())
	require.NoError(t, c.Sleep(ctx, time.Millisecond), "one who is late to hear of the end")
	require.Empty(t, c.idle)
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

func (l *countingLimiter) Refund(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= uint64(n)
}
