package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// job measures the server at rest, and what a job costs beyond the boots of
// its nodes and the transfer.
func (b *bench) job(ctx context.Context) error {
	nodes := b.nodes
	if err := os.Mkdir(b.path("images"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("small"), bytes.Repeat([]byte("loadnode"), 64<<10), 0o644); err != nil {
		return err
	}
	if _, _, err := b.run(ctx, "imagezip", "-r", b.path("small"), b.path("images/small.ndz")); err != nil {
		return err
	}
	natsAddress, err := free()
	if err != nil {
		return err
	}
	httpAddress, err := free()
	if err != nil {
		return err
	}
	serve, err := b.serve(ctx, "--state", b.path("state"), "--images", b.path("images"), "--nats-listen", natsAddress, "--http", httpAddress, "--grid", fmt.Sprintf("%dx1", nodes))
	if err != nil {
		return err
	}
	defer serve.end()
	rss, err := status(serve.cmd.Process.Pid, "VmRSS:")
	if err != nil {
		return err
	}
	b.judge("memory of `omf serve` at rest", "< 80 MB", rss < 80, "%.0f MB", rss)
	const boot = 500 * time.Millisecond
	url := "nats://" + natsAddress
	sim, err := b.background(ctx, "sim", "--grid", fmt.Sprintf("%dx1", nodes), "--server", url, "--dir", b.path("disks"), "--boot", boot.String()+"-"+boot.String(), "--log", "error")
	if err != nil {
		return err
	}
	defer sim.end()
	// The first load warms up; one node alone then shows what boot, transfer
	// and the protocol's own waits cost without a crowd.
	alone := 0.0
	for range 2 {
		if alone, err = b.loadNodes(ctx, url, "n1-1"); err != nil {
			return err
		}
	}
	all, err := b.loadNodes(ctx, url, "all")
	if err != nil {
		return err
	}
	b.judge(fmt.Sprintf("job of %d nodes booting in %s, image of 1 MiB: all, one alone, beyond the boot", nodes, boot), "< 2 s beyond", all-boot.Seconds() < 2, "%.2f s, %.2f s, %.2f s", all, alone, all-boot.Seconds())
	rss, err = status(serve.cmd.Process.Pid, "VmRSS:")
	if err != nil {
		return err
	}
	b.note("memory of `omf serve` after it", "%.0f MB", rss)
	return nil
}

// loadNodes runs one job and returns its seconds from acceptance to the end.
func (b *bench) loadNodes(ctx context.Context, url, nodes string) (float64, error) {
	_, out, err := b.run(ctx, "omf", "load", nodes, "small.ndz", "--server", url, "-o", "json", "-q")
	if err != nil {
		return 0, err
	}
	var o struct {
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(out), &o); err != nil {
		return 0, fmt.Errorf("outcome of the load: %w\n%s", err, out)
	}
	return o.Seconds, nil
}

// process is an omf command in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
}

func (b *bench) serve(ctx context.Context, args ...string) (*process, error) {
	return b.background(ctx, append([]string{"serve", "--log", "error"}, args...)...)
}

// background starts an omf command and waits for its line "ready: …".
func (b *bench) background(ctx context.Context, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, b.path("omf"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan bool, 1)
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer cmd.Wait()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	if !<-ready {
		return nil, fmt.Errorf("omf %s ended before it was ready", strings.Join(args, " "))
	}
	return p, nil
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
