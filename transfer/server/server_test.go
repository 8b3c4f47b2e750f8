package server

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	group = netip.MustParseAddr("239.255.79.1")
	self  = netip.MustParseAddr("10.99.0.1")
)

func TestJoinIsAnsweredBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(3)
		b := start(t, Config{Image: img, AskProgress: 2 * time.Second})
		one, two := b.peer(1, img), b.peer(2, img)
		one.join(77)
		reply := wire.Packet{Type: wire.TypeReply, Subtype: wire.Join, Source: self.As4(), Blocks: 3072}
		ask := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Progress, Source: self.As4(), ClientID: 77, When: 2, What: 1, Seq: 1}
		report := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Reports, Source: self.As4(), Ask: wire.Ask{Every: 250, Burst: reportsFirst}}
		require.Equal(t, []wire.Packet{reply, reply, report, ask}, one.others)
		require.Len(t, two.others, 4) // the join, the answer and the questions, by multicast only
		one.others = nil
		one.send(wire.Packet{Subtype: wire.Join2, ClientID: 78})
		reply = wire.Packet{Type: wire.TypeReply, Subtype: wire.Join2, Source: self.As4(), ClientID: 78, Blocks: 3072,
			BlocksPerChunk: 1024, BlockSize: 1024, Size: 3 << 20}
		require.Equal(t, []wire.Packet{reply, reply}, one.others[:2])
		require.EqualValues(t, 2, b.end().Joins)
	})
}

// TestMuteClientsAreAskedAgain: the question for reports may be lost. A client
// that does not answer hears it some times more, alone, one whose join was not
// heard at once; who answered is left in peace.
func TestMuteClientsAreAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(3)
		b := start(t, Config{Image: img})
		mute, nameless, answering := b.peer(1, img), b.peer(2, img), b.peer(3, img)
		asked := func(p *peer) (n int) {
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, w := range p.others {
				if w.Subtype == wire.Reports && w.Type == wire.TypeRequest {
					n++
				}
			}
			p.others = nil
			return n
		}
		mute.join(1)
		answering.join(3)
		require.Equal(t, 2, asked(mute), "every question goes to all")
		require.Equal(t, 2, asked(answering))
		answering.send(wire.Packet{Type: wire.TypeReply, Subtype: wire.Reports, ClientID: 3, Report: wire.Report{LastChunk: -1}})
		nameless.whole(0)
		require.Equal(t, 3, asked(nameless))
		mute.whole(0)
		require.Zero(t, asked(mute), "the answer may still come")
		total := 0
		for range 120 {
			time.Sleep(500 * time.Millisecond)
			mute.whole(1)
			answering.whole(1)
			total += asked(mute)
		}
		require.Equal(t, asksMost-1, total)
		require.Zero(t, asked(answering))
		b.end()
	})
}

// TestHostileRequests: what aborted an original server does nothing here.
func TestHostileRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(2)
		b := start(t, Config{Image: img})
		p := b.peer(1, img)
		p.send(wire.Packet{Subtype: wire.Request, Count: 0})
		p.send(wire.Packet{Subtype: wire.Request, Block: 1, Count: math.MaxInt32})
		p.send(wire.Packet{Subtype: wire.Request, Block: 1000, Count: 25})
		p.send(wire.Packet{Subtype: wire.PRequest})
		p.whole(2)
		p.some(1<<30, wire.FullBitmap(), 0)
		p.send(wire.Packet{Subtype: wire.Request, Count: 1024, Source: [4]byte{9, 9, 9, 9}})
		p.send(wire.Packet{Type: wire.TypeReply, Subtype: wire.Join, Blocks: 5})
		p.send(wire.Packet{Subtype: wire.Block, Chunk: 0, Data: nil})
		require.NoError(t, p.conn.Send([][]byte{{1}, bytes.Repeat([]byte{0xff}, 2000)}))
		time.Sleep(time.Second)
		st := b.end()
		require.Zero(t, st.BlocksSent)
		require.EqualValues(t, 2, st.Empty)
		require.EqualValues(t, 2, st.OutOfRange)
		require.EqualValues(t, 1, st.BadSource)
		require.EqualValues(t, 4, st.Undecodable)
	})
}

func TestRequestsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(3)
		b := start(t, Config{Image: img})
		p := b.peer(1, img)
		p.join(1)
		p.whole(2)
		p.send(wire.Packet{Subtype: wire.Request, Chunk: 0, Block: 1000, Count: 24})
		var m wire.Bitmap
		for _, i := range []int{0, 7, 8, 512, 1023} {
			m.Set(i)
		}
		p.some(1, m, 0)
		time.Sleep(time.Second)
		for chunk, want := range []int{24, 5, 1024} {
			n, twice := p.has(chunk)
			require.Equal(t, want, n, "chunk %d", chunk)
			require.Zero(t, twice)
		}
		st := b.end()
		require.EqualValues(t, 1024+24+5, st.BlocksSent)
		require.Zero(t, st.Resent)
	})
}

// TestLateJoinerIsNotSwallowed: its request arrives while its chunk is being
// sent; it gets the beginning afterwards without asking again, and only that.
func TestLateJoinerIsNotSwallowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(2)
		b := start(t, Config{Image: img, Fixed: true, Rate: 20e6}) // 0.46 s for a chunk
		early := b.peer(1, img)
		early.join(1)
		early.whole(0)
		early.whole(1)
		time.Sleep(150 * time.Millisecond)
		missed, _ := early.has(0)
		require.InDelta(t, 336, missed, 20)
		late := b.peer(2, img)
		late.join(2)
		late.whole(0)
		time.Sleep(2 * time.Second)
		n, twice := late.has(0)
		require.Equal(t, 1024, n)
		require.Zero(t, twice)
		_, twice = early.has(0)
		require.InDelta(t, missed, twice, 10)
		require.LessOrEqual(t, b.end().BlocksSent, uint64(2048+missed+10))
	})
}

// TestCrossingRequests: whoever was listening and asks for what is being sent,
// or just was, costs nothing. Who asks again later, or by name, is answered.
func TestCrossingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(1)
		b := start(t, Config{Image: img, Fixed: true, Rate: 200e6}) // 46 ms for a chunk
		one, two := b.peer(1, img), b.peer(2, img)
		one.join(1)
		two.join(2)
		time.Sleep(time.Millisecond)
		one.whole(0)
		time.Sleep(20 * time.Millisecond)
		two.whole(0) // in the middle
		time.Sleep(60 * time.Millisecond)
		two.whole(0) // just after
		time.Sleep(time.Second)
		require.EqualValues(t, 1024, b.s.Stats().BlocksSent)
		require.Greater(t, b.s.Stats().Heard, uint64(1024+300), "the second question was about all of it, the first about what was sent")
		two.whole(0) // a second later it is a new wish
		time.Sleep(time.Second)
		require.EqualValues(t, 2048, b.s.Stats().BlocksSent)
		two.some(0, wire.RangeBitmap(10, 5), 1)
		time.Sleep(time.Second)
		require.EqualValues(t, 2053, b.end().BlocksSent)
	})
}

// TestDamagedChunkIsNotSent: not one byte of it.
func TestDamagedChunkIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(4)
		wrong := errors.New("digest differs")
		b := start(t, Config{Image: img, Check: func(chunk int, data []byte) error {
			want := make([]byte, wire.ChunkSize)
			_, _ = img.ReadAt(want, int64(chunk)*wire.ChunkSize)
			if chunk == 2 || !bytes.Equal(want, data) {
				return wrong
			}
			return nil
		}})
		p := b.peer(1, img)
		p.join(1)
		p.whole(0)
		time.Sleep(time.Second)
		p.whole(2)
		err := <-b.done
		var damaged *DamagedError
		require.ErrorAs(t, err, &damaged)
		require.ErrorIs(t, err, wrong)
		require.Equal(t, DamagedError{Chunk: 2, First: 2 << 20, Last: 3 << 20, Err: wrong}, *damaged)
		require.ErrorContains(t, err, "chunk 2 (bytes 2097152 to 3145728), not sent")
		n, _ := p.has(2)
		require.Zero(t, n)
		n, _ = p.has(0)
		require.Equal(t, 1024, n)
	})
}

// flaky is an image whose reads of one chunk take long, or fail.
type flaky struct {
	*bytes.Reader
	chunk int64
	pause time.Duration
	fail  int // so many times
	mu    sync.Mutex
}

func (f *flaky) ReadAt(b []byte, off int64) (int, error) {
	if off/wire.ChunkSize == f.chunk {
		time.Sleep(f.pause)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fail > 0 {
			f.fail--
			return 0, os.ErrDeadlineExceeded
		}
	}
	return f.Reader.ReadAt(b, off)
}

