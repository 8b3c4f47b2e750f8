package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
)

// client gives what the server knows of the client at addr(i).
func (b *bench) client(i int) (c ClientInfo) {
	for _, c := range b.s.Clients() {
		if c.Addr == addr(i) {
			return c
		}
	}
	require.Fail(b.t, "not known", "%v", addr(i))
	return c
}

// TestWhatGoesFirst: new blocks and the repairs of those who were there go
// before repeats for late joiners, whose impatience costs nothing.
func TestWhatGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk = 45 * time.Millisecond // a little less than it takes at 200 Mbit/s
		img := image(16)
		b := start(t, Config{Image: img, Fixed: true, Rate: 200e6})
		early := b.peer(1, img)
		early.join(1)
		early.whole(0)
		early.whole(1)
		time.Sleep(time.Second)
		for c := 2; c < 14; c++ {
			early.whole(c) // half a second of work
		}
		late := b.peer(2, img)
		late.join(2)
		late.whole(0)
		early.some(1, wire.RangeBitmap(10, 5), 1)
		late.some(1, wire.RangeBitmap(10, 500), 1)
		time.Sleep(200 * time.Millisecond)
		late.some(0, wire.FullBitmap(), 1) // is tired of waiting
		late.some(0, wire.FullBitmap(), 1)
		time.Sleep(12*chunk - 200*time.Millisecond)
		n, _ := late.has(0)
		require.Zero(t, n, "new blocks are still to be sent")
		n, _ = late.has(13)
		require.NotZero(t, n)
		require.Equal(t, 2, b.s.Stats().Deferred)
		time.Sleep(chunk / 2)
		n, _ = late.has(1)
		require.Equal(t, 5, n, "after them the repair, the repeat not yet")
		time.Sleep(3 * chunk)
		for c, want := range []int{1024, 500} {
			n, twice := late.has(c)
			require.Equal(t, want, n, "chunk %d", c)
			require.Zero(t, twice)
		}
		require.Zero(t, b.client(2).Repairs, "waiting is not losing")
		require.EqualValues(t, 5, b.client(1).Repairs)
		late.some(0, wire.RangeBitmap(3, 4), 1)
		time.Sleep(time.Second)
		require.EqualValues(t, 4, b.client(2).Repairs, "it was there for the repeat")
		st := b.end()
		require.EqualValues(t, 14*1024+1024+500+5+4-5, st.BlocksSent, "%+v", st)
		require.EqualValues(t, 3, st.Merged)
	})
}

// TestWhoWasThere: all of a chunk again is a repeat, whoever asks; a client that
// joins again after an outage is still owed its repairs; one whose join was not
// heard, because the server was restarted since, counts as having been there.
func TestWhoWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(8)
		b := start(t, Config{Image: img, Fixed: true, Rate: 200e6})
		early, nameless := b.peer(1, img), b.peer(2, img)
		early.join(1)
		early.whole(0)
		time.Sleep(time.Second)
		early.join(1)
		for c := 1; c < 8; c++ {
			early.whole(c)
		}
		early.some(0, wire.FullBitmap(), 1)
		require.Equal(t, 1, b.s.Stats().Deferred)
		early.some(0, wire.RangeBitmap(0, 512), 1)
		nameless.some(0, wire.RangeBitmap(512, 511), 1)
		require.Equal(t, 1, b.s.Stats().Deferred)
		nameless.some(0, wire.RangeBitmap(1023, 1), 1)
		require.Zero(t, b.s.Stats().Deferred, "all of it was promoted")
		time.Sleep(time.Second)
		require.EqualValues(t, 9*1024, b.end().BlocksSent)
	})
}
