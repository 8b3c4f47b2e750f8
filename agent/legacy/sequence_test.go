package legacy

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSentKeepsTheLast(t *testing.T) {
	var s Sent[string]
	_, ok := s.Get(0)
	require.False(t, ok)
	for i := range MaxSent + 10 {
		require.Equal(t, i+1, s.Next())
		require.Equal(t, i+1, s.Add(string(rune('a'+i%26))))
	}
	for _, gone := range []int{-1, 0, 1, 10, MaxSent + 11} {
		_, ok := s.Get(gone)
		require.False(t, ok, gone)
	}
	for _, kept := range []int{11, 100, MaxSent + 10} {
		got, ok := s.Get(kept)
		require.True(t, ok, kept)
		require.Equal(t, string(rune('a'+(kept-1)%26)), got)
	}
}

// TestReceivedUnderLoss: whatever is lost, doubled and late by less than the window, each message that comes is taken
// once, and what is missing is counted.
func TestReceivedUnderLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		var way []int
		lost := map[int]bool{}
		for seq := 1; seq <= n; seq++ {
			switch rapid.IntRange(0, 5).Draw(t, "fate") {
			case 0:
				lost[seq] = true
			case 1:
				way = append(way, seq, seq)
			default:
				way = append(way, seq)
			}
			if k := len(way); k > 1 && rapid.Bool().Draw(t, "swap") {
				way[k-1], way[k-2] = way[k-2], way[k-1]
			}
		}
		var r Received
		var taken []int
		for _, seq := range way {
			if r.Take(seq) {
				taken = append(taken, seq)
			}
		}
		r.Expect(n)
		want := slices.Compact(slices.Sorted(slices.Values(way)))
		require.Equal(t, want, slices.Sorted(slices.Values(taken)))
		require.Equal(t, len(lost), r.Missing())
		require.Equal(t, n, r.Last())
	})
}

func TestReceivedJumps(t *testing.T) {
	var r Received
	require.False(t, r.Take(0))
	require.False(t, r.Take(-3))
	require.True(t, r.Take(1000), "an agent that counts on from before")
	require.Equal(t, 999, r.Missing())
	require.False(t, r.Take(1000-window), "too old to tell from a repetition")
	require.True(t, r.Take(1000-window+1))
	require.False(t, r.Take(1000))
	r.Expect(5)
	require.Equal(t, 1000, r.Last())
}