// TestSlowReadDoesNotStall: the others are sent meanwhile.
func TestSlowReadDoesNotStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(4)
		b := start(t, Config{Image: &flaky{Reader: img, chunk: 0, pause: 5 * time.Second}})
		p := b.peer(1, img)
		p.join(1)
		for c := range 4 {
			p.whole(c)
		}
		time.Sleep(4 * time.Second)
		for chunk, want := range []int{0, 1024, 1024, 1024} {
			n, _ := p.has(chunk)
			require.Equal(t, want, n)
		}
		time.Sleep(4 * time.Second)
		n, _ := p.has(0)
		require.Equal(t, 1024, n)
		b.end()
	})
}

func TestReadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(2)
		src := &flaky{Reader: img, chunk: 1, fail: 30}
		b := start(t, Config{Image: src})
		p := b.peer(1, img)
		p.join(1)
		p.whole(1)
		time.Sleep(5 * time.Second)
		n, _ := p.has(1)
		require.Equal(t, 1024, n, "a file server may be away for some seconds")
		b.end()
	})
	synctest.Test(t, func(t *testing.T) {
		img := image(2)
		b := start(t, Config{Image: &flaky{Reader: img, chunk: 1, fail: math.MaxInt}})
		p := b.peer(1, img)
		p.whole(1)
		begin := time.Now()
		err := <-b.done
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, err, "read chunk 1 (bytes 1048576 to 2097152 of the image), tried 100 times")
		require.InDelta(t, 10, time.Since(begin).Seconds(), 0.2)
	})
}

func TestEnds(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			img := image(1)
			b := start(t, Config{Image: img, Idle: 10 * time.Second})
			p := b.peer(1, img)
			begin := time.Now()
			time.Sleep(8 * time.Second)
			p.whole(0)
			require.ErrorIs(t, <-b.done, ErrIdle)
			require.Equal(t, 18*time.Second, time.Since(begin))
		})
	})
	t.Run("all left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			img := image(1)
			b := start(t, Config{Image: img, UntilLeft: true})
			one, two := b.peer(1, img), b.peer(2, img)
			begin := time.Now()
			one.join(1)
			two.join(2)
			one.send(wire.Packet{Subtype: wire.Leave, ClientID: 1, Elapsed: 3})
			time.Sleep(time.Minute)
			two.send(wire.Packet{Subtype: wire.Leave2, ClientID: 2, Elapsed: 4, Layout: wire.LayoutLP64, Stats: wire.Stats{Version: 1, LostBlocks: 5}})
			require.ErrorIs(t, <-b.done, ErrAllLeft)
			require.Equal(t, time.Minute+leftGrace, time.Since(begin))
			byID := map[uint32]ClientInfo{}
			for _, c := range b.s.Clients() {
				byID[c.ID] = c
			}
			require.Equal(t, 3*time.Second, byID[1].Elapsed)
			require.EqualValues(t, 5, byID[2].Stats.LostBlocks)
			require.NotZero(t, byID[1].Left)
		})
	})
}

func TestClientTableIsBounded(t *testing.T) {
	now := time.Now()
	tab := newTable()
	for i := range 5000 {
		tab.join(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint32(i), now.Add(time.Duration(i)))
	}
	require.Len(t, tab.rows, maxClients)
	require.Len(t, tab.latest, maxClients)
	tab.leave(netip.AddrFrom4([4]byte{10, 0, byte(4999 >> 8), 4999 & 0xff}), 4999, 0, now.Add(time.Hour))
	tab.touch(netip.MustParseAddr("1.1.1.1"), now)
	require.NotContains(t, tab.rows, key{netip.AddrFrom4([4]byte{10, 0, byte(4999 >> 8), 4999 & 0xff}), 4999}, "who left goes first")
	require.Len(t, tab.rows, maxClients)
}

func TestConfigIsChecked(t *testing.T) {
	conn, err := mcast.NewNetwork(mcast.NetworkConfig{}).Open(mcast.Options{Group: group, Port: port, Local: self})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		cfg  Config
		text string
	}{
		"no conn":       {Config{Image: image(1)}, "no Conn"},
		"no image":      {Config{Conn: conn}, "no Image"},
		"empty image":   {Config{Conn: conn, Image: bytes.NewReader(nil)}, "empty"},
		"cut image":     {Config{Conn: conn, Image: bytes.NewReader(make([]byte, 1<<20+5))}, "1048581 bytes, not a whole number"},
		"negative idle": {Config{Conn: conn, Image: image(1), Idle: -1}, "negative"},
		"negative rate": {Config{Conn: conn, Image: image(1), Rate: -2}, "negative"},
	} {
		_, err := New(tc.cfg)
		require.ErrorIs(t, err, ErrConfig, name)
		require.ErrorContains(t, err, tc.text, name)
	}
}
