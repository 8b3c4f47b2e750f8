package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGuessing: with clients that send no reports, the rate starts low, rises to
// the cap, falls while most of the clients lose much, not below an eighth, and recovers.
func TestGuessing(t *testing.T) {
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
	for range 8 {
		step(0)
	}
	require.EqualValues(t, cap, a.rate)
	for range 50 {
		step(3)
	}
	require.EqualValues(t, cap, a.rate, "three bad nodes of eight slow nobody")
	for range 100 {
		step(5)
		require.GreaterOrEqual(t, a.rate, int64(cap/floorPart))
	}
	require.EqualValues(t, cap/floorPart, a.rate)
	require.NotZero(t, a.reducing)
	for range 70 {
		step(0)
	}
	require.EqualValues(t, cap, a.rate)
}

// TestHiccup: a rate that was taken for long is soon regained after all
// receivers were held up once; when it is too much twice, it is given up.
func TestHiccup(t *testing.T) {
	const sustained = 800_000_000
	now := time.Unix(1000, 0)
	a, tab := newAdapter(10_000_000_000), newTable()
	for i := range 4 {
		tab.join(addr(i), uint32(i+1), now)
	}
	step := func(takes int64) int64 {
		now = now.Add(100 * time.Millisecond)
		a.sent += float64(a.rate) / 10 / (WireBlock * 8)
		for i := range 4 {
			v := &tab.touch(addr(i), now).view
			v.heard, v.voted, v.vote, v.took = now, now, fine, float64(min(takes, a.rate))
			if takes < a.rate {
				v.vote = tooFast
			}
		}
		return a.consider(now, tab)
	}
	steps := func(n int, takes int64) (rate int64) {
		for range n {
			rate = step(takes)
		}
		return rate
	}
	found := steps(50, sustained)
	require.InEpsilon(t, sustained, found, 0.1)
	require.Less(t, steps(1, 100_000_000), found/2)
	require.GreaterOrEqual(t, steps(8, sustained), found*8/10, "regained within a second")
	for range 2 { // now it is true
		steps(2, 100_000_000)
		steps(8, 100_000_000)
	}
	before := a.reducing
	rate := steps(30, 100_000_000)
	require.InEpsilon(t, 100_000_000, rate, 0.1)
	require.LessOrEqual(t, a.reducing-before, 3, "what is lost is not tried for again and again")
}
