package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/cmd/internal/dropin"
	"loadnode/internal/freeport"
	"loadnode/transfer/client"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const group, own = "239.255.81.1", "127.81.0.1"

func imageFile(t *testing.T) (path string, image []byte) {
	t.Helper()
	image = ndztest.Image(t, 5<<20/ndz.SectorSize, ndztest.Run{Data: ndztest.Noise(8, 5<<20)})
	path = filepath.Join(t.TempDir(), "image.ndz")
	require.NoError(t, os.WriteFile(path, image, 0o600))
	return path, image
}

type store struct {
	mu     sync.Mutex
	chunks map[int][]byte
}

func (s *store) Install(_ context.Context, i int, chunk []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks[i] = bytes.Clone(chunk)
	return nil
}

// TestKeepAlive: it joins again when nothing was heard, and gives up after six
// errors in a row.
func TestKeepAlive(t *testing.T) {
	broken := errors.New("no such network")
	for _, tc := range []struct {
		name   string
		heard  []uint64 // at the start and at each tick
		errs   []error  // of each attempt
		joined int
		err    error
	}{
		{"quiet", []uint64{0, 0, 0, 0}, []error{nil, nil, nil}, 3, nil},
		{"busy", []uint64{0, 1, 5, 6}, nil, 0, nil},
		{"at times", []uint64{3, 4, 4, 5, 5, 5}, []error{nil, nil, nil}, 3, nil},
		{"broken", []uint64{0, 0, 0, 0, 0, 0, 0}, []error{broken, broken, broken, broken, broken, broken}, 6, broken},
		{"repaired", make([]uint64, 12), []error{broken, broken, broken, broken, broken, nil, broken, broken, broken, broken, broken}, 11, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			tick := make(chan time.Time)
			asked, joined := 0, 0
			done := make(chan error, 1)
			go func() {
				done <- keepAlive(ctx, tick, func() uint64 { asked++; return tc.heard[asked-1] },
					func() error { joined++; return tc.errs[joined-1] })
			}()
			for range len(tc.heard) - 1 {
				tick <- time.Time{}
			}
			if tc.err == nil {
				cancel()
			}
			require.Equal(t, tc.err, <-done)
			require.Equal(t, tc.joined, joined)
		})
	}
}

// TestServe runs a whole session with a client, until the client leaves.
func TestServe(t *testing.T) {
	path, image := imageFile(t)
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	manifest := path + ".manifest"
	f, err := os.Create(manifest)
	require.NoError(t, err)
	require.NoError(t, m.Encode(f))
	require.NoError(t, f.Close())
	address := path + ".address"
	low := freeport.UDP(t)

	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(context.Background(), []string{"-di", own, "-m", group, "-p", fmt.Sprintf("%d-%d", low, low), "-W", "300000000",
			"-T", "-1", "-A", address, "-H", "1", "-R", "7", "-K", "1", "--manifest", manifest, path}, dropin.Streams{Out: &stderr, Err: &stderr})
	}()
	var text []byte
	require.Eventually(t, func() bool {
		text, err = os.ReadFile(address)
		return err == nil && len(text) > 0
	}, 10*time.Second, time.Millisecond)
	where, err := netip.ParseAddrPort(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(group), low), where)

	conn, err := mcast.Open(mcast.Options{Group: where.Addr(), Port: where.Port(), Local: netip.MustParseAddr("127.81.0.2")})
	require.NoError(t, err)
	defer conn.Close()
	got := &store{chunks: map[int][]byte{}}
	c, err := client.New(client.Config{Conn: conn, Installer: got, JoinTimeout: 10 * time.Second, StallTimeout: 10 * time.Second})
	require.NoError(t, err)
	_, err = c.Run(context.Background())
	require.NoError(t, err)
	for i := range len(image) / ndz.ChunkSize {
		require.True(t, bytes.Equal(image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize], got.chunks[i]), "chunk %d", i)
	}
	require.Equal(t, 0, <-code)
	require.Contains(t, stderr.String(), "all clients have left")
	require.Contains(t, stderr.String(), "client 127.81.0.2")
}

