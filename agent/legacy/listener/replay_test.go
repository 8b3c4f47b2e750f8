package listener

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/internal/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// script is a Machine whose programs print what a recording says.
type script struct {
	mu      sync.Mutex
	lines   map[string][]event // what programs print next, by their id
	reboots int
}

type event struct{ stream, text string }

// play is the program of an id: its recorded output and end. Without an end it runs until it is killed.
func (m *script) play(id string) Program {
	m.mu.Lock()
	events := m.lines[id]
	m.mu.Unlock()
	return func(ctx context.Context, print func(stream, line string)) int {
		for _, e := range events {
			if e.stream == legacy.DoneOK || e.stream == legacy.DoneError {
				code, signal, _ := legacy.Event{Text: e.text}.ExitStatus()
				if signal != 0 {
					break // it was killed
				}
				return Exit(code)
			}
			print(e.stream, e.text)
		}
		<-ctx.Done()
		return 0
	}
}

func (m *script) Load(string, uint16, string) Program { return m.play(legacy.LoadProcess) }
func (m *script) Save(string, string, string) (Program, error) {
	return m.play(legacy.SaveProcess), nil
}
func (m *script) Command(words []string) Program { return m.play("command") }
func (m *script) Reboot() {
	m.mu.Lock()
	m.reboots++
	m.mu.Unlock()
}

// expect sets what the programs of a step print, from what they printed in the recording up to their end.
func (m *script) expect(steps []transcript.Step, split func(string) []string) {
	all := map[string][]event{}
	for i, step := range steps {
		for _, segment := range step.Heard {
			for _, text := range split(segment) {
				msg, err := legacy.ParseMessage(text)
				if err != nil {
					continue
				}
				e, ok := msg.Event()
				if !ok || e.Kind == legacy.Started {
					continue
				}
				id := e.ID
				if id != legacy.LoadProcess && id != legacy.SaveProcess {
					id = "command"
				}
				if i == 0 || id != "command" {
					all[id] = append(all[id], event{e.Kind, e.Text})
				}
			}
		}
		if i > 0 && strings.Contains(step.Sent, "_IMAGE") {
			break // the next program begins
		}
	}
	for id := range all { // ends come last, whatever overtook what (§a.2)
		slices.SortStableFunc(all[id], func(a, b event) int {
			return boolInt(strings.HasPrefix(a.stream, "DONE")) - boolInt(strings.HasPrefix(b.stream, "DONE"))
		})
	}
	m.mu.Lock()
	m.lines = all
	m.mu.Unlock()
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// agent starts a Listener that calls itself by an address.
func agent(t *testing.T, m Machine, name string) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := New(Config{Listener: ln, Machine: m, Name: name})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return ln.Addr().String()
}

// controller is the other end.
type controller struct {
	t    *testing.T
	conn net.Conn
	s    *legacy.Splitter
	got  []string
}

func dial(t *testing.T, address string, names ...string) *controller {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &controller{t: t, conn: c, s: legacy.NewSplitter(names...)}
}

func (c *controller) send(text string) {
	_, err := c.conn.Write([]byte(text))
	require.NoError(c.t, err)
}

// hear waits for n messages.
func (c *controller) hear(n int) []string {
	buf := make([]byte, 4096)
	deadline := time.Now().Add(patience)
	for len(c.got) < n {
		_ = c.conn.SetReadDeadline(time.Now().Add(legacy.QuietTime * time.Millisecond))
		k, err := c.conn.Read(buf)
		c.got = append(c.got, c.s.Write(buf[:k])...)
		if err != nil {
			c.got = append(c.got, c.s.Flush()...)
			if e, ok := err.(net.Error); !ok || !e.Timeout() || time.Now().After(deadline) {
				break
			}
		}
	}
	out := c.got[:min(n, len(c.got))]
	c.got = c.got[len(out):]
	return out
}

var (
	clock = regexp.MustCompile(`\d\d:\d\d:\d\d$`)
	// differs are answers where this agent is better, or clearer: what the original says, and what is said here.
	differs = map[string]string{
		`n_1_2 0 ERROR EXECUTION "'KILL' with 'exec:nosuch'" "undefined method`:          `n_1_2 0 ERROR EXECUTION "'KILL' with 'exec:nosuch'" "no program exec:nosuch runs"`,
		`n_1_2 0 ERROR EXECUTION "'CONFIGURE' with 'net/e0 up'" "Expected path 'net/e0'`: `n_1_2 0 ERROR UNKNOWN_CMD CONFIGURE`,
	}
)

func normal(text string) string {
	for theirs, ours := range differs {
		if strings.HasPrefix(text, theirs) {
			return ours
		}
	}
	return clock.ReplaceAllString(text, "HH:MM:SS")
}

// TestRecordings drives this agent as the recorded controllers drove the original one, and hears the same.
func TestRecordings(t *testing.T) {
	for file, address := range map[string]string{
		"omf-agent-01-load-real-frisbee.txt":   "10.18.1.2",
		"omf-agent-02-protocol-edge-cases.txt": "10.18.1.2",
		"omf-agent-04-failures-and-save.txt":   "10.18.1.2",
		"omf-agent-05-loopback-seed-form.txt":  "127.0.0.1",
		"omf-comm-01-tcp-wire.txt":             "10.18.1.2",
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			steps := transcript.Read(t, file)
			split := func(segment string) []string {
				s := legacy.NewSplitter(address, "n_1_2")
				return append(s.Write([]byte(segment)), s.Flush()...)
			}
			m := &script{}
			at := agent(t, m, address)
			c := dial(t, at, address, "n_1_2")
			for i, step := range steps {
				if i > 0 && steps[i-1].Sent == "7 * RALLO\n" && strings.Contains(step.Sent, "YOUARE") { // a second connection
					c.conn.Close()
					c = reconnect(t, at, address)
				}
				if strings.HasPrefix(step.Sent, "0 10.18.1.2 REBOOT") {
					c.send(step.Sent)
					continue
				}
				var want []string
				for _, segment := range step.Heard {
					for _, text := range split(segment) {
						want = append(want, normal(text))
					}
				}
				m.expect(steps[i:], split)
				if step.Sent != "" {
					c.send(step.Sent)
				}
				var got []string
				for _, text := range c.hear(len(want)) {
					got = append(got, normal(text))
				}
				require.ElementsMatch(t, want, got, "step %d: %q", i, step.Sent)
			}
			c.conn.(*net.TCPConn).CloseWrite()
			require.Empty(t, c.hear(1), "more was said than in the recording")
		})
	}
}

// reconnect dials until the agent has let go of the controller before, and leaves it not enrolled.
func reconnect(t *testing.T, at, address string) *controller {
	deadline := time.Now().Add(patience)
	for {
		c := dial(t, at, address, "n_1_2")
		c.send("0 * YOUARE n_1_2 0\n")
		if got := c.hear(1); len(got) == 1 && strings.Contains(got[0], "HB") {
			c.send("0 * RESET\n")
			return c
		}
		require.True(t, time.Now().Before(deadline))
	}
}
