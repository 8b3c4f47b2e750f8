package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// shelf is an Installer that compares with what was recorded. The payloads were
// recorded in part, so there is nothing to inflate.
type shelf struct {
	want []byte

	mu  sync.Mutex
	got map[int]bool
}

func (s *shelf) Install(_ context.Context, i int, chunk []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.got[i]:
		return fmt.Errorf("chunk %d came twice", i)
	case !bytes.Equal(chunk, s.want[i*wire.ChunkSize:(i+1)*wire.ChunkSize]):
		return fmt.Errorf("chunk %d differs", i)
	}
	s.got[i] = true
	return nil
}

// puppet is the recorded server. It answers the join of our client as it
// answered the recorded one, and then goes on as it did, whatever we say. What
// the recorded client lost does not reach ours either. When the recording is
// over, the puppet answers requests for what it does not hold.
type puppet struct {
	*recording
	t    testing.TB
	conn mcast.Conn
	// missing is what our client lacks, by what it was sent.
	missing []wire.Bitmap
	// asked are the partial requests of our client and what it lacked then.
	asked []asked
	// over says that the recording has ended.
	over bool
	// id is what our client calls itself; it is told where the recorded one was.
	id uint32
}

type asked struct {
	at            time.Duration // since the join
	chunk         int
	wanted, lacks wire.Bitmap
	over          bool
}

// play runs until the connection is closed.
func (p *puppet) play() {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	drop := p.dropped()
	next := 0
	var begin time.Time // of the recording, on our clock
	for {
		for next < len(p.all) && (p.all[next].from != p.server || drop[next]) {
			next++
		}
		p.over = next == len(p.all)
		var until time.Time
		if !begin.IsZero() && !p.over {
			until = begin.Add(p.all[next].at)
		}
		if err := p.conn.SetReadDeadline(until); err != nil {
			return
		}
		n, err := p.conn.Receive(ds)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.send(p.all[next])
			next++
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.t.Errorf("receive: %v", err)
			return
		}
		for _, d := range ds[:n] {
			var q wire.Packet
			if d.From.Addr() == p.server.Addr() || q.Decode(d.Data) != nil {
				continue // an extension; that it is one was seen where it was sent
			}
			switch q.Subtype {
			case wire.Join:
				if begin.IsZero() {
					p.id = q.ClientID
					begin = time.Now().Add(-p.all[0].at)
				}
			case wire.PRequest:
				p.asked = append(p.asked, asked{time.Since(begin.Add(p.all[0].at)), int(q.Chunk), q.Wanted, p.missing[q.Chunk], p.over})
				if p.over {
					p.supply(int(q.Chunk), q.Wanted)
				}
			}
		}
	}
}

func (p *puppet) send(h heard) {
	switch h.p.Subtype {
	case wire.Block:
		p.missing[h.p.Chunk].Clear(int(h.p.Block))
	case wire.Progress:
		h.p.ClientID = p.id
		h.data = h.p.Append(nil)
	}
	if err := p.conn.SendTo(h.to, h.data); err != nil {
		p.t.Errorf("send: %v", err)
	}
}

// supply sends what the recording does not hold.
func (p *puppet) supply(chunk int, want wire.Bitmap) {
	for b := want.Next(0); b >= 0; b = want.Next(b + 1) {
		at := chunk*wire.ChunkSize + b*wire.BlockSize
		q := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Block, Source: p.server.Addr().As4(),
			Chunk: int32(chunk), Block: int32(b), Data: p.image[at : at+wire.BlockSize]}
		p.send(heard{to: p.group, data: q.Append(nil), p: q})
	}
}

// fetched is what came of our client when the recorded server talked to it.
type fetched struct {
	*recording
	puppet *puppet
	ours   *listener
	stats  client.Stats
	begin  time.Time
}

// chance gives randomness with which our client asks for the chunks in the order
// of the recorded one. A server answers in the order in which it is asked, so
// with another order the recorded server would seem to have lost requests.
func (r *recording) chance(t *testing.T) *rand.Rand {
	var want []int32
	for _, h := range r.of(r.client, wire.Request) {
		want = append(want, h.p.Chunk)
	}
	const tries = 1000 // of 24 orders
	for seed := range uint64(tries) {
		n := mcast.NewNetwork(mcast.NetworkConfig{})
		ours := &listener{Conn: open(t, n, r, r.client, nil), t: t}
		mute := open(t, n, r, r.server, nil)
		c, err := client.New(client.Config{Conn: ours, Installer: &shelf{}, Shuffle: true, Rand: rand.New(rand.NewPCG(seed, 0))})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { _, err := c.Run(ctx); done <- err }()
		synctest.Wait()
		require.NoError(t, mute.Send([][]byte{r.of(r.server, wire.Join)[0].data}))
		for len(ours.of(wire.Request)) < len(want) {
			time.Sleep(time.Millisecond)
		}
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, ours.Close())
		require.NoError(t, mute.Close())
		var got []int32
		for _, s := range ours.of(wire.Request) {
			got = append(got, s.p.Chunk)
		}
		if slices.Equal(want, got) {
			return rand.New(rand.NewPCG(seed, 0))
		}
	}
	t.Fatalf("no order like %v in %d", want, tries)
	return nil
}

