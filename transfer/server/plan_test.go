package server

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/transfer/wire"
)

func always(int) bool { return true }

// TestPlan: whatever is asked for in whatever order and whichever way comes
// out, exactly once for each time it was asked for while not queued; no more
// memory is used than the image has chunks; and while there are new blocks,
// repeats get their share and no more.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlan()
		const chunks = 4
		var waiting, first [chunks]wire.Bitmap // all, and those to be sent soon
		count := func(ms *[chunks]wire.Bitmap) (n int) {
			for i := range ms {
				n += ms[i].Count()
			}
			return n
		}
		earned := 0
		take := func(ready func(int) bool) int {
			n := rapid.IntRange(1, 64).Draw(t, "n")
			couldFirst := false
			for c := range chunks {
				couldFirst = couldFirst || ready(c) && !first[c].Empty()
			}
			if count(&waiting) == count(&first) {
				earned = 0
			}
			chunk, blocks := p.take(n, ready, nil)
			require.LessOrEqual(t, len(blocks), n)
			if len(blocks) == 0 {
				for c := range chunks {
					require.False(t, ready(c) && !waiting[c].Empty(), "chunk %d waits and nothing is sent", c)
				}
				return 0
			}
			require.True(t, ready(chunk))
			soon := first[chunk].Has(blocks[0])
			for i, b := range blocks {
				require.True(t, waiting[chunk].Has(b), "nobody waits for chunk %d block %d", chunk, b)
				require.Equal(t, soon, first[chunk].Has(b), "a batch is of one kind")
				require.True(t, i == 0 || b > blocks[i-1], "a batch is ascending")
				waiting[chunk].Clear(b)
				first[chunk].Clear(b)
			}
			switch {
			case soon:
				earned = min(earned+len(blocks), repeatCost*wire.BlocksPerChunk)
			case couldFirst:
				earned -= repeatCost * len(blocks)
				require.GreaterOrEqual(t, earned, 0, "repeats took more than they had earned")
			}
			return len(blocks)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "ask") {
				c := rapid.IntRange(0, chunks-1).Draw(t, "chunk")
				m := wire.RangeBitmap(rapid.IntRange(0, 1023).Draw(t, "from"), rapid.IntRange(1, 1024).Draw(t, "count"))
				fresh := waiting[c].Empty()
				if rapid.Bool().Draw(t, "first") {
					require.Equal(t, fresh, p.addFirst(c, &m))
					first[c].Or(&m)
				} else {
					require.Equal(t, fresh, p.addRepeat(c, m, rapid.Bool().Draw(t, "repair")))
				}
				waiting[c].Or(&m)
			} else {
				blocked := rapid.IntRange(-1, chunks-1).Draw(t, "not ready")
				take(func(c int) bool { return c != blocked })
			}
			require.LessOrEqual(t, p.size(), 2*chunks)
			for _, q := range []*queue{p.first, p.repeats} {
				require.Len(t, q.byChunk, len(q.tasks))
			}
			n := rapid.IntRange(2, 5).Draw(t, "read ahead")
			ahead := p.upcoming(n, nil)
			require.LessOrEqual(t, len(ahead), n)
			for _, q := range []*queue{p.first, p.repeats} {
				if len(q.tasks) > 0 {
					require.Contains(t, ahead, q.tasks[0].chunk, "what may be next is read")
				}
			}
		}
		for count(&waiting) > 0 {
			require.NotZero(t, take(always))
		}
		require.Zero(t, p.size())
		require.Empty(t, p.first.byChunk)
		require.Empty(t, p.repeats.byChunk)
	})
}

// TestShareOfRepeats: with new blocks without end, a repeat comes after its
// price was sent, in one piece, and the next after the same again.
func TestShareOfRepeats(t *testing.T) {
	p := newPlan()
	full := wire.FullBitmap()
	for c := range 3 {
		p.addRepeat(100+c, full, false)
	}
	var order []int // chunks in turn
	for range 40 * wire.BlocksPerChunk / 64 {
		p.addFirst(1+len(order)%50, &full)
		chunk, _ := p.take(64, always, nil)
		if len(order) == 0 || order[len(order)-1] != chunk {
			order = append(order, chunk)
		}
	}
	var at []int
	for i, c := range order {
		if c >= 100 {
			at = append(at, i)
		}
	}
	require.Equal(t, []int{16, 33}, at)
	require.Equal(t, 100, order[16])
	require.Equal(t, 101, order[33])
}

// TestRepeatGivesWay: begun for want of anything else, it stops for new blocks,
// and only what is asked for more urgently leaves the queue of repeats.
func TestRepeatGivesWay(t *testing.T) {
	p := newPlan()
	full, lost := wire.FullBitmap(), wire.RangeBitmap(500, 20)
	require.True(t, p.addRepeat(7, full, false))
	chunk, blocks := p.take(64, always, nil)
	require.Equal(t, 7, chunk)
	require.Len(t, blocks, 64)
	require.False(t, p.addFirst(7, &lost), "the chunk was queued")
	require.False(t, p.addRepeat(7, lost, false), "they come sooner already")
	chunk, blocks = p.take(64, always, nil)
	require.Equal(t, 7, chunk)
	require.Equal(t, 500, blocks[0])
	require.Len(t, blocks, 20)
	p.addFirst(8, &full)
	chunk, _ = p.take(64, always, nil)
	require.Equal(t, 8, chunk)
	left := p.repeats.queued(7)
	require.Equal(t, wire.BlocksPerChunk-64-20, left.Count())
	chunk, _ = p.take(64, func(c int) bool { return c == 7 }, nil)
	require.Equal(t, 7, chunk, "what cannot be sent holds up nobody")
}
