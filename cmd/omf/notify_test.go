package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// manager is a service manager that hears notifications.
type manager struct {
	t *testing.T
	c *net.UnixConn
}

func newManager(t *testing.T, socket string) *manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &manager{t, c}
}

// next is the next notification, as lines.
func (m *manager) next() []string {
	m.t.Helper()
	require.NoError(m.t, m.c.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 4096)
	n, err := m.c.Read(buf)
	require.NoError(m.t, err)
	return strings.Split(string(buf[:n]), "\n")
}

// until is the first notification with a line.
func (m *manager) until(line string) []string {
	m.t.Helper()
	for {
		if got := m.next(); got[0] == line {
			return got
		}
	}
}

// TestNotify: a server tells the service manager what it waits for, that it is
// ready, that it lives, and that it ends.
func TestNotify(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]string{
		"file":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@loadnode-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, socket)
			var out, log bytes.Buffer
			a := newApp(strings.NewReader(""), &out, &log)
			state := t.TempDir()
			a.system = t.TempDir()
			a.environ = []string{
				"HOME=" + t.TempDir(), "STATE_DIRECTORY=" + state + ":/elsewhere", "NOTIFY_SOCKET=" + socket,
				"WATCHDOG_USEC=40000000", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid()),
			}
			ctx, end := context.WithCancel(t.Context())
			code := make(chan int, 1)
			go func() {
				code <- a.execute(ctx, append([]string{"serve", "--nats-listen", "127.0.0.1:0", "--http", "none", "--grid", "1x1", "--log", "warn"}, ownSessions(t)...))
			}()
			for _, role := range []string{roleNATS, roleHandler, roleFrisbee} {
				require.Equal(t, []string{"STATUS=waiting for role " + role}, m.next())
			}
			ready := m.next()
			require.Len(t, ready, 2)
			require.Equal(t, "READY=1", ready[0])
			require.Regexp(t, `^STATUS=nats, handler, frisbee; nats://127\.0\.0\.1:\d+$`, ready[1])
			require.Equal(t, []string{"WATCHDOG=1"}, m.next(), "all roles answered")
			end()
			require.Equal(t, []string{"STOPPING=1", "STATUS=ending"}, m.until("STOPPING=1"))
			require.Zero(t, <-code, log.String())
			require.DirExists(t, filepath.Join(state, "nats"), "the state is where the service manager says")
		})
	}
}

func TestNotifierSettings(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for name, tc := range map[string]struct {
		env   map[string]string
		some  bool
		every time.Duration
		err   string
	}{
		"no manager":      {map[string]string{"WATCHDOG_USEC": "1000000"}, false, 0, ""},
		"no watchdog":     {map[string]string{"NOTIFY_SOCKET": "/s"}, true, 0, ""},
		"watchdog":        {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": self}, true, time.Minute, ""},
		"any process":     {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1000"}, true, time.Millisecond, ""},
		"another process": {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1" + self}, true, 0, ""},
		"no number":       {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "soon"}, false, 0, `WATCHDOG_USEC "soon"`},
		"zero":            {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "0"}, false, 0, "want microseconds"},
		"huge":            {map[string]string{"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "9223372036854775807"}, false, 0, "want microseconds"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := newNotifier(func(k string) string { return tc.env[k] }, nil)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.some, n != nil)
			if n != nil {
				require.Equal(t, tc.every, n.every)
			}
		})
	}
}

// TestNotifyNobody: what cannot be sent is told in the log, once for each, and
// without a manager nothing happens.
func TestNotifyNobody(t *testing.T) {
	var none *notifier
	none.tell("READY=1")
	none.watch(t.Context(), "", nil)

	var log bytes.Buffer
	socket := filepath.Join(t.TempDir(), "absent")
	n, err := newNotifier(func(k string) string { return map[string]string{"NOTIFY_SOCKET": socket}[k] }, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	n.tell("READY=1")
	require.Equal(t, 1, strings.Count(log.String(), "the service manager cannot be told"))
	require.Contains(t, log.String(), socket)
}

// TestWatchdog: as long as every role answers the manager hears so; of a
// process in which one hangs it hears no more, until the role answers again.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		var log bytes.Buffer
		told := make(chan string, 100)
		n := &notifier{every: time.Minute, log: slog.New(slog.NewTextHandler(&log, nil)), send: func(s string) error { told <- s; return nil }}
		heard := func() (out []string) {
			for synctest.Wait(); len(told) > 0; {
				out = append(out, <-told)
			}
			return out
		}

		type answer struct {
			err  error
			held chan struct{} // nil: given at once
		}
		var handler atomic.Pointer[answer]
		var asked atomic.Int32
		handler.Store(&answer{})
		h := newHealth(map[string]func(context.Context) error{
			roleNATS: func(context.Context) error { return nil },
			roleHandler: func(context.Context) error {
				asked.Add(1)
				a := handler.Load()
				if a.held != nil {
					<-a.held // deaf to its context, as what hangs is
				}
				return a.err
			},
		})
		done := make(chan struct{})
		go func() { defer close(done); n.watch(ctx, "fine", h.check) }()

		require.Equal(t, []string{"WATCHDOG=1"}, heard(), "at once")
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"WATCHDOG=1", "WATCHDOG=1"}, heard(), "every quarter")

		stuck := &answer{held: make(chan struct{})}
		handler.Store(stuck)
		time.Sleep(5 * time.Minute)
		require.Equal(t, []string{"STATUS=role handler does not answer: it hangs"}, heard())
		require.EqualValues(t, 4, asked.Load(), "what hangs is not asked again")
		require.Contains(t, log.String(), "it hangs")

		handler.Store(&answer{})
		close(stuck.held)
		time.Sleep(16 * time.Second)
		require.Equal(t, []string{"WATCHDOG=1\nSTATUS=fine", "WATCHDOG=1"}, heard(), "at once, and at the next quarter")

		handler.Store(&answer{err: errors.New("no\nluck")})
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"STATUS=role handler does not answer: no; luck"}, heard())

		handler.Store(&answer{err: fmt.Errorf("asked: %w", errBusAway)})
		time.Sleep(30 * time.Second)
		got := heard()
		require.Equal(t, "WATCHDOG=1\nSTATUS=asked: "+errBusAway.Error(), got[0], "to start anew would not help")
		require.Equal(t, "WATCHDOG=1", got[1])

		end()
		<-done
		require.Empty(t, heard())
	})
}
