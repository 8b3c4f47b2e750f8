package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/internal/large"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

// legacyServer answers as the original servers do (§4, §7): joins by unicast
// (OMF era) or multicast (2020), requests one after the other without merging,
// with the original's burst and gap. It fails the test on a datagram that would
// have killed or confused an original.
func legacyServer(l *lab, omfEra bool) (stop func()) {
	conn := l.open(serverAddr(), true)
	source := serverAddr().As4()
	type work struct {
		chunk int
		want  wire.Bitmap
	}
	queue := make(chan work, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(queue)
		ds := make([]mcast.Datagram, mcast.BatchSize)
		for {
			n, err := conn.Receive(ds)
			if err != nil {
				return
			}
			for _, d := range ds[:n] {
				var p wire.Packet
				if err := p.Decode(d.Data); err != nil {
					l.t.Errorf("an original would log this datagram as bad: %v", err)
					continue
				}
				if d.From.Port() != memPort || p.SourceAddr() != d.From.Addr() {
					l.t.Errorf("%v from %v claims %v", p.Subtype, d.From, p.SourceAddr())
				}
				switch {
				case p.Subtype == wire.Join && p.Type == wire.TypeRequest:
					r := wire.Packet{Type: wire.TypeReply, Subtype: wire.Join, Source: source, Blocks: uint32(l.image.Size() / wire.BlockSize)}
					if omfEra {
						err = conn.SendTo(netip.AddrPortFrom(d.From.Addr(), memPort), r.Append(nil))
					} else {
						err = conn.Send([][]byte{r.Append(nil)})
					}
					if err != nil {
						l.t.Errorf("answer a join: %v", err)
					}
				case p.Subtype == wire.Request:
					if p.Count != wire.BlocksPerChunk || p.Block != 0 {
						l.t.Errorf("REQUEST for blocks %d+%d; originals only ever ask for whole chunks", p.Block, p.Count)
					}
					queue <- work{int(p.Chunk), wire.FullBitmap()}
				case p.Subtype == wire.PRequest:
					if p.Wanted.Empty() {
						l.t.Error("PREQUEST for nothing")
					}
					queue <- work{int(p.Chunk), p.Wanted}
				case omfEra && p.Subtype > wire.PRequest:
					l.t.Errorf("%v is unknown to an OMF-era server", p.Subtype)
				}
			}
		}
	})
	wg.Go(func() {
		data := make([]byte, wire.BlockSize)
		for w := range queue {
			for b := w.want.Next(0); b >= 0; b = w.want.Next(b + 1) {
				if _, err := l.image.ReadAt(data, int64(w.chunk)*wire.ChunkSize+int64(b)*wire.BlockSize); err != nil {
					l.t.Errorf("chunk %d block %d was asked for: %v", w.chunk, b, err)
				}
				p := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Block, Source: source, Chunk: int32(w.chunk), Block: int32(b), Data: data}
				if conn.Send([][]byte{p.Append(nil)}) != nil {
					return
				}
				if b%16 == 15 {
					time.Sleep(2 * time.Millisecond) // burst and gap of the original
				}
			}
		}
	})
	return func() { _ = conn.Close(); wg.Wait() }
}

// TestLegacyServers: our clients load from both generations, with and without loss.
func TestLegacyServers(t *testing.T) {
	for _, omfEra := range []bool{true, false} {
		for _, loss := range []float64{0, 0.02} {
			t.Run(fmt.Sprintf("OMF era %v, loss %v", omfEra, loss), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{Seed: 3, Loss: loss}), image: image(1, 6)}
					stop := legacyServer(l, omfEra)
					out := l.loadAll(3, 5*time.Millisecond, nil)
					l.complete(t, out)
					stop()
					require.Equal(t, serverAddr(), out[0].stats.Server)
				})
			})
		}
	}
}

