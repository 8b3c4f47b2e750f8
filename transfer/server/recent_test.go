package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecent(t *testing.T) {
	r := newRecent()
	at := func(i int) time.Time { return time.Unix(1000, 0).Add(time.Duration(i) * time.Millisecond) }
	for i := range 3 * recentRuns {
		r.add(i%2, []int{i % 1024, (i + 1) % 1024}, at(i))
	}
	require.Len(t, r.ring, recentRuns)
	last := 3*recentRuns - 1
	m := r.since(last%2, at(last-1))
	require.Equal(t, 2, m.Count())
	require.True(t, m.Has(last%1024))
	m = r.since(last%2, at(last-4))
	require.Equal(t, 4, m.Count())
	m = r.since(5, at(0))
	require.True(t, m.Empty())
	m = r.since(last%2, at(last))
	require.True(t, m.Empty(), "after means after")
}
