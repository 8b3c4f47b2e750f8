package main

import (
	"context"
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

	"loadnode/internal/freeport"
	"loadnode/internal/process"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// background runs a command line in this process until the test ends, and
// returns when it has said that it is ready.
type background struct {
	out, err *process.Output
	ready    string
	stop     func() int // ends it and returns the exit code
}

func omfBackground(t *testing.T, ready string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{out: process.NewOutput(), err: process.NewOutput()}
	a := newApp(strings.NewReader(""), b.out, b.err)
	a.environ, a.system = []string{"HOME=" + t.TempDir()}, filepath.Join(t.TempDir(), "none")
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, args); cancel() }()
	b.stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { b.stop() })
	wait, cancelWait := context.WithTimeout(ctx, patience)
	defer cancelWait()
	line, err := b.out.Await(wait, ready)
	if err != nil {
		b.stop()
		t.Fatalf("omf %s: %v\n%s", strings.Join(args, " "), err, b.err)
	}
	b.ready = line
	return b
}

// TestMain looks for goroutines that were left behind and removes the binary.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.path != "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// built is the binary, once some test has asked for it.
var built struct{ path string }

// binary builds the command once for all tests that need real processes, the
// way the tests were built.
var binary = sync.OnceValues(func() (path string, err error) {
	built.path, err = process.Build(buildFlags()...)
	return built.path, err
})

// start runs omf and waits until it is ready.
func start(t *testing.T, dir, name string, args ...string) *process.Process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	p := process.Start(t, process.Config{Path: path, Dir: dir, Name: name, Patience: patience}, args...)
	p.Ready()
	return p
}

// freeAddress is an address of this machine that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freeport.TCP(t, "127.0.0.1")).String()
}

// ownSessions are flags that keep the multicast sessions of a test apart from
// those of everything else on this machine.
func ownSessions(t *testing.T) []string {
	t.Helper()
	group, port, err := privateSessions()
	require.NoError(t, err)
	return []string{"--group", group.String(), "--port", fmt.Sprint(port)}
}

// smallImage writes an image with random data in some regions to path and
// returns what a disk must hold then.
func smallImage(t *testing.T, path string, seed uint64) []byte {
	t.Helper()
	const sectors = 6 << 20 / ndz.SectorSize
	runs := []ndztest.Run{
		{Sector: 2048, Data: ndztest.Noise(3*seed, 3000*ndz.SectorSize)},
		{Sector: 6000, Data: ndztest.Noise(3*seed+1, ndz.SectorSize)},
		{Sector: 8000, Data: ndztest.Noise(3*seed+2, 1500*ndz.SectorSize)},
	}
	require.NoError(t, os.WriteFile(path, ndztest.Image(t, sectors, runs...), 0o644))
	return ndztest.Unit(sectors, runs...)
}
