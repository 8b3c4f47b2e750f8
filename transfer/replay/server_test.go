package replay_test

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// said is a datagram which one of ours sent.
type said struct {
	at   time.Time
	to   netip.AddrPort
	data []byte
	p    wire.Packet
	// extension marks subtypes from 9 on, which the originals log and ignore
	// (§7 rule 5); p is empty.
	extension bool
}

// listener is a Conn that keeps what is sent on it.
type listener struct {
	mcast.Conn
	t testing.TB

	mu   sync.Mutex
	said []said
}

func (l *listener) note(to netip.AddrPort, d []byte) {
	s := said{at: time.Now(), to: to, data: bytes.Clone(d)}
	if len(d) >= wire.HeaderSize && d[4] > byte(wire.Progress) && d[5]|d[6]|d[7] == 0 {
		s.extension = true
	} else if err := s.p.Decode(s.data); err != nil {
		l.t.Errorf("sent what cannot be decoded: %v", err)
	}
	l.mu.Lock()
	l.said = append(l.said, s)
	l.mu.Unlock()
}

func (l *listener) Send(ds [][]byte) error {
	for _, d := range ds {
		l.note(l.Group(), d)
	}
	return l.Conn.Send(ds)
}

func (l *listener) SendTo(to netip.AddrPort, d []byte) error {
	l.note(to, d)
	return l.Conn.SendTo(to, d)
}

// all gives what was said so far, without extensions.
func (l *listener) all() (out []said) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.said {
		if !s.extension {
			out = append(out, s)
		}
	}
	return out
}

// of gives what was said of one subtype.
func (l *listener) of(k wire.Subtype) (out []said) {
	for _, s := range l.all() {
		if s.p.Subtype == k {
			out = append(out, s)
		}
	}
	return out
}

// open makes an end of the recorded group.
func open(t testing.TB, n *mcast.Network, r *recording, at netip.AddrPort, ignore []mcast.Match) mcast.Conn {
	t.Helper()
	c, err := n.Open(mcast.Options{Group: r.group.Addr(), Port: r.group.Port(), Local: at.Addr(), Ignore: ignore})
	require.NoError(t, err)
	return c
}

// replayed is what came of our server when the recorded client talked to it.
type replayed struct {
	*recording
	ours  *listener
	stats server.Stats
	info  []server.ClientInfo
	err   error
}

// serve starts our server, with the recorded image and at the recorded pace,
// sends it what the recorded client sent when it sent it, and waits until all
// is answered and, if the client left, the session is over.
func serve(t *testing.T, file string, change func(*server.Config)) *replayed {
	r := &replayed{recording: load(t, file)}
	n := mcast.NewNetwork(mcast.NetworkConfig{})
	r.ours = &listener{Conn: open(t, n, r.recording, r.server, server.Ignore()), t: t}
	cfg := server.Config{Conn: r.ours, Image: bytes.NewReader(r.image), Rate: r.pace(), Fixed: true}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	puppet := open(t, n, r.recording, r.client, nil)
	begin := time.Now()
	left := false
	for _, h := range r.all {
		if h.from != r.client {
			continue
		}
		time.Sleep(time.Until(begin.Add(h.at)))
		require.NoError(t, puppet.SendTo(h.to, h.data))
		left = left || h.p.Subtype == wire.Leave2
	}
	if left && cfg.UntilLeft {
		r.err = <-done
	} else {
		time.Sleep(5 * time.Second)
		cancel()
		r.err = <-done
	}
	cancel()
	r.stats, r.info = s.Stats(), s.Clients()
	require.NoError(t, puppet.Close())
	require.NoError(t, r.ours.Close())
	return r
}

// untilLeft ends the session when the recorded client has left.
func untilLeft(c *server.Config) { c.UntilLeft = true }

// block names a block.
type block struct{ chunk, block int32 }

// counts gives how often each block was sent.
func counts[T any](blocks []T, p func(T) *wire.Packet) map[block]int {
	m := map[block]int{}
	for _, b := range blocks {
		m[block{p(b).Chunk, p(b).Block}]++
	}
	return m
}

func ofHeard(h heard) *wire.Packet { return &h.p }
func ofSaid(s said) *wire.Packet   { return &s.p }

// requireJoinAnswered: the answer has the recorded bytes. The OMF-era server
// sent it to the client alone, the 2020 server to the group alone; ours, as §7
// rule 1 demands, does both.
func (r *replayed) requireJoinAnswered(t *testing.T) {
	recorded := r.of(r.server, wire.Join)
	require.Len(t, recorded, 1)
	require.Contains(t, []netip.AddrPort{r.group, r.client}, recorded[0].to)
	var to []netip.AddrPort
	for _, s := range r.ours.of(wire.Join) {
		require.Equal(t, recorded[0].data, s.data)
		to = append(to, s.to)
	}
	require.ElementsMatch(t, []netip.AddrPort{r.group, r.client}, to)
}

// requireBlocks: of every block as many were sent as recorded (and as more
// says), to the group, with the recorded bytes.
func (r *replayed) requireBlocks(t *testing.T, more map[block]int) {
	bytesOf := map[block][]byte{}
	want := counts(r.of(r.server, wire.Block), ofHeard)
	for _, h := range r.of(r.server, wire.Block) {
		bytesOf[block{h.p.Chunk, h.p.Block}] = h.data
	}
	for b, n := range more {
		want[b] += n
	}
	blocks := r.ours.of(wire.Block)
	for _, s := range blocks {
		require.True(t, s.to == r.group, "a block was sent to %v", s.to)
		if b := bytesOf[block{s.p.Chunk, s.p.Block}]; b != nil && !bytes.Equal(b, s.data) {
			require.Equal(t, b, s.data, "chunk %d block %d", s.p.Chunk, s.p.Block)
		}
	}
	require.Equal(t, want, counts(blocks, ofSaid))
	require.EqualValues(t, len(blocks), r.stats.BlocksSent)
}

