package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/transfer/wire"
)

// TestQueue: whatever is asked for in whatever order comes out, exactly once
// for each time it was asked for while not queued, and no more memory is used
// than the image has chunks.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue()
		const chunks = 4
		var waiting [chunks]wire.Bitmap
		left := 0
		take := func() bool {
			blocked := rapid.IntRange(-1, chunks-1).Draw(t, "not ready")
			n := rapid.IntRange(1, 64).Draw(t, "n")
			chunk, blocks := q.take(n, func(c int) bool { return c != blocked }, nil)
			require.LessOrEqual(t, len(blocks), n)
			if len(blocks) > 0 {
				require.NotEqual(t, blocked, chunk)
			}
			for i, b := range blocks {
				require.True(t, waiting[chunk].Has(b), "nobody waits for chunk %d block %d", chunk, b)
				require.True(t, i == 0 || b > blocks[i-1], "a batch is ascending")
				waiting[chunk].Clear(b)
				left--
			}
			return len(blocks) > 0
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "ask") {
				c := rapid.IntRange(0, chunks-1).Draw(t, "chunk")
				m := wire.RangeBitmap(rapid.IntRange(0, 1023).Draw(t, "first"), rapid.IntRange(1, 1024).Draw(t, "count"))
				require.Equal(t, waiting[c].Empty(), q.add(c, &m))
				waiting[c].Or(&m)
				left = 0
				for i := range waiting {
					left += waiting[i].Count()
				}
			} else {
				take()
			}
			require.LessOrEqual(t, len(q.tasks), chunks)
			require.Len(t, q.byChunk, len(q.tasks))
		}
		all := func(int) bool { return true }
		for left > 0 {
			chunk, blocks := q.take(64, all, nil)
			require.NotEmpty(t, blocks)
			for _, b := range blocks {
				require.True(t, waiting[chunk].Has(b))
				waiting[chunk].Clear(b)
				left--
			}
		}
		require.Empty(t, q.tasks)
		require.Empty(t, q.byChunk)
	})
}

// TestQueueLetsOthersPass: a chunk whose beginning is asked for again and again
// does not hold up the next.
func TestQueueLetsOthersPass(t *testing.T) {
	q := newQueue()
	full, head := wire.FullBitmap(), wire.RangeBitmap(0, 100)
	q.add(1, &full)
	q.add(2, &full)
	var order []int
	for range 48 {
		q.add(1, &head) // as late joiners do
		c, _ := q.take(64, func(int) bool { return true }, nil)
		if len(order) == 0 || order[len(order)-1] != c {
			order = append(order, c)
		}
	}
	require.Equal(t, []int{1, 2, 1}, order[:3])
}

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
