package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// usage is what a finished process took.
type usage struct {
	wall time.Duration
	cpu  time.Duration
	rss  float64 // peak, MB
}

// run runs one of the built programs to its end.
func (b *bench) run(ctx context.Context, name string, args ...string) (usage, []byte, error) {
	cmd := exec.CommandContext(ctx, b.path(name), args...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	u, err := measure(cmd)
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, diag.Bytes())
	}
	return u, out.Bytes(), err
}

// measure runs a prepared program.
func measure(cmd *exec.Cmd) (usage, error) {
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	peak := watch(cmd.Process.Pid)
	err := cmd.Wait()
	return usage{wall: time.Since(begun), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss: peak()}, err
}

// watch follows the memory of a process, MB, until the function it gives is
// called. What the system says of a process that has ended counts the memory of
// its parent as well.
func watch(pid int) (peak func() float64) {
	end, most := make(chan struct{}), make(chan float64)
	go func() {
		var mb float64
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if now, err := status(pid, "VmHWM:"); err == nil {
				mb = now // it never falls, except when the program proper replaces the one that starts it
			}
			select {
			case <-tick.C:
			case <-end:
				tick.Stop()
				most <- mb
				return
			}
		}
	}()
	return func() float64 { close(end); return <-most }
}

// status is a size from /proc/PID/status, MB.
func status(pid int, field string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", field, pid)
}

// player is this program in a role, somewhere.
type player struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	diag bytes.Buffer
	role string
}

// cast starts a role on a host and waits until it is ready.
func (b *bench) cast(ctx context.Context, host int, role string, config any, env ...string) (*player, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	p := &player{cmd: b.place.command(ctx, host, self, string(text)), role: role}
	p.cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	p.cmd.Stderr = &p.diag
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("%s did not begin: %w", role, err), p.kill())
	}
	return p, nil
}

// begin lets it do its work.
func (p *player) begin() error {
	_, err := io.WriteString(p.in, "go\n")
	return err
}

// result waits for the end of its work and gives what it says.
func (p *player) result(into any) error {
	err := json.NewDecoder(p.out).Decode(into)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", p.role, err), p.kill())
	}
	return p.wait()
}

func (p *player) wait() error {
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.role, err, bytes.TrimSpace(p.diag.Bytes()))
	}
	return nil
}

func (p *player) kill() error {
	_ = p.cmd.Process.Kill()
	return p.wait()
}
