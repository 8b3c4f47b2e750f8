package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

// lineWaiter is standard output that somebody waits for a line of.
type lineWaiter struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func newLineWaiter() *lineWaiter { return &lineWaiter{more: make(chan struct{})} }

func (w *lineWaiter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.buf.Write(p)
}

func (w *lineWaiter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// await returns the first line with that beginning.
func (w *lineWaiter) await(ctx context.Context, prefix string) (string, error) {
	for {
		w.mu.Lock()
		text, more := w.buf.String(), w.more
		w.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, prefix) && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(line), nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", fmt.Errorf("no line %q…: %w; there was %q", prefix, ctx.Err(), text)
		}
	}
}

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// background runs a command line in this process until the test ends, and
// returns when it has said that it is ready.
type background struct {
	out, err *lineWaiter
	ready    string
	stop     func() int // ends it and returns the exit code
}

func omfBackground(t *testing.T, ready string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{out: newLineWaiter(), err: newLineWaiter()}
	a := newApp(strings.NewReader(""), b.out, b.err)
	a.environ, a.system = []string{"HOME=" + t.TempDir()}, filepath.Join(t.TempDir(), "none")
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, args); cancel() }()
	b.stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { b.stop() })
	wait, cancelWait := context.WithTimeout(ctx, patience)
	defer cancelWait()
	line, err := b.out.await(wait, ready)
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

// binary builds the command once for all tests that need real processes.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "omf-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "omf")
	out, err := exec.Command("go", append(append([]string{"build"}, buildFlags()...), "-ldflags", "-s -w", "-o", path, ".")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	built.path = path
	return path, nil
})

// process is a real omf process.
type process struct {
	t    *testing.T
	args []string
	log  *os.File
	cmd  *exec.Cmd
	out  *lineWaiter
}

// start runs omf and waits until it is ready.
func start(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	require.NoError(t, err)
	p := &process{t: t, args: args, log: log}
	t.Cleanup(func() {
		p.kill()
		log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			if len(b) > 12<<10 {
				b = append([]byte("…"), b[len(b)-12<<10:]...)
			}
			t.Logf("== %s\n%s", name, b)
		}
	})
	p.begin()
	return p
}

// begin starts the process, again or for the first time.
func (p *process) begin() {
	p.t.Helper()
	path, err := binary()
	require.NoError(p.t, err)
	p.out = newLineWaiter()
	p.cmd = exec.Command(path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.log
	p.cmd.Env = []string{"HOME=" + p.t.TempDir(), "LOADNODE_CONFIG=/dev/null", "PATH=" + os.Getenv("PATH")}
	require.NoError(p.t, p.cmd.Start())
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if _, err := p.out.await(ctx, "ready:"); err != nil {
		b, _ := os.ReadFile(p.log.Name())
		p.t.Fatalf("omf %s: %v\n%s", strings.Join(p.args, " "), err, b)
	}
}

// kill is kill -9. It waits until the process is gone.
func (p *process) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// freeAddress is an address of this machine that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
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
