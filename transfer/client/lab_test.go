package client_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

func TestMain(m *testing.M) {
	// Each case is a whole transfer; -rapid.checks on the command line asks for more.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var group = netip.MustParseAddr("239.255.78.1")

const memPort = 9001

func serverAddr() netip.Addr      { return netip.MustParseAddr("127.78.0.1") }
func clientAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 78, 1, byte(i + 1)}) }

// picture is an image in memory.
type picture struct {
	*bytes.Reader
	bytes []byte
}

// image is random bytes, which as chunks are as good as any.
func image(seed uint64, chunks int) *picture {
	b := make([]byte, chunks*wire.ChunkSize)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return &picture{bytes.NewReader(b), b}
}

// keeper is an Installer which keeps the chunks and checks each against the
// image, as the real one does with digests.
type keeper struct {
	want  *picture
	slow  time.Duration // per chunk
	light bool          // the client keeps no data

	mu     sync.Mutex
	got    map[int]bool
	bad    int
	always int // this chunk is always damaged; -1 none
}

func newKeeper(want *picture) *keeper {
	return &keeper{want: want, got: map[int]bool{}, always: -1}
}

func (k *keeper) Install(ctx context.Context, i int, data []byte) error {
	if k.slow > 0 {
		select {
		case <-time.After(k.slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	want := k.want.bytes[i*wire.ChunkSize : (i+1)*wire.ChunkSize]
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.light && !bytes.Equal(want, data) || i == k.always {
		k.bad++
		return ndz.Corrupt(i, errors.New("bytes differ"))
	}
	if k.got[i] {
		return fmt.Errorf("chunk %d came twice", i)
	}
	k.got[i] = true
	return nil
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.got)
}

// lab is a server and clients on an in-memory network.
type lab struct {
	t     testing.TB
	net   *mcast.Network
	image *picture
	light bool // clients keep no data: where only counts and times matter
}

func (l *lab) open(a netip.Addr, ignore bool) mcast.Conn {
	o := mcast.Options{Group: group, Port: memPort, Local: a}
	if ignore {
		o.Ignore, o.Exclusive = server.Ignore(), true
	}
	c, err := l.net.Open(o)
	require.NoError(l.t, err)
	return c
}

// serve runs a server until stop is called, which gives what it has to say.
func (l *lab) serve(change func(*server.Config)) (s *server.Server, stop func() error) {
	l.t.Helper()
	conn := l.open(serverAddr(), true)
	cfg := server.Config{Conn: conn, Image: l.image, Rate: 1_000_000_000}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	require.NoError(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() error {
		cancel()
		err := <-done
		require.NoError(l.t, conn.Close())
		return err
	}
}

type outcome struct {
	stats client.Stats
	err   error
	kept  *keeper
}

// load runs one client to its end.
func (l *lab) load(i int, change func(*client.Config, *keeper)) outcome {
	conn := l.open(clientAddr(i), false)
	defer conn.Close()
	k := newKeeper(l.image)
	k.light = l.light
	cfg := client.Config{Conn: conn, Installer: k, Chunks: int(l.image.Size() / wire.ChunkSize), Workers: 2,
		JoinTimeout: 30 * time.Second, StallTimeout: time.Minute, Rand: rand.New(rand.NewPCG(uint64(i), 99))}
	if change != nil {
		change(&cfg, k)
	}
	c, err := client.New(cfg)
	require.NoError(l.t, err)
	if l.light {
		c.Weightless()
	}
	stats, err := c.Run(context.Background())
	return outcome{stats, err, k}
}

// loadAll runs n clients at once, client i after i*gap.
func (l *lab) loadAll(n int, gap time.Duration, change func(i int, cfg *client.Config, k *keeper)) []outcome {
	out := make([]outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * gap)
			out[i] = l.load(i, func(cfg *client.Config, k *keeper) {
				if change != nil {
					change(i, cfg, k)
				}
			})
		})
	}
	wg.Wait()
	return out
}

func (l *lab) complete(t require.TestingT, out []outcome) {
	for i, o := range out {
		require.NoError(t, o.err, "client %d: %+v", i, o.stats)
		require.Equal(t, int(l.image.Size()/wire.ChunkSize), o.kept.count(), "client %d", i)
	}
}
