package server

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

const port = 9002

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 1, byte(i)}) }

func image(chunks int) *bytes.Reader {
	b := make([]byte, chunks*wire.ChunkSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return bytes.NewReader(b)
}

// bench is a server on an in-memory network without delay, for peers which
// speak the protocol by hand.
type bench struct {
	t    *testing.T
	net  *mcast.Network
	s    *Server
	conn mcast.Conn
	done chan error
	stop context.CancelFunc
}

func start(t *testing.T, cfg Config) *bench {
	b := &bench{t: t, net: mcast.NewNetwork(mcast.NetworkConfig{}), done: make(chan error, 1)}
	conn, err := b.net.Open(mcast.Options{Group: group, Port: port, Local: self, Ignore: Ignore(), Exclusive: true})
	require.NoError(t, err)
	b.conn, cfg.Conn = conn, conn
	if cfg.Rate == 0 {
		cfg.Rate = 100e6
	}
	b.s, err = New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() { b.done <- b.s.Run(ctx) }()
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	return b
}

// end stops the server and gives its figures.
func (b *bench) end() Stats {
	b.t.Helper()
	synctest.Wait()
	b.stop()
	require.ErrorIs(b.t, <-b.done, context.Canceled)
	return b.s.Stats()
}

// peer is a client by hand. It remembers how often each block came.
type peer struct {
	t      *testing.T
	conn   mcast.Conn
	addr   netip.Addr
	mu     sync.Mutex
	blocks map[[2]int32]int
	others []wire.Packet
	bad    int
	image  *bytes.Reader
}

func (b *bench) peer(i int, img *bytes.Reader) *peer {
	conn, err := b.net.Open(mcast.Options{Group: group, Port: port, Local: addr(i)})
	require.NoError(b.t, err)
	p := &peer{t: b.t, conn: conn, addr: addr(i), blocks: map[[2]int32]int{}, image: img}
	var wg sync.WaitGroup
	wg.Go(p.read)
	b.t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	return p
}

func (p *peer) read() {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	want := make([]byte, wire.BlockSize)
	for {
		n, err := p.conn.Receive(ds)
		if err != nil {
			return
		}
		p.mu.Lock()
		for _, d := range ds[:n] {
			var w wire.Packet
			if w.Decode(d.Data) != nil || w.SourceAddr() != d.From.Addr() {
				p.bad++
				continue
			}
			if w.Subtype != wire.Block {
				p.others = append(p.others, w)
				continue
			}
			_, _ = p.image.ReadAt(want, int64(w.Chunk)*wire.ChunkSize+int64(w.Block)*wire.BlockSize)
			if !bytes.Equal(want, w.Data) {
				p.bad++
			}
			p.blocks[[2]int32{w.Chunk, w.Block}]++
		}
		p.mu.Unlock()
	}
}

func (p *peer) send(w wire.Packet) {
	if w.Source == ([4]byte{}) {
		w.Source = p.addr.As4()
	}
	if w.Type == 0 {
		w.Type = wire.TypeRequest
	}
	require.NoError(p.t, p.conn.Send([][]byte{w.Append(nil)}))
	synctest.Wait()
}

func (p *peer) join(id uint32) { p.send(wire.Packet{Subtype: wire.Join, ClientID: id}) }

func (p *peer) whole(chunk int) {
	p.send(wire.Packet{Subtype: wire.Request, Chunk: int32(chunk), Count: wire.BlocksPerChunk})
}

func (p *peer) some(chunk int, m wire.Bitmap, again int32) {
	p.send(wire.Packet{Subtype: wire.PRequest, Chunk: int32(chunk), Wanted: m, Retries: again})
}

// has counts the blocks of a chunk, and how many came more than once.
func (p *peer) has(chunk int) (n, twice int) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Zero(p.t, p.bad)
	for k, times := range p.blocks {
		if k[0] == int32(chunk) {
			n++
			if times > 1 {
				twice++
			}
		}
	}
	return n, twice
}
