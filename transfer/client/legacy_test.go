package client_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
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
