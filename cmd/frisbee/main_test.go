package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/cmd/internal/dropin"
	"loadnode/internal/freeport"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
	"loadnode/transfer/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const group, own, serving = "239.255.80.1", "127.80.0.2", "127.80.0.1"

// disc is a unit of some megabytes with a hole, and its image.
func disc(t *testing.T) (raw, image []byte) {
	t.Helper()
	const sectors = 24 << 20 / ndz.SectorSize
	runs := []ndztest.Run{
		{Sector: 0, Data: ndztest.Noise(7, 9<<20)},
		{Sector: 12 << 20 / ndz.SectorSize, Data: ndztest.Noise(8, 8<<20)},
	}
	return ndztest.Unit(sectors, runs...), ndztest.Image(t, sectors, runs...)
}

func serve(t *testing.T, image []byte, port uint16) {
	t.Helper()
	conn, err := server.Listen(mcast.Options{Group: netip.MustParseAddr(group), Port: port, Local: netip.MustParseAddr(serving)})
	require.NoError(t, err)
	s, err := server.New(server.Config{Conn: conn, Image: bytes.NewReader(image), Rate: 400e6})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); conn.Close() })
}

func manifestFile(t *testing.T, image []byte) string {
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, m.Encode(&b))
	path := filepath.Join(t.TempDir(), "manifest")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func call(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, dropin.Streams{Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestLoad(t *testing.T) {
	raw, image := disc(t)
	port := freeport.UDP(t)
	serve(t, image, port)
	out := filepath.Join(t.TempDir(), "disk")
	code, stdout, stderr := call("-i", own, "-m", group, "-p", fmt.Sprint(port), "-z", "-T", "20", "--join-timeout=20",
		"--manifest", manifestFile(t, image), "--read-back", out)
	require.Equal(t, 0, code, stderr)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, got))
	require.Regexp(t, regexp.MustCompile(`^(Progress: [1-9]0% 0000\d\d 0000\d\d\n)+\nLeft the team after \d+ seconds on the field!$`), stdout)
	require.Contains(t, stdout, "Progress: 90% ")
	require.Contains(t, stderr, fmt.Sprintf("Wrote %d bytes (%d actual)\n", len(raw), 17<<20))
	require.Contains(t, stderr, "Read back and equal")
}

// TestRefusals: nothing is written, and the exit code is the original's.
func TestRefusals(t *testing.T) {
	_, image := disc(t)
	port := freeport.UDP(t)
	serve(t, image, port)
	other := append([]byte(nil), image...)
	other[len(other)-1] ^= 1 // padding: still a good image, but not this one
	busy, err := net.ListenUDP("udp4", &net.UDPAddr{})
	require.NoError(t, err)
	defer busy.Close()
	busyPort := fmt.Sprint(busy.LocalAddr().(*net.UDPAddr).Port)
	good := func(args ...string) []string {
		return append([]string{"-i", own, "-m", group, "-p", fmt.Sprint(port), "--join-timeout=20"}, args...)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		text string
	}{
		"damaged for us": {good("--manifest", manifestFile(t, other)), 1, "arrived damaged 5 times"},
		"another size":   {good("--manifest", manifestFile(t, image[:8<<20])), 255, "wrong size"},
		"no server":      {[]string{"-i", own, "-m", group, "-p", fmt.Sprint(freeport.UDP(t)), "--join-timeout=1"}, 255, "no server answered"},
		"busy port":      {[]string{"-i", own, "-m", group, "-p", busyPort}, 98, "port is in use: udp " + own + ":" + busyPort},
		"no interface":   {[]string{"-i", "203.0.113.5", "-m", group, "-p", "9"}, 255, "203.0.113.5"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			code, stdout, stderr := call(append(tc.args, filepath.Join(dir, "disk"))...)
			require.Equal(t, tc.code, code, stderr)
			require.Contains(t, stderr, tc.text)
			require.NotContains(t, stdout, "Left the team")
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "what is incomplete does not stay")
		})
	}
}

func TestUsage(t *testing.T) {
	need := []string{"-m", group, "-p", "9"}
	for _, tc := range []struct {
		args []string
		text string
	}{
		{nil, "0 operands, want DISK"},
		{[]string{"-p", "9", "x"}, "-m is missing"},
		{[]string{"-m", group, "x"}, "-p is missing"},
		{append(need, "-s", "1", "x"), "partition's own device"},
		{append(need, "-Fimage", "x"), "master server"},
		{append(need, "-bn", "x"), "broadcast"},
		{append(need, "-N", "x"), "expanding"},
		{append(need, "-H1", "x"), "heartbeats"},
		{append(need, "-t", "x"), "tcpdump"},
		{append(need, "-C", "1", "x"), "want a number from 4"},
		{append(need, "-i", "eth0", "x"), "want an IPv4 address"},
		{append(need, "-y", "x"), "unknown option -y"},
		{append(need, "/dev/surely-not-here"), disk.ErrNotFound.Error()},
		{append(need, "/dev/null"), disk.ErrNotBlockDevice.Error()},
		{append(need, "--manifest", "/nonexistent", "x"), "/nonexistent"},
	} {
		code, stdout, stderr := call(tc.args...)
		require.Equal(t, 1, code, "%q: %s", tc.args, stderr)
		require.Contains(t, stderr, tc.text, "%q", tc.args)
		require.Empty(t, stdout)
	}
	code, stdout, _ := call("-h")
	require.Zero(t, code)
	require.Contains(t, stdout, "frisbee -m GROUP")
	code, stdout, _ = call("-v")
	require.Zero(t, code)
	require.Contains(t, stdout, "loadnode")
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
	}{
		{&networkError{fmt.Errorf("x: %w", client.ErrStalled)}, 110},
		{&networkError{client.ErrNoServer}, 255},
		{&networkError{mcast.ErrPortInUse}, 98},
		{context.Canceled, 255},
		{classify(errors.New("receive: the socket broke")), 255},
		{classify(fmt.Errorf("install chunk 3: %w", &diskError{errors.New("no space")})), 1},
		{classify(&client.CorruptError{}), 1},
		{disk.ErrMounted, 1},
	} {
		require.Equal(t, tc.code, exitCode(tc.err), "%v", tc.err)
	}
}

func TestSettings(t *testing.T) {
	s, err := parse([]string{"-zOnf", "-M", "100", "-m", group, "-p9001", "-r", "5", "-R4", "-T", "30", "/dev/sda"})
	require.NoError(t, err)
	require.True(t, s.inOrder)
	require.True(t, s.direct)
	require.LessOrEqual(t, s.memory+int64(s.workers)*dataMemory<<20, int64(100)<<20)
	require.Equal(t, 5*time.Second, s.delay)
	require.Equal(t, 30*time.Second, s.stall)
	require.Equal(t, 4, s.readAhead)
	require.EqualValues(t, 9001, s.port)
	require.Equal(t, "/dev/sda", s.output)
}
