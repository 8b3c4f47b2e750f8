package mcast

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// through sends total numbered datagrams over a network and gives what arrives.
func through(t *testing.T, cfg NetworkConfig, wrap func(Conn) Conn, total int) (numbers []uint32, data [][]byte, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(cfg)
		o := Options{Group: group1, Port: 9000, Local: local(1)}
		sender := mustOpen(t, n.Open, o)
		o.Local = local(2)
		receiver := wrap(mustOpen(t, n.Open, o))
		start := time.Now()
		for i := range total {
			d := make([]byte, 64)
			binary.LittleEndian.PutUint32(d, uint32(i))
			require.NoError(t, sender.Send([][]byte{d}))
			time.Sleep(100 * time.Microsecond)
		}
		require.EqualValues(t, total, n.Sent())
		ds := make([]Datagram, 7)
		require.NoError(t, receiver.SetReadDeadline(time.Now().Add(time.Second)))
		for {
			k, err := receiver.Receive(ds)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			require.NoError(t, err)
			for _, d := range ds[:k] {
				numbers = append(numbers, binary.LittleEndian.Uint32(d.Data))
				data = append(data, slices.Clone(d.Data))
			}
			took = time.Since(start)
		}
	})
	return numbers, data, took
}

func identity(c Conn) Conn { return c }

// Loss, duplication and reordering, by the network and by the decorator.
func TestFaults(t *testing.T) {
	const total = 2000
	decorate := func(f Faults) func(Conn) Conn {
		return func(c Conn) Conn { return WithFaults(c, f, 7) }
	}
	for name, tc := range map[string]struct {
		cfg   NetworkConfig
		wrap  func(Conn) Conn
		check func(t *testing.T, numbers []uint32)
	}{
		"clean network":       {NetworkConfig{Seed: 7}, identity, isComplete},
		"clean decorator":     {NetworkConfig{}, decorate(Faults{}), isComplete},
		"network loses":       {NetworkConfig{Seed: 7, Loss: 0.1}, identity, isLossy},
		"decorator loses":     {NetworkConfig{}, decorate(Faults{Loss: 0.1}), isLossy},
		"network duplicates":  {NetworkConfig{Seed: 7, Duplicate: 0.1}, identity, isDoubled},
		"decorator doubles":   {NetworkConfig{}, decorate(Faults{Duplicate: 0.1}), isDoubled},
		"network reorders":    {NetworkConfig{Seed: 7, Reorder: 0.1}, identity, isShuffled},
		"decorator reorders":  {NetworkConfig{}, decorate(Faults{Reorder: 0.1}), isShuffled},
		"only what it should": {NetworkConfig{}, decorate(Faults{Loss: 1, Match: func(d []byte) bool { return d[0] == 0xff }}), isWithout255},
	} {
		t.Run(name, func(t *testing.T) {
			numbers, _, _ := through(t, tc.cfg, tc.wrap, total)
			tc.check(t, slices.Clone(numbers))
			again, _, _ := through(t, tc.cfg, tc.wrap, total)
			require.Equal(t, numbers, again, "the seed decides")
		})
	}
}

func isComplete(t *testing.T, numbers []uint32) {
	require.Len(t, numbers, 2000)
	require.True(t, slices.IsSorted(numbers))
}

func isLossy(t *testing.T, numbers []uint32) {
	require.True(t, slices.IsSorted(numbers))
	require.InDelta(t, 1800, len(numbers), 60)
}

func isDoubled(t *testing.T, numbers []uint32) {
	require.InDelta(t, 2200, len(numbers), 60)
	slices.Sort(numbers)
	require.Len(t, slices.Compact(numbers), 2000)
}

func isShuffled(t *testing.T, numbers []uint32) {
	require.Len(t, numbers, 2000)
	require.False(t, slices.IsSorted(numbers))
	slices.Sort(numbers)
	require.Len(t, slices.Compact(numbers), 2000)
}

func isWithout255(t *testing.T, numbers []uint32) {
	require.Len(t, numbers, 2000-2000/256)
	for _, n := range numbers {
		require.NotEqual(t, byte(0xff), byte(n))
	}
}

func TestFlipBit(t *testing.T) {
	_, data, _ := through(t, NetworkConfig{}, func(c Conn) Conn { return WithFaults(c, Faults{FlipBit: 10}, 3) }, 500)
	require.Len(t, data, 500)
	for i, d := range data {
		want := make([]byte, 64)
		binary.LittleEndian.PutUint32(want, uint32(i))
		diff := 0
		for k := range d {
			diff += bits.OnesCount8(d[k] ^ want[k])
		}
		if (i+1)%10 == 0 {
			require.Equal(t, 1, diff, "datagram %d", i)
		} else {
			require.Zero(t, diff, "datagram %d", i)
		}
	}
}

func TestDelay(t *testing.T) {
	_, _, took := through(t, NetworkConfig{Delay: 50 * time.Millisecond}, identity, 10)
	require.Equal(t, 900*time.Microsecond+50*time.Millisecond, took)
}
