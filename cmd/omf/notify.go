package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier tells the service manager how this process fares, as sd_notify(3)
// of systemd describes: a datagram with lines NAME=value. A nil notifier has
// nobody to tell.
type notifier struct {
	send  func(string) error
	every time.Duration // how soon the manager takes silence for death; 0: it does not
	log   *slog.Logger
}

// newNotifier finds the service manager in the environment; where there is
// none the notifier is nil.
func newNotifier(getenv func(string) string, log *slog.Logger) (*notifier, error) {
	socket := getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil, nil
	}
	n := &notifier{log: log, send: func(text string) error {
		// A name that begins with @ is in the abstract space; package net knows.
		c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: socket})
		if err != nil {
			return err
		}
		_, err = c.Write([]byte(text))
		return errors.Join(err, c.Close())
	}}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n, nil // another process is watched
	}
	if text := getenv("WATCHDOG_USEC"); text != "" {
		us, err := strconv.ParseInt(text, 10, 64)
		if err != nil || us < 1000 || us > maxWatchdog.Microseconds() {
			return nil, fmt.Errorf("WATCHDOG_USEC %q: want microseconds, from a millisecond to %s", text, maxWatchdog)
		}
		n.every = time.Duration(us) * time.Microsecond
	}
	return n, nil
}

// maxWatchdog bounds what is sensible for a watchdog.
const maxWatchdog = 24 * time.Hour

// tell sends lines to the service manager. That it cannot be told is no
// reason to end: the manager draws its own conclusions.
func (n *notifier) tell(lines ...string) {
	if n == nil {
		return
	}
	if err := n.send(strings.Join(lines, "\n")); err != nil {
		n.log.Warn("the service manager cannot be told", "err", err)
	}
}

// statusLine is for people who ask the service manager: one line.
func statusLine(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

// watch tells the service manager that this process lives for as long as it
// does, until ctx ends; fine is the status in which it was. Check judges, and
// is asked four times in the time after which silence is death: one slow answer
// is no reason to kill a server, none at all is.
func (n *notifier) watch(ctx context.Context, fine string, check func(context.Context) error) {
	if n == nil || n.every == 0 {
		return
	}
	ticker := time.NewTicker(n.every / 4)
	defer ticker.Stop()
	said := fine
	for {
		cctx, cancel := context.WithTimeout(ctx, n.every/4)
		err := check(cctx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		says, lines := fine, []string{"WATCHDOG=1"}
		if err != nil {
			says = err.Error()
			if !errors.Is(err, errBusAway) {
				lines = nil
				n.log.Error("not alive", "err", err)
			}
		}
		if says != said {
			said = says
			lines = append(lines, statusLine(says))
		}
		if len(lines) > 0 {
			n.tell(lines...)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