// legacyClient receives as an OMF-era client does (§5): it asks for 64 chunks at
// once, asks again after a second, and takes others' requests for its own. It
// gives the time it took.
func legacyClient(l *lab, i int) time.Duration {
	conn := l.open(clientAddr(i), false)
	defer conn.Close()
	begin := time.Now()
	send := func(p wire.Packet) {
		p.Type, p.Source = wire.TypeRequest, clientAddr(i).As4()
		require.NoError(l.t, conn.Send([][]byte{p.Append(nil)}))
	}
	chunks := int(l.image.Size() / wire.ChunkSize)
	missing := make([]wire.Bitmap, chunks)
	for k := range missing {
		missing[k] = wire.FullBitmap()
	}
	lastReq := make([]time.Time, chunks)
	left, joined, idle := chunks, false, 3
	ask := func(now time.Time, timedOut bool) {
		buffers := 64
		for k := range chunks {
			m := &missing[(k*7+i)%chunks]
			if m.Empty() {
				continue
			}
			if buffers--; buffers < 0 {
				return
			}
			c := (k*7 + i) % chunks
			if !timedOut && now.Sub(lastReq[c]) < time.Second {
				continue
			}
			lastReq[c] = now
			if m.Count() == wire.BlocksPerChunk {
				send(wire.Packet{Subtype: wire.Request, Chunk: int32(c), Count: wire.BlocksPerChunk})
			} else {
				send(wire.Packet{Subtype: wire.PRequest, Chunk: int32(c), Wanted: *m})
			}
		}
	}
	send(wire.Packet{Subtype: wire.Join, ClientID: uint32(i + 1)})
	ds := make([]mcast.Datagram, mcast.BatchSize)
	want := make([]byte, wire.BlockSize)
	for left > 0 {
		require.NoError(l.t, conn.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
		n, err := conn.Receive(ds)
		now := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if idle--; idle <= 0 && joined {
				ask(now, true)
				idle = 3
			}
			continue
		}
		require.NoError(l.t, err)
		for _, d := range ds[:n] {
			var p wire.Packet
			require.NoError(l.t, p.Decode(d.Data))
			switch {
			case p.Subtype == wire.Join && p.Type == wire.TypeReply:
				joined = true
			case !joined:
			case p.Subtype == wire.Request || p.Subtype == wire.PRequest:
				if p.Subtype == wire.PRequest && !p.Wanted.Covers(&missing[p.Chunk]) {
					continue
				}
				lastReq[p.Chunk] = now
			case p.Subtype == wire.Block && missing[p.Chunk].Has(int(p.Block)):
				_, err := l.image.ReadAt(want, int64(p.Chunk)*wire.ChunkSize+int64(p.Block)*wire.BlockSize)
				require.NoError(l.t, err)
				require.True(l.t, bytes.Equal(want, p.Data))
				missing[p.Chunk].Clear(int(p.Block))
				lastReq[p.Chunk], idle = now, 3
				if missing[p.Chunk].Empty() {
					left--
					ask(now, false)
				}
			}
		}
	}
	send(wire.Packet{Subtype: wire.Leave, ClientID: uint32(i + 1)})
	return time.Since(begin)
}

// TestLegacyLateJoiners: an original client that joins late slows ours down as
// little as one of ours does, and an original that was there first is slowed
// down as little.
func TestLegacyLateJoiners(t *testing.T) {
	large.Test(t)
	t.Parallel()
	const chunks, half = 24, 550 * time.Millisecond
	img := image(9, chunks)
	ours := func(l *lab, i int) time.Duration {
		o := l.load(i, nil)
		l.complete(l.t, []outcome{o})
		return o.stats.Elapsed
	}
	type load func(l *lab, i int) time.Duration
	run := func(t *testing.T, first, late load) (took, last time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			l := &lab{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{Delay: 100 * time.Microsecond}), image: img}
			_, stop := l.serve(func(c *server.Config) { c.Rate, c.Fixed = 200e6, true })
			var wg sync.WaitGroup
			if late != nil {
				wg.Go(func() {
					time.Sleep(half)
					last = half + late(l, 1)
				})
			}
			took = first(l, 0)
			wg.Wait()
			require.Error(t, stop())
		})
		return took, last
	}
	for name, tc := range map[string][2]load{
		"original after ours": {ours, legacyClient},
		"ours after original": {legacyClient, ours},
		"both originals":      {legacyClient, legacyClient},
	} {
		t.Run(name, func(t *testing.T) {
			alone, _ := run(t, tc[0], nil)
			first, last := run(t, tc[0], tc[1])
			t.Logf("alone %v, then %v, the late one until %v", alone, first, last)
			require.LessOrEqual(t, first, alone*110/100)
			require.LessOrEqual(t, last, first+alone)
		})
	}
}