// requireRoundsInOrder: each chunk is sent from its first wanted block to its
// last without another between, as both generations do.
func (r *replayed) requireRoundsInOrder(t *testing.T, rounds int) {
	n, last := 0, block{-1, 0}
	for _, s := range r.ours.of(wire.Block) {
		if s.p.Chunk != last.chunk || s.p.Block <= last.block {
			n++
		}
		last = block{s.p.Chunk, s.p.Block}
	}
	require.Equal(t, rounds, n, "times that a chunk was begun")
}

// requireLeft: the last word of the client is understood, in whichever of its
// two sizes it came.
func (r *replayed) requireLeft(t *testing.T, size int) {
	recorded := r.of(r.client, wire.Leave2)
	require.Len(t, recorded, 1)
	require.Len(t, recorded[0].data, size)
	require.ErrorIs(t, r.err, server.ErrAllLeft)
	require.EqualValues(t, 1, r.stats.Leaves)
	require.Len(t, r.info, 1)
	require.Equal(t, recorded[0].p.Stats, r.info[0].Stats)
	require.Equal(t, recorded[0].p.ClientID, r.info[0].ID)
	require.False(t, r.info[0].Left.IsZero())
	require.Equal(t, r.client.Addr(), r.info[0].Addr)
	// What the client counted says that the statistics were read at the right places.
	requests, partial := len(r.of(r.client, wire.Request)), len(r.of(r.client, wire.PRequest))
	require.EqualValues(t, requests+partial, r.info[0].Stats.Requests)
	require.EqualValues(t, partial, r.info[0].Stats.PartialRequests)
	require.EqualValues(t, 1, r.info[0].Stats.JoinAttempts)
	require.Positive(t, r.info[0].Stats.RealBytes)
}

// requireNothingRefused: nothing that an original client sends is an error.
func (r *replayed) requireNothingRefused(t *testing.T) {
	st := r.stats
	require.Zero(t, st.Undecodable+st.BadSource+st.OutOfRange+st.Empty, "%+v", st)
	require.EqualValues(t, len(r.of(r.client, wire.Request)), st.Requests)
	require.EqualValues(t, len(r.of(r.client, wire.PRequest)), st.PartialRequests)
}

// TestServerAgainstRecordedClients: a client of each generation loads a small
// image without loss.
func TestServerAgainstRecordedClients(t *testing.T) {
	for file, leave := range map[string]int{"emulab-small-1client": 1052, "omf-small-1client": 2080} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, file, untilLeft)
				r.requireJoinAnswered(t)
				r.requireBlocks(t, nil)
				r.requireRoundsInOrder(t, r.chunks())
				r.requireLeft(t, leave)
				r.requireNothingRefused(t)
				require.Zero(t, r.stats.Resent)
			})
		})
	}
}

// TestServerAgainstRecordedLosses: 2 % of the blocks did not reach the recorded
// client. Its requests for them are answered with exactly those blocks, also
// the one whose repair was lost again.
func TestServerAgainstRecordedLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, "omf-small-loss2pct", untilLeft)
		r.requireJoinAnswered(t)
		r.requireBlocks(t, nil)
		repairs := 0
		for _, h := range r.of(r.client, wire.PRequest) {
			repairs += h.p.Wanted.Count()
		}
		require.Equal(t, 69, repairs)
		require.EqualValues(t, repairs, r.stats.Resent)
		// Four chunks, the repairs of each, and one more.
		r.requireRoundsInOrder(t, 9)
		r.requireLeft(t, 2080)
		r.requireNothingRefused(t)
		require.EqualValues(t, repairs, r.info[0].Repairs)
	})
}

// TestServerAgainstRecordedReports: a 2020 client at 500 blocks a second, which
// asks for chunks once more while they wait to be sent (its timer of 1 s is too
// short), and tells its progress when it is asked.
func TestServerAgainstRecordedReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, "emulab-progress", func(c *server.Config) { c.AskProgress = time.Second })
		r.requireJoinAnswered(t)
		var ask []said
		for _, s := range r.ours.of(wire.Progress) {
			require.Equal(t, r.group, s.to)
			ask = append(ask, s)
		}
		recorded := r.of(r.server, wire.Progress)
		require.Len(t, ask, len(recorded))
		require.Equal(t, recorded[0].data, ask[0].data)
		// The recording ends 70 blocks early. Nothing is sent twice: a request
		// for what waits to be sent, or is just being sent, is no loss.
		rest := map[block]int{}
		for b := int32(954); b < wire.BlocksPerChunk; b++ {
			rest[block{0, b}]++
		}
		r.requireBlocks(t, rest)
		require.Zero(t, r.stats.Resent)
		r.requireRoundsInOrder(t, r.chunks())
		r.requireNothingRefused(t)
		reports := r.of(r.client, wire.Progress)
		require.EqualValues(t, len(reports), r.stats.Reports)
		require.Len(t, r.info, 1)
		last := reports[len(reports)-1].p
		require.Equal(t, last.ChunksReceived, r.info[0].ChunksReceived)
		require.Equal(t, last.ChunksDecompressed, r.info[0].ChunksInstalled)
		require.Equal(t, last.BytesWritten, r.info[0].BytesWritten)
		require.Positive(t, last.BytesWritten)
		require.ErrorIs(t, r.err, context.Canceled)
		require.True(t, r.info[0].Left.IsZero(), "the recorded client was still there at the end")
	})
}