func TestEnds(t *testing.T) {
	path, image := imageFile(t)
	other := append([]byte(nil), image...)
	other[ndz.ChunkSize-1] ^= 1
	otherManifest := path + ".other"
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(other), int64(len(other)))
	require.NoError(t, err)
	f, err := os.Create(otherManifest)
	require.NoError(t, err)
	require.NoError(t, m.Encode(f))
	require.NoError(t, f.Close())
	cut := path + ".cut"
	require.NoError(t, os.WriteFile(cut, image[:len(image)-100], 0o600))
	text := path + ".txt"
	require.NoError(t, os.WriteFile(text, make([]byte, ndz.ChunkSize), 0o600))

	port := fmt.Sprint(freeport.UDP(t))
	taken, err := mcast.Open(mcast.Options{Group: netip.MustParseAddr(group), Port: freeport.UDP(t), Local: netip.MustParseAddr(own), Exclusive: true})
	require.NoError(t, err)
	defer taken.Close()
	need := []string{"-i", own, "-m", group, "-p"}
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{append(need, port, "-T", "1", path), 0, "no client asked for anything"},
		{append(need, port, "-T", "1", "--raw", text), 0, "1 chunks"},
		{append(need, fmt.Sprint(taken.Addr().Port()), path), 98, "port is in use"},
		{append(need, port, path+".nowhere"), 1, "no such file"},
		{append(need, port, cut), 1, cut},
		{append(need, port, text), 1, "--raw"},
		{append(need, port, t.TempDir()), 1, "not a regular file"},
		{append(need, port, "--manifest", path+".nowhere", path), 1, "no such file"},
		{append(need, port, "--manifest", otherManifest, text), 1, "the manifest says"},
		{append(need, port), 1, "want IMAGE"},
		{[]string{"-p", port, path}, 1, "-m is missing"},
		{[]string{"-m", group, path}, 1, "-p is missing"},
		{append(need, "9-8", path), 1, "LOW-HIGH"},
		{append(need, port, "-W", "10", path), 1, "want a number from 1000"},
		{append(need, port, "-b", path), 1, "broadcast"},
		{append(need, port, "-K1", "-T", "2", path), 0, "no client asked for anything"},
		{append(need, port, "-K-1", path), 1, "want a number from 0"},
		{append(need, port, "-E", "host", path), 1, "event server"},
		{append(need, port, "-t", path), 1, "tcpdump"},
		{append(need, port, "-L", path), 1, "ignores it"},
		{append(need, port, "-R", "2000", path), 1, "want a number from 1 to 1024"},
		{append(need, port, "-B", "0", path), 1, "want a number from 1"},
		{[]string{"-m", group, "-p", port, "-i", "203.0.113.4", path}, 1, "203.0.113.4"},
		{[]string{"-h"}, 0, "frisbeed -m GROUP"},
		{[]string{"-v"}, 0, "loadnode"},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // one that serves after all ends the test, not the day
		code := run(ctx, tc.args, dropin.Streams{Out: &out, Err: &out})
		require.NoError(t, ctx.Err(), "%q: %s", tc.args, out.String())
		cancel()
		require.Equal(t, tc.code, code, "%q: %s", tc.args, out.String())
		require.Contains(t, out.String(), tc.text, "%q", tc.args)
	}
}

func TestSettings(t *testing.T) {
	s, err := parse([]string{"-m", group, "-p", "0", "-B", "16", "-G", "2000", "x"})
	require.NoError(t, err)
	require.EqualValues(t, 16*1114*8*500, s.rate)
	require.Equal(t, 16, s.burst)
	require.False(t, s.dynamic, "as the original's, the rate is fixed unless -D is there")
	require.Equal(t, 1<<20, s.piece)
	require.Equal(t, 30*time.Minute, s.idle)
	s, err = parse([]string{"-m", group, "-p", "9000-9010", "-G0", "-T0", "x"})
	require.NoError(t, err)
	require.EqualValues(t, -1, s.rate)
	require.Zero(t, s.idle)
	require.False(t, s.untilLeft)
	s, err = parse([]string{"-D", "-m", group, "-p", "9000", "-W50000000", "-B", "3", "-R32", "-K15", "x"})
	require.NoError(t, err)
	require.EqualValues(t, 50e6, s.rate)
	require.Zero(t, s.burst)
	require.True(t, s.dynamic)
	require.Equal(t, 32<<10, s.piece)
	require.Equal(t, 15*time.Second, s.keepAlive)
}
