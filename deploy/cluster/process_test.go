package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come.
const patience = 90 * time.Second

// binary builds the command once: the processes run without the race
// detector, which would slow fifty nodes down by much and is on in the tests of
// the packages themselves.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "omf-cluster-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "omf")
	out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "loadnode/cmd/omf").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// output keeps what a process says on standard output.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.buf.Write(p)
}

// await returns the first line with that beginning.
func (o *output) await(ctx context.Context, prefix string) (string, error) {
	for {
		o.mu.Lock()
		text, more := o.buf.String(), o.more
		o.mu.Unlock()
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

// process is an omf process.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  *os.File
	out  *output
	once sync.Once
}

// begin starts omf; ready waits for it.
func begin(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	log, err := os.Create(filepath.Join(dir, name+".log"))
	require.NoError(t, err)
	p := &process{t: t, name: name, log: log, out: &output{more: make(chan struct{})}}
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, log
	p.cmd.Env = []string{"HOME=" + dir, "LOADNODE_CONFIG=/dev/null", "PATH=" + os.Getenv("PATH")}
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		p.kill()
		log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			if len(b) > 16<<10 {
				b = append([]byte("…"), b[len(b)-16<<10:]...)
			}
			t.Logf("== %s\n%s", name, b)
		}
	})
	return p
}

func (p *process) ready() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	line, err := p.out.await(ctx, "ready:")
	require.NoError(p.t, err, p.name)
	return line
}

// kill is kill -9. It waits until the process is gone.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}
