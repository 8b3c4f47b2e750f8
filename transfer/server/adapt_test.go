package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
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

// takers are clients which report, one per rate that they can take.
type takers struct {
	a   *adapter
	tab *table
	now time.Time
}

func newTakers(clients int) *takers {
	m := &takers{a: newAdapter(10_000_000_000), tab: newTable(), now: time.Unix(1000, 0)}
	for i := range clients {
		m.tab.join(addr(i), uint32(i+1), m.now)
	}
	return m
}

// step passes the time between two reports and gives the rate after it.
func (m *takers) step(takes ...int64) int64 {
	m.now = m.now.Add(100 * time.Millisecond)
	m.a.sent += float64(m.a.rate) / 10 / (WireBlock * 8)
	for i, most := range takes {
		v := &m.tab.touch(addr(i), m.now).view
		v.heard, v.voted, v.vote, v.took = m.now, m.now, fine, float64(min(most, m.a.rate))
		if most < m.a.rate {
			v.vote = tooFast
		}
	}
	return m.a.consider(m.now, m.tab)
}

// TestOldLimit: what a hiccup at the beginning looked like does not bind the
// rate once most take more: then one client alone does not reduce it, and it
// grows ever faster.
func TestOldLimit(t *testing.T) {
	const can = 2_000_000_000
	m := newTakers(4)
	for m.step(can, can, can, can) < 400_000_000 {
	}
	for range 2 {
		m.step(50_000_000, 50_000_000, 50_000_000, 50_000_000)
	}
	low := m.a.rate
	require.Less(t, low, int64(200_000_000))
	var rates []int64
	for range 25 {
		rates = append(rates, m.step(can, can, can, can))
	}
	found := rates[len(rates)-1]
	require.Greater(t, found, int64(1_500_000_000), "%d", rates)
	fell := m.a.reducing
	for range 20 {
		m.step(10*can, 10*can, 10*can, 100_000_000)
	}
	require.Equal(t, fell, m.a.reducing, "one of four, which takes what all took at first")
	require.GreaterOrEqual(t, m.a.rate, found)
}

// TestHiccup: a rate that was taken for long is soon regained after all
// receivers were held up once; when it is too much twice, it is given up.
func TestHiccup(t *testing.T) {
	const sustained = 800_000_000
	m := newTakers(4)
	a := m.a
	steps := func(n int, takes int64) (rate int64) {
		for range n {
			rate = m.step(takes, takes, takes, takes)
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

// TestRoomOfEquals: a new chunk waits for room in each receiver that is as fast
// as the others, for a slow or a lossy one only a little while.
func TestRoomOfEquals(t *testing.T) {
	begins := func(speed uint32, loses float64) bool {
		m := newTakers(4)
		for i := range 4 {
			e := m.tab.touch(addr(i), m.now)
			m.a.weigh(e, wire.Report{Clock: 1, Speed: 100_000, Free: 30, Buffers: 64, LastChunk: -1}, newRecent(), m.tab, m.now)
		}
		full := &m.tab.touch(addr(0), m.now).view
		full.r.Free, full.r.Speed, full.loses, full.trouble = 0, speed, loses, loses
		m.a.tried = m.now
		for range int(closedFor/look) / 2 {
			m.now = m.now.Add(look)
			for i := range 4 {
				m.tab.touch(addr(i), m.now).view.heard = m.now
			}
			if m.a.mayBegin(m.now, m.tab, 0) {
				return true
			}
		}
		return false
	}
	require.False(t, begins(100_000, 0))
	require.False(t, begins(80_000, 0))
	require.True(t, begins(10_000, 0), "slow")
	require.True(t, begins(100_000, 0.2), "lossy")
}
