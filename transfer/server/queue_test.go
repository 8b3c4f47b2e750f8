package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
)

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
		c, _ := q.take(0, 64, nil)
		if len(order) == 0 || order[len(order)-1] != c {
			order = append(order, c)
		}
	}
	require.Equal(t, []int{1, 2, 1}, order[:3])
}
