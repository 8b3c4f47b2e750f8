package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// memory loads with the real programs at several rates, to files, and gives the
// most that a client ever had.
func (b *bench) memory(ctx context.Context) error {
	loads := []struct {
		clients int
		rate    int64
	}{{1, 100e6}, {1, 1e9}, {1, fast}, {4, 300e6}, {4, fast}}
	if b.quick {
		loads = loads[3:]
	}
	most := 0.0
	for i, l := range loads {
		rss, err := b.programs(ctx, l.clients, l.rate, firstPort+10+i)
		if err != nil {
			return fmt.Errorf("%d clients at %d bit/s: %w", l.clients, l.rate, err)
		}
		most = max(most, rss)
	}
	b.judge("memory of a loading `frisbee`, the most at all rates", "≤ 128 MB", most <= 128, "%.0f MB", most)
	return nil
}

// programs runs frisbeed and some frisbees.
func (b *bench) programs(ctx context.Context, clients int, rate int64, port int) (rss float64, err error) {
	p := strconv.Itoa(port)
	srv := b.place.command(ctx, 0, b.path("frisbeed"), "-i", b.place.address(0), "-m", group, "-p", p, "-D", "-W", strconv.FormatInt(rate, 10), b.path("data.ndz"))
	if err := srv.Start(); err != nil {
		return 0, err
	}
	used := make([]usage, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			cmd := b.place.command(ctx, 1+i, b.path("frisbee"), "-q", "-i", b.place.address(1+i), "-m", group, "-p", p, b.path(fmt.Sprintf("disk%d", i)))
			var diag bytes.Buffer
			cmd.Stderr = &diag
			var err error
			if used[i], err = measure(cmd); err != nil {
				errs[i] = fmt.Errorf("frisbee: %w: %s", err, diag.Bytes())
			}
		})
	}
	all.Wait()
	if err := srv.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	var exit *exec.ExitError
	if err := srv.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	spent := srv.ProcessState.UserTime() + srv.ProcessState.SystemTime()
	var slowest, cpu float64
	for _, u := range used {
		slowest, cpu, rss = max(slowest, u.wall.Seconds()), cpu+u.cpu.Seconds(), max(rss, u.rss)
	}
	b.note(fmt.Sprintf("`frisbeed` and %d × `frisbee` to files, cap %d Mbit/s", clients, rate/1e6), "%.2f s; server %.2f, each client %.1f CPU-s/GB; clients %.0f MB",
		slowest, spent.Seconds()/b.gb(), cpu/float64(clients)/b.gb(), rss)
	return rss, nil
}
