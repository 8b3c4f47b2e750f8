package mcast

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHosts: what a link, a switch port, a slow program and a small receive
// queue do to a stream of datagrams.
func TestHosts(t *testing.T) {
	const total, size = 2000, 1048 // 8912 bits each on Ethernet
	slot := time.Duration(serial(size, 1e9))
	stream := total * slot // at 1 Gbit/s
	for name, tc := range map[string]struct {
		sender, receiver Host
		cfg              NetworkConfig
		got, overruns    int
		least, most      time.Duration // when the last one is taken
	}{
		"no limits":     {got: total},
		"sender's link": {sender: Host{Rate: 1e9}, got: total, least: stream, most: stream},
		"own link":      {receiver: Host{Rate: 1e9}, got: total, least: stream, most: stream},
		"both and the way": {sender: Host{Rate: 1e9}, receiver: Host{Rate: 1e9}, cfg: NetworkConfig{Delay: time.Millisecond},
			got: total, least: stream + slot + time.Millisecond, most: stream + slot + time.Millisecond},
		// Half of the rate passes, and what the port holds.
		"small port": {sender: Host{Rate: 1e9}, receiver: Host{Rate: 5e8, Port: 100 * (size + wireOverhead)},
			got: total/2 + 100, least: stream, most: stream + 210*slot},
		"a busy program": {sender: Host{Rate: 1e9}, receiver: Host{Each: 2 * slot, Queue: 100},
			got: total/2 + 100, overruns: total/2 - 100, least: stream, most: stream + 300*slot},
		"a small queue": {receiver: Host{Queue: 100}, got: 100, overruns: total - 100},
		"coalesced":     {sender: Host{Rate: 1e9}, receiver: Host{Coalesce: 50 * time.Millisecond}, got: total, least: 50 * time.Millisecond, most: 50 * time.Millisecond},
		"reordered":     {cfg: NetworkConfig{Reorder: 0.5}, got: total, most: 2 * time.Millisecond},
		"lossy":         {cfg: NetworkConfig{Loss: 0.1}, receiver: Host{Loss: 0.2}, got: total * 72 / 100},
		"deaf":          {receiver: Host{Loss: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(tc.cfg)
				from, err := n.OpenHost(Options{Group: group1, Port: 1, Local: local(1)}, tc.sender)
				require.NoError(t, err)
				to, err := n.OpenHost(Options{Group: group1, Port: 1, Local: local(2)}, tc.receiver)
				require.NoError(t, err)
				begin := time.Now()
				for i := range total / 20 {
					var ds [][]byte
					for k := range 20 {
						d := make([]byte, size)
						binary.LittleEndian.PutUint32(d, uint32(i*20+k))
						ds = append(ds, d)
					}
					require.NoError(t, from.Send(ds))
				}
				var last time.Duration
				seen := map[uint32]bool{}
				require.NoError(t, to.SetReadDeadline(time.Now().Add(time.Second)))
				for ds := make([]Datagram, BatchSize); ; {
					k, err := to.Receive(ds)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					require.NoError(t, err)
					last = time.Since(begin)
					for _, d := range ds[:k] {
						seen[binary.LittleEndian.Uint32(d.Data)] = true
					}
				}
				margin := total / 40
				if tc.got == total || tc.got == 0 {
					margin = 0
				}
				require.InDelta(t, tc.got, len(seen), float64(margin))
				require.InDelta(t, tc.overruns, to.Overruns(), float64(margin))
				require.GreaterOrEqual(t, last, tc.least)
				require.LessOrEqual(t, last, tc.most)
			})
		})
	}
}

// TestFullSendBuffer: a program cannot be ahead of its link by more than its
// send buffer.
func TestFullSendBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1048
		n := NewNetwork(NetworkConfig{})
		c, err := n.OpenHost(Options{Group: group1, Port: 1, Local: local(1), WriteBuffer: 100 * (size + wireOverhead)}, Host{Rate: 1e9})
		require.NoError(t, err)
		begin := time.Now()
		for range 1000 {
			require.NoError(t, c.Send([][]byte{make([]byte, size)}))
		}
		require.InDelta(t, float64(900*serial(size, 1e9)), float64(time.Since(begin)), 1e6)
	})
}
