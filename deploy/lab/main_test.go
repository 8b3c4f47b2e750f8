package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/deploy/lab"
	"loadnode/transfer/ndz"
)

// role makes the test binary another program: hosts of the lab run it.
const role = "LOADNODE_LAB_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "attack":
		err = attack(os.Args[1:])
	case "abandon":
		err = abandon()
	default:
		os.Exit(run(m))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(role)+":", err)
		os.Exit(1)
	}
}

// programs is the folder of the built programs, image and data what they load.
var programs, image, data string

// megabytes of the data. A quarter of it compresses.
const megabytes = 6

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "loadnode-lab-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs, image, data = dir, filepath.Join(dir, "data.ndz"), filepath.Join(dir, "data")
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// prepare builds the programs and the image.
func prepare() error {
	// As the Makefile does, so that what it compiled serves here as well.
	build := exec.Command("go", "build", "-trimpath", "-o", programs+"/", "loadnode/cmd/frisbeed", "loadnode/cmd/frisbee")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	d := make([]byte, megabytes<<20)
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(d[:len(d)*3/4])
	copy(d[len(d)*3/4:], bytes.Repeat([]byte("loadnode "), len(d)/36+1))
	if err := os.WriteFile(data, d, 0o600); err != nil {
		return err
	}
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: f, Level: 1})
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Append(0, d); err != nil {
		return err
	}
	return w.Finish(uint64(len(d)/ndz.SectorSize), 0)
}

// network makes a network, or skips the test where that cannot be.
func network(t *testing.T, hosts int) *lab.Network {
	t.Helper()
	n, err := lab.New(t.Context(), hosts)
	if errors.Is(err, lab.ErrUnavailable) {
		t.Skipf("real hosts are not tested: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

const (
	group = "239.192.77.1"
	port  = 9000
)

// served is a running frisbeed.
type served struct {
	t    *testing.T
	cmd  *exec.Cmd
	diag *watched
	done chan error
	over sync.Once
}

// watched keeps what a program says, and tells when a line begins as expected.
type watched struct {
	mu    sync.Mutex
	text  bytes.Buffer
	until string
	seen  chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	if w.until != "" && strings.Contains(w.text.String(), w.until) {
		w.until = ""
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// serve starts frisbeed on a host and waits until it serves.
func serve(t *testing.T, h *lab.Host, args ...string) *served {
	t.Helper()
	s := &served{t: t, diag: &watched{until: "serving ", seen: make(chan struct{})}, done: make(chan error, 1)}
	s.cmd = h.Command(context.Background(), filepath.Join(programs, "frisbeed"),
		append(append([]string{"-i", h.Addr.String(), "-m", group, "-p", fmt.Sprint(port)}, args...), image)...)
	s.cmd.Stderr = s.diag
	require.NoError(t, s.cmd.Start())
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(s.stop)
	select {
	case <-s.diag.seen:
	case err := <-s.done:
		s.done <- err
		t.Fatalf("frisbeed ended: %v\n%s", err, s.diag)
	case <-time.After(20 * time.Second):
		t.Fatalf("frisbeed does not serve:\n%s", s.diag)
	}
	return s
}

// stop ends the server, which must still be running, and not complain.
func (s *served) stop() {
	s.over.Do(func() {
		require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(s.t, <-s.done, "frisbeed: %s", s.diag)
	})
}

// memory is the most the server ever had, bytes.
func (s *served) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	require.NotNil(s.t, m)
	var kb int64
	_, err = fmt.Sscan(string(m[1]), &kb)
	require.NoError(s.t, err)
	return kb << 10
}

// got is what one receiver did.
type got struct {
	err    error
	diag   string
	took   time.Duration
	memory int64 // the most it had, bytes
}

// receive runs frisbee on each of the hosts at once and compares what each wrote.
func receive(t *testing.T, hosts []*lab.Host, args ...string) []got {
	t.Helper()
	dir := t.TempDir()
	out := make([]got, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		file := filepath.Join(dir, fmt.Sprint(i))
		cmd := h.Command(t.Context(), filepath.Join(programs, "frisbee"),
			append(append([]string{"-i", h.Addr.String(), "-m", group, "-p", fmt.Sprint(port), "-d", "-T", "20", "--join-timeout", "20"}, args...), file)...)
		all.Go(func() {
			var diag bytes.Buffer
			cmd.Stdout, cmd.Stderr = io.Discard, &diag
			begun := time.Now()
			err := cmd.Run()
			out[i] = got{err: err, diag: diag.String(), took: time.Since(begun)}
			if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
				out[i].memory = ru.Maxrss << 10
			}
		})
	}
	all.Wait()
	want, err := os.ReadFile(data)
	require.NoError(t, err)
	for i, g := range out {
		require.NoError(t, g.err, "host %d: %s", i, g.diag)
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, b), "host %d: what it wrote differs from the image", i)
	}
	return out
}

// figure finds a counter in what frisbee -d says.
func figure(t *testing.T, g got, name string) (n uint64) {
	t.Helper()
	m := regexp.MustCompile(`\b` + name + `:(\d+)`).FindStringSubmatch(g.diag)
	require.NotNil(t, m, "no %s in %q", name, g.diag)
	_, err := fmt.Sscan(m[1], &n)
	require.NoError(t, err)
	return n
}