// fetch runs our client against the recorded server, to the end.
func fetch(t *testing.T, file string) *fetched {
	f := &fetched{recording: load(t, file)}
	chance := f.chance(t)
	f.begin = time.Now()
	n := mcast.NewNetwork(mcast.NetworkConfig{})
	f.puppet = &puppet{recording: f.recording, t: t, conn: open(t, n, f.recording, f.server, nil), missing: make([]wire.Bitmap, f.chunks())}
	for i := range f.puppet.missing {
		f.puppet.missing[i] = wire.FullBitmap()
	}
	var all sync.WaitGroup
	all.Go(f.puppet.play)
	f.ours = &listener{Conn: open(t, n, f.recording, f.client, nil), t: t}
	disk := &shelf{want: f.image, got: map[int]bool{}}
	c, err := client.New(client.Config{Conn: f.ours, Installer: disk, Workers: 2, JoinTimeout: time.Minute, StallTimeout: time.Minute,
		Shuffle: true, Rand: chance, Written: func() (uint64, uint64) { return 12345, 67890 }})
	require.NoError(t, err)
	f.stats, err = c.Run(context.Background())
	require.NoError(t, err, "%+v", f.stats)
	require.Len(t, disk.got, f.chunks())
	require.Equal(t, f.server.Addr(), f.stats.Server)
	require.NoError(t, f.ours.Close())
	require.NoError(t, f.puppet.conn.Close())
	all.Wait()
	return f
}

// requireJoined: one join, with the recorded bytes but for the number by which
// a client calls itself, which both generations choose by chance.
func (f *fetched) requireJoined(t *testing.T) (id uint32) {
	joins := f.ours.of(wire.Join)
	require.Len(t, joins, 1)
	require.Equal(t, f.group, joins[0].to)
	recorded := f.of(f.client, wire.Join)[0]
	want := recorded.p
	want.ClientID = joins[0].p.ClientID
	require.Equal(t, want.Append(nil), joins[0].data)
	require.Less(t, want.ClientID, uint32(1)<<31)
	return want.ClientID
}

// requireRequests: each chunk is asked for once, to the group, with the bytes of
// the recorded requests.
func (f *fetched) requireRequests(t *testing.T) {
	var want, got [][]byte
	for _, h := range f.of(f.client, wire.Request) {
		want = append(want, h.data)
	}
	for _, s := range f.ours.of(wire.Request) {
		require.Equal(t, f.group, s.to)
		got = append(got, s.data)
	}
	require.Equal(t, want, got)
}

// requireLeft: the last word. Its layout is that of i386 and 2020 clients,
// whatever the server is: nothing tells a client which kind it has. An OMF-era
// server on a 64-bit machine logs it and ignores it, as it does with 2020
// clients (§3); only its statistics suffer.
func (f *fetched) requireLeft(t *testing.T, id uint32) {
	said := f.ours.all()
	last := said[len(said)-1]
	require.Equal(t, wire.Leave2, last.p.Subtype)
	require.Equal(t, f.group, last.to)
	require.Len(t, last.data, 1052)
	require.Equal(t, wire.LayoutPacked, last.p.Layout)
	require.Equal(t, id, last.p.ClientID)
	require.Len(t, f.ours.of(wire.Leave2), 1)
	s := last.p.Stats
	require.EqualValues(t, 1, s.Version)
	require.EqualValues(t, 12345, s.RealBytes)
	require.EqualValues(t, 67890, s.EffectiveBytes)
	require.EqualValues(t, f.stats.Requests, s.Requests)
	require.EqualValues(t, f.stats.Lost, s.LostBlocks)
	require.EqualValues(t, 1, s.JoinAttempts)
}

// requireNoNeedlessWords: every partial request names all that is missing of
// its chunk at that moment and nothing else, and says that it is a repetition.
func (f *fetched) requireNoNeedlessWords(t *testing.T) {
	for _, a := range f.puppet.asked {
		require.Equal(t, a.lacks, a.wanted, "chunk %d after %v", a.chunk, a.at)
	}
	for _, s := range f.ours.of(wire.PRequest) {
		require.EqualValues(t, 1, s.p.Retries)
		require.Equal(t, f.group, s.to)
	}
}

