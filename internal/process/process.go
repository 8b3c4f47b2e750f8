// Package process runs omf as real processes for tests that kill them: built once, ready when they say so.
//
// What does not live here: what the processes are to do, and how long they may take for it.
package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Build builds omf with these flags of go build, in a new directory that the caller removes.
func Build(flags ...string) (path string, err error) {
	dir, err := os.MkdirTemp("", "omf-test-")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "omf")
	args := append(append([]string{"build"}, flags...), "-ldflags", "-s -w", "-o", path, "loadnode/cmd/omf")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
}

// Config says what is started.
type Config struct {
	Path     string // of the program
	Dir      string // gets NAME.log, with what it says on standard error
	Name     string
	Patience time.Duration // how long Ready waits
}

// Process is a process of omf.
type Process struct {
	t    *testing.T
	cfg  Config
	args []string
	log  *os.File
	cmd  *exec.Cmd // nil while it does not run
	out  *Output
}

// Start begins a process. It ends with the test, which shows the end of its log if it failed.
func Start(t *testing.T, cfg Config, args ...string) *Process {
	t.Helper()
	log, err := os.Create(filepath.Join(cfg.Dir, cfg.Name+".log"))
	require.NoError(t, err)
	p := &Process{t: t, cfg: cfg, args: args, log: log}
	t.Cleanup(func() {
		p.Kill()
		log.Close()
		if t.Failed() {
			t.Logf("== %s\n%s", cfg.Name, p.said())
		}
	})
	p.Begin()
	return p
}

// said is the end of the log.
func (p *Process) said() string {
	b, _ := os.ReadFile(p.log.Name())
	if len(b) > 16<<10 {
		b = append([]byte("…"), b[len(b)-16<<10:]...)
	}
	return string(b)
}

// Begin starts the process, again after Kill.
func (p *Process) Begin() {
	p.t.Helper()
	p.out = NewOutput()
	cmd := exec.Command(p.cfg.Path, p.args...)
	cmd.Stdout, cmd.Stderr = p.out, p.log
	cmd.Env = []string{"HOME=" + p.t.TempDir(), "LOADNODE_CONFIG=/dev/null", "PATH=" + os.Getenv("PATH")}
	require.NoError(p.t, cmd.Start())
	p.cmd = cmd
}

// Ready waits for the line that says that it is ready, and returns it.
func (p *Process) Ready() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), p.cfg.Patience)
	defer cancel()
	line, err := p.out.Await(ctx, "ready:")
	if err != nil {
		p.t.Fatalf("omf %s: %v\n%s", strings.Join(p.args, " "), err, p.said())
	}
	return line
}

// Name is what it was called.
func (p *Process) Name() string { return p.cfg.Name }

// Kill is kill -9. It waits until the process is gone.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}
