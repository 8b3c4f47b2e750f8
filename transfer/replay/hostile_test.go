package replay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// mutant makes a hostile datagram of a recorded one: damaged in some bits, cut
// off, grown, with numbers at their limits, or nothing but noise. It claims to
// come from source, for else it would be dropped at the first look.
func mutant(r *rand.Rand, seeds [][]byte, source netip.Addr) []byte {
	d := bytes.Clone(seeds[r.IntN(len(seeds))])
	le := binary.LittleEndian
	switch r.IntN(6) {
	case 0:
		for i := range d {
			d[i] = byte(r.Uint32())
		}
	case 1:
		for range 1 + r.IntN(8) {
			d[r.IntN(len(d))] ^= 1 << r.IntN(8)
		}
	case 2:
		return d[:1+r.IntN(len(d)-1)]
	case 3:
		d = append(d, make([]byte, r.IntN(4096))...)
	case 4: // a number at its limit
		limits := [...]uint32{0, 1, 4, 1023, 1024, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1}
		le.PutUint32(d[4*r.IntN(len(d)/4):], limits[r.IntN(len(limits))])
	case 5: // right, but somebody else's: a demand at the wrong time
	}
	if len(d) >= wire.HeaderSize {
		a := source.As4()
		copy(d[12:16], a[:])
	}
	return d
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostileDatagrams: clients load to the end and the server serves, with
// memory that does not grow, whatever two hostile hosts send to all of them:
// one under its own address, one in the name of an honest client. (Nobody can
// be protected from one who speaks in the name of the server: §12.)
func TestHostileDatagrams(t *testing.T) {
	var seeds [][]byte
	for _, file := range []string{"omf-small-loss2pct", "emulab-progress"} {
		blocks := 0
		for _, h := range load(t, file).all {
			// Blocks are nearly all of a recording; a few will do.
			if h.p.Subtype == wire.Block {
				if blocks++; blocks > 4 {
					continue
				}
			}
			seeds = append(seeds, h.data)
		}
	}
	require.Len(t, seeds, 12+4+15+4)
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			before := heap()
			rec := load(t, "omf-small-1client")
			n := mcast.NewNetwork(mcast.NetworkConfig{Seed: seed, Delay: 100 * time.Microsecond})
			conn := open(t, n, rec, rec.server, server.Ignore())
			s, err := server.New(server.Config{Conn: conn, Image: bytes.NewReader(rec.image), Rate: 100e6, AskProgress: time.Second})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()

			var all, loads sync.WaitGroup
			address := func(i int) netip.AddrPort {
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(20 + i)}), rec.group.Port())
			}
			const clients = 3
			hosts := []netip.AddrPort{rec.group, rec.server}
			for i := range clients {
				hosts = append(hosts, address(i))
			}
			for i, own := range []netip.AddrPort{address(100), address(0)} {
				c := open(t, n, rec, own, nil)
				// It was there first, so what is sent to the honest client's address reaches that.
				all.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(i)))
					for ctx.Err() == nil {
						for range 10 {
							require.NoError(t, c.SendTo(hosts[r.IntN(len(hosts))], mutant(r, seeds, own.Addr())))
						}
						time.Sleep(time.Millisecond)
					}
					require.NoError(t, c.Close())
				})
			}
			var stats [clients]client.Stats
			for i := range clients {
				c := open(t, n, rec, address(i), nil)
				disk := &shelf{want: rec.image, got: map[int]bool{}}
				cl, err := client.New(client.Config{Conn: c, Server: rec.server.Addr(), Installer: disk, Workers: 2,
					JoinTimeout: 10 * time.Second, StallTimeout: 10 * time.Second, Rand: rand.New(rand.NewPCG(seed, uint64(i)))})
				require.NoError(t, err)
				loads.Go(func() {
					defer c.Close()
					var err error
					stats[i], err = cl.Run(ctx)
					require.NoError(t, err, "client %d: %+v", i, stats[i])
					require.Len(t, disk.got, rec.chunks())
				})
			}
			loads.Wait()
			st := s.Stats()
			grown := heap() - before
			select {
			case err := <-done:
				t.Errorf("the server ended: %v", err)
			default:
				cancel()
				require.ErrorIs(t, <-done, context.Canceled)
			}
			all.Wait()
			require.NoError(t, conn.Close())
			require.Positive(t, st.Undecodable, "nothing hostile reached the server")
			require.Positive(t, st.OutOfRange+st.Empty)
			require.Positive(t, st.PartialRequests)
			for i, s := range stats {
				require.Positive(t, s.Bad, "nothing hostile reached client %d", i)
				require.Positive(t, s.Foreign)
			}
			require.LessOrEqual(t, len(s.Clients()), 1024)
			require.Less(t, grown, int64(96<<20), "bytes in use")
			t.Logf("seed %d: %d joins, %d undecodable, %d+%d requests, %d blocks sent; slowest %v",
				seed, st.Joins, st.Undecodable, st.Requests, st.PartialRequests, st.BlocksSent, max(stats[0].Elapsed, stats[1].Elapsed, stats[2].Elapsed))
		})
	}
}