// TestClientAgainstRecordedServers: servers of both generations, no loss.
func TestClientAgainstRecordedServers(t *testing.T) {
	for _, file := range []string{"emulab-small-1client", "omf-small-1client"} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fetch(t, file)
				id := f.requireJoined(t)
				f.requireRequests(t)
				require.Empty(t, f.ours.of(wire.PRequest))
				f.requireLeft(t, id)
				require.EqualValues(t, f.chunks()*wire.BlocksPerChunk, f.stats.Blocks)
				require.Zero(t, f.stats.Duplicates+f.stats.Lost+f.stats.Bad+f.stats.Foreign+f.stats.Overruns)
				require.False(t, f.puppet.over && len(f.puppet.asked) > 0)
			})
		})
	}
}

// TestClientAgainstRecordedLosses: what did not reach the recorded client does
// not reach ours. It asks for exactly what the recorded one asked for.
//
// The moments differ, and should: the recorded client asks when nothing has come
// for 90 ms; ours asks for a chunk 60 to 100 ms after the server went on to
// another one, and as the recorded server here repairs only what the recorded
// client asked, it asks once more when nothing comes.
func TestClientAgainstRecordedLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fetch(t, "omf-small-loss2pct")
		id := f.requireJoined(t)
		f.requireRequests(t)
		f.requireNoNeedlessWords(t)

		recorded := f.of(f.client, wire.PRequest)
		first := map[int]wire.Bitmap{}
		var lastRecorded, lastOurs wire.Bitmap
		for _, h := range recorded {
			if _, ok := first[int(h.p.Chunk)]; !ok {
				first[int(h.p.Chunk)] = h.p.Wanted
			}
			lastRecorded = h.p.Wanted
		}
		ours := map[int]wire.Bitmap{}
		for _, a := range f.puppet.asked {
			if _, ok := ours[a.chunk]; !ok {
				ours[a.chunk] = a.wanted
			}
			lastOurs = a.wanted
		}
		require.Equal(t, first, ours, "blocks asked for, by chunk")
		require.Equal(t, 1, lastRecorded.Count(), "of the repairs one was lost again")
		require.Equal(t, lastRecorded, lastOurs)
		require.LessOrEqual(t, len(f.puppet.asked), 2*len(recorded))
		// Three of four chunks are asked for while the server still sends others.
		sending := f.of(f.server, wire.Block)[f.chunks()*wire.BlocksPerChunk-1].at - f.all[0].at
		early := slices.DeleteFunc(slices.Clone(f.puppet.asked), func(a asked) bool { return a.at >= sending })
		require.GreaterOrEqual(t, len(early), 2)
		f.requireLeft(t, id)
		require.Zero(t, f.stats.Duplicates+f.stats.Bad+f.stats.Foreign)
	})
}

// TestClientAgainstRecordedQuestions: a 2020 server at 500 blocks a second that
// asks for progress. The recorded client lost patience with it: three times it
// asked again, after a second, for a chunk whose turn had not come. Ours follows
// the server's pace (§12) and does so less often. When the recording ends, 70
// blocks too early, it asks for these.
func TestClientAgainstRecordedQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fetch(t, "emulab-progress")
		id := f.requireJoined(t)
		f.requireRequests(t)
		f.requireNoNeedlessWords(t)
		require.NotEmpty(t, f.puppet.asked)
		impatient := 0
		for _, a := range f.puppet.asked {
			if a.over {
				require.Equal(t, wire.RangeBitmap(954, 70), a.wanted)
				continue
			}
			require.Equal(t, wire.FullBitmap(), a.wanted, "nothing is lost while the recording lasts")
			impatient++
		}
		require.True(t, f.puppet.asked[len(f.puppet.asked)-1].over)
		require.Less(t, impatient, len(f.of(f.client, wire.PRequest)))
		f.requireLeft(t, id)

		// Reports go to the server alone, every second. The recorded client began
		// after a delay by chance (§5); otherwise the bytes are those of its kind.
		question := f.of(f.server, wire.Progress)[0].p
		recorded := f.of(f.client, wire.Progress)
		reports := f.ours.of(wire.Progress)
		require.GreaterOrEqual(t, len(reports), len(recorded))
		for i, s := range reports {
			require.Equal(t, f.server, s.to)
			require.Len(t, s.data, len(recorded[0].data))
			require.Equal(t, id, s.p.ClientID)
			require.Equal(t, f.client.Addr().As4(), s.p.Who)
			require.Equal(t, question.What, s.p.What)
			require.EqualValues(t, s.at.Unix(), s.p.When)
			require.EqualValues(t, 12345, s.p.BytesWritten)
			require.Zero(t, s.p.Stats, "the server asked for a summary")
			require.EqualValues(t, i+1, s.p.Seq, "reports are counted")
			require.WithinDuration(t, f.begin.Add(time.Duration(i+1)*time.Second), s.at, 100*time.Millisecond)
		}
		for i, h := range recorded {
			require.EqualValues(t, i+1, h.p.Seq)
			require.Equal(t, netip.AddrPortFrom(f.server.Addr(), f.group.Port()), h.to)
		}
	})
}
