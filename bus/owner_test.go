package bus_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus/bustest"
)

func TestOwners(t *testing.T) {
	h := bustest.Start(t)
	ctx := within(t)
	a, err := h.Connect(t).Owners(ctx, time.Hour)
	require.NoError(t, err)
	b, err := h.Connect(t).Owners(ctx, time.Hour)
	require.NoError(t, err)
	yes := func(ok bool, err error) { t.Helper(); require.NoError(t, err); require.True(t, ok) }
	no := func(ok bool, err error) { t.Helper(); require.NoError(t, err); require.False(t, ok) }
	const key = "omf.nicta.node1 / 9006"

	no(b.Renew(ctx, key, "b"))
	yes(a.Acquire(ctx, key, "a"))
	yes(a.Acquire(ctx, key, "a"))
	no(b.Acquire(ctx, key, "b"))
	no(b.Renew(ctx, key, "b"))
	yes(a.Renew(ctx, key, "a"))
	require.NoError(t, b.Release(ctx, key, "b"), "not his: nothing happens")
	holder, err := b.Holder(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "a", holder)
	require.NoError(t, a.Release(ctx, key, "a"))
	require.NoError(t, a.Release(ctx, key, "a"))
	holder, err = b.Holder(ctx, key)
	require.NoError(t, err)
	require.Empty(t, holder)
	no(a.Renew(ctx, key, "a"))
	yes(b.Acquire(ctx, key, "b"))
	no(a.Acquire(ctx, key, "a"))
}

func TestOwnersRace(t *testing.T) {
	h := bustest.Start(t)
	ctx := within(t)
	var wg sync.WaitGroup
	var won atomic.Int64
	for _, who := range []string{"a", "b", "c", "d"} {
		o, err := h.Connect(t).Owners(ctx, time.Hour)
		require.NoError(t, err)
		wg.Go(func() {
			for _, key := range []string{"1", "2", "3", "4", "5"} {
				if ok, err := o.Acquire(ctx, key, who); err == nil && ok {
					won.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(5), won.Load())
}

// TestOwnersExpire lets an ownership run out: the owner finds out, another
// one takes over.
func TestOwnersExpire(t *testing.T) {
	h := bustest.Start(t)
	ctx := within(t)
	o, err := h.Connect(t).Owners(ctx, time.Second)
	require.NoError(t, err)
	begin := time.Now()
	ok, err := o.Acquire(ctx, "k", "a")
	require.NoError(t, err)
	require.True(t, ok)
	// Renewed until well behind the time of the first one.
	for time.Since(begin) < 1500*time.Millisecond {
		ok, err := o.Renew(ctx, "k", "a")
		require.NoError(t, err)
		require.True(t, ok)
	}
	ok, err = o.Acquire(ctx, "k", "b")
	require.NoError(t, err)
	require.False(t, ok)
	renewed := time.Now()
	require.Eventually(t, func() bool {
		ok, err := o.Acquire(ctx, "k", "b")
		return err == nil && ok
	}, bustest.Patience, 20*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(renewed), 700*time.Millisecond)
	ok, err = o.Renew(ctx, "k", "a")
	require.NoError(t, err)
	require.False(t, ok)
}
