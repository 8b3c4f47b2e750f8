package client

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

type nowhere struct{}

func (nowhere) Install(context.Context, int, []byte) error { return nil }

// TestReportWaitsForTheQueue: a report waits a while for an empty receive queue,
// unless that fills up, and says how full it was meanwhile.
func TestReportWaitsForTheQueue(t *testing.T) {
	for name, tc := range map[string]struct {
		queued int // of 100
		more   time.Duration
		after  time.Duration
		want   uint32
	}{
		"empty":       {queued: 0, after: 0, want: 0},
		"caught up":   {queued: 10, more: 20 * time.Millisecond, after: 20 * time.Millisecond, want: 100},
		"never empty": {queued: 10, more: time.Second, after: catchUp, want: 100},
		"filling up":  {queued: 40, more: time.Second, after: 0, want: 400},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := mcast.NewNetwork(mcast.NetworkConfig{Queue: 100})
				open := func(local string) mcast.Conn {
					c, err := n.Open(mcast.Options{Group: netip.MustParseAddr("239.255.79.1"), Port: 9002, Local: netip.MustParseAddr(local)})
					require.NoError(t, err)
					t.Cleanup(func() { _ = c.Close() })
					return c
				}
				server, conn := open("10.99.0.1"), open("10.99.0.2")
				c, err := New(Config{Conn: conn, Installer: nowhere{}})
				require.NoError(t, err)
				c.server = server.Addr().Addr()
				for range tc.queued {
					require.NoError(t, server.Send([][]byte{{0}}))
				}
				start := time.Now()
				c.tell.ask(c, wire.Ask{Every: 250, Burst: 4}, start.Add(-time.Hour))
				c.now.Blocks = 1
				for c.now.Reports == 0 {
					since := time.Since(start)
					require.NoError(t, c.tell.due(c, time.Now(), tc.queued > 0 && since < max(tc.more, 1)))
					if c.now.Reports == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				require.Equal(t, tc.after, time.Since(start))
				ds := make([]mcast.Datagram, mcast.BatchSize)
				for { // it hears its own datagrams, too
					k, err := server.Receive(ds)
					require.NoError(t, err)
					var p wire.Packet
					if k > 0 && p.Decode(ds[0].Data) == nil && p.Subtype == wire.Reports {
						require.Equal(t, tc.want, p.Report.Backlog)
						return
					}
				}
			})
		})
	}
}
