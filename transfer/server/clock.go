package server

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the time by which a pace is kept.
type Clock interface {
	Now() time.Time
	// Sleep waits for d or until ctx ends, and then returns its error. It may
	// be late; whoever keeps a pace makes up for it.
	Sleep(ctx context.Context, d time.Duration) error
}

// systemClock sleeps by the timers of the runtime: the real clock, or the
// virtual one inside testing/synctest. On a quiet machine it is late by up to
// a millisecond, because the runtime waits for events in whole milliseconds.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// FineClock is the real clock with short sleeps that end within some 50 µs.
//
// It sleeps on timers of the kernel, which wake the runtime's poller as a
// datagram would. nanosleep is as exact but keeps one of the runtime's
// processors from everybody else meanwhile, or its monitor busy taking it back;
// turning in a loop until the time has come burns a core. Longer sleeps leave
// all but the end to the runtime's timers, which the end of a context wakes.
type FineClock struct {
	mu     sync.Mutex
	idle   []*fineTimer
	closed bool
}

// NewFineClock makes a clock, which is to be closed. Any number of goroutines
// may sleep by it.
func NewFineClock() *FineClock { return &FineClock{} }

const (
	// deaf is the longest sleep during which the end of a context is not noticed.
	deaf = 5 * time.Millisecond
	// alarm is how much of a longer sleep is slept finely.
	alarm = 2 * time.Millisecond
)

// fineTimer is a timer of the kernel.
type fineTimer struct {
	fd   int
	file *os.File // owns fd and waits for it in the runtime's poller
	buf  [8]byte
}

// Now implements Clock.
func (c *FineClock) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (c *FineClock) Sleep(ctx context.Context, d time.Duration) error {
	until := time.Now().Add(d)
	if d > deaf {
		if err := (systemClock{}).Sleep(ctx, d-alarm); err != nil {
			return err
		}
		d = time.Until(until)
	}
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t, err := c.take()
	if err == nil {
		err = t.sleep(d)
		c.put(t, err)
	}
	if err != nil { // no more descriptors, or closed: less exact
		return (systemClock{}).Sleep(ctx, time.Until(until))
	}
	return nil
}

// Close frees the timers which nobody uses; the others when they have ended.
func (c *FineClock) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for _, t := range c.idle {
		errs = append(errs, t.file.Close())
	}
	c.idle = nil
	return errors.Join(errs...)
}

func (c *FineClock) take() (*fineTimer, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		t := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return t, nil
	}
	c.mu.Unlock()
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &fineTimer{fd: fd, file: os.NewFile(uintptr(fd), "timer")}, nil
}

func (c *FineClock) put(t *fineTimer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || err != nil {
		_ = t.file.Close() // of a timer there is nothing to lose
		return
	}
	c.idle = append(c.idle, t)
}

func (t *fineTimer) sleep(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(t.fd, 0, &spec, nil); err != nil {
		return err
	}
	_, err := t.file.Read(t.buf[:])
	return err
}
