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
