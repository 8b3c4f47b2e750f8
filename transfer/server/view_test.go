package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
)

// TestView: what a report says of the rate.
func TestView(t *testing.T) {
	const sent = 1000 // blocks, in 100 ms
	start := time.Unix(1000, 0)
	for name, tc := range map[string]struct {
		got   uint32
		last  int    // block of the second hundred milliseconds, which it saw
		clock uint32 // ms between its reports
		queue uint32 // the most that was in its receive queue, 1/1000
		want  vote
	}{
		"everything came":        {got: sent, last: 999, clock: 100, want: fine},
		"a tenth was lost":       {got: 900, last: 999, clock: 100, want: tooFast},
		"a little was lost":      {got: 980, last: 999, clock: 100, want: fine},
		"it falls behind":        {got: 500, last: 499, clock: 100, want: tooFast},
		"it is only late":        {got: 500, last: 499, clock: 50, want: silent},
		"nothing is known of it": {got: 10, last: 9, clock: 100, want: silent},
		"it only just caught up": {got: sent, last: 999, clock: 100, queue: 300, want: silent},
		"its queue overflows":    {got: sent, last: 999, clock: 100, queue: 700, want: tooFast},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newRecent()
			var v view
			send := func(chunk int, at time.Time) {
				for i := range sent / 10 {
					var blocks []int
					for b := range 10 {
						blocks = append(blocks, i*10+b)
					}
					rec.add(chunk, blocks, at.Add(time.Duration(i)*time.Millisecond))
				}
			}
			send(0, start)
			v.report(wire.Report{Clock: 1, Blocks: 1, LastChunk: 0, LastBlock: 0}, rec, start, 0, start.Add(time.Millisecond))
			v.report(wire.Report{Clock: 101, Blocks: sent, LastChunk: 0, LastBlock: sent - 1}, rec, start, 0, start.Add(100*time.Millisecond))
			require.Equal(t, fine, v.vote)
			step := start.Add(100 * time.Millisecond)
			send(1, step.Add(time.Millisecond))
			v.report(wire.Report{Clock: 101 + tc.clock, Blocks: sent + tc.got, LastChunk: 1, LastBlock: int32(tc.last), Backlog: tc.queue},
				rec, step, sent, step.Add(101*time.Millisecond))
			require.Equal(t, tc.want, v.vote, "%+v", v)
		})
	}
}

// TestRoom: what is sent after a report takes buffers, what is installed gives
// them back, and neither makes more than there is.
func TestRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	v := view{heard: now, known: true, place: place{begins: 10}, r: wire.Report{Free: 4, Buffers: 8, Received: 20, Done: 17, Speed: 10_000}}
	require.Equal(t, 4, v.room(10, now))
	require.Equal(t, 2, v.room(12, now))
	require.Equal(t, 0, v.room(20, now))
	require.Equal(t, 4, v.room(12, now.Add(200*time.Millisecond)))
	require.Equal(t, 7, v.room(10, now.Add(time.Hour)), "three were with the installer")
}
