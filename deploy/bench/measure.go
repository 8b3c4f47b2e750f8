package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// usage is what a finished process took.
type usage struct {
	wall time.Duration
	cpu  time.Duration
	rss  float64 // peak, MB
}

func (b *bench) run(ctx context.Context, name string, args ...string) (usage, []byte, error) {
	cmd := exec.CommandContext(ctx, b.path(name), args...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	begun := time.Now()
	err := cmd.Run()
	if err != nil {
		return usage{}, out.Bytes(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, diag.Bytes())
	}
	return took(cmd, time.Since(begun)), out.Bytes(), nil
}

func took(cmd *exec.Cmd, wall time.Duration) usage {
	u := usage{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = float64(ru.Maxrss) * 1024 / 1e6
	}
	return u
}

// images measures capture and restore, one process each.
func (b *bench) images(ctx context.Context, mib int) error {
	n, err := sources(ctx, b.path("data"), int64(mib)<<20)
	if err != nil {
		return err
	}
	u, _, err := b.run(ctx, "imagezip", "-r", b.path("data"), b.path("data.ndz"))
	if err != nil {
		return err
	}
	b.add("imagezip level 4, data read", "", "%.0f MB/s, %.2f CPU-s/GB, %.0f MB", float64(n)/1e6/u.wall.Seconds(), u.cpu.Seconds()/float64(n)*1e9, u.rss)
	u, _, err = b.run(ctx, "imageunzip", b.path("data.ndz"), b.path("restored"))
	if err != nil {
		return err
	}
	b.add("imageunzip, data written", "", "%.0f MB/s, %.2f CPU-s/GB, %.0f MB", float64(n)/1e6/u.wall.Seconds(), u.cpu.Seconds()/float64(n)*1e9, u.rss)
	st, err := os.Stat(b.path("data.ndz"))
	if err != nil {
		return err
	}
	b.mib = float64(st.Size()) / (1 << 20)
	b.add("size of the image", "", "%.1f MiB of %.1f MiB", b.mib, float64(n)/(1<<20))
	return nil
}

// sessions measures server and client processes, with one and four clients,
// at a rate that one client keeps up with.
func (b *bench) sessions(ctx context.Context) error {
	for i, clients := range []int{1, 4} {
		if err := b.session(ctx, clients, 9310+i); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) session(ctx context.Context, clients, port int) error {
	const group, rate = "239.192.99.1", "600000000"
	server := exec.CommandContext(ctx, b.path("frisbeed"), "-i", "127.0.0.1", "-m", group, "-p", strconv.Itoa(port), "-W", rate, b.path("data.ndz"))
	if err := server.Start(); err != nil {
		return err
	}
	begun := time.Now()
	used := make([]usage, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			used[i], _, errs[i] = b.run(ctx, "frisbee", "-i", fmt.Sprintf("127.0.9.%d", i+1), "-m", group, "-p", strconv.Itoa(port), b.path(fmt.Sprintf("disk%d", i)))
		})
	}
	wg.Wait()
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := server.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s := took(server, time.Since(begun))
	gb := b.mib * (1 << 20) / 1e9
	var slowest time.Duration
	var cpu, rss float64
	for _, u := range used {
		slowest, cpu, rss = max(slowest, u.wall), cpu+u.cpu.Seconds(), max(rss, u.rss)
	}
	b.add(fmt.Sprintf("frisbeed, %d clients: CPU for each GB of image", clients), "", "%.2f CPU-s", s.cpu.Seconds()/gb)
	b.add(fmt.Sprintf("frisbee, %d clients: slowest, CPU each, memory", clients), "< 128 MB", "%.2f s, %.2f CPU-s/GB of image, %.0f MB", slowest.Seconds(), cpu/float64(clients)/gb, rss)
	return nil
}

// job measures the server at rest, and what a job costs beyond the boots of
// its nodes and the transfer.
func (b *bench) job(ctx context.Context, nodes int) error {
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
	rss, err := resident(serve.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.add("memory of `omf serve` at rest", "< 80 MB", "%.0f MB", rss)
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
		if alone, err = b.load(ctx, url, "n1-1"); err != nil {
			return err
		}
	}
	all, err := b.load(ctx, url, "all")
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("job of %d nodes booting in %s, image of 1 MiB: all, one alone, beyond the boot", nodes, boot), "< 2 s beyond", "%.2f s, %.2f s, %.2f s", all, alone, all-boot.Seconds())
	rss, err = resident(serve.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.add("memory of `omf serve` after it", "", "%.0f MB", rss)
	return nil
}

// load runs one job and returns its seconds from acceptance to the end.
func (b *bench) load(ctx context.Context, url, nodes string) (float64, error) {
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

// resident is the memory of a process, MB.
func resident(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no VmRSS in the status of the process")
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
