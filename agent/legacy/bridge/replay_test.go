package bridge

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/internal/transcript"
)

// tap keeps what a transport gives.
type tap struct {
	transport
	mu    sync.Mutex
	heard []string
}

func (p *tap) receive() ([]string, error) {
	texts, err := p.transport.receive()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, texts...)
	return texts, err
}

// printed is what was heard in the form in which the original controller's program prints it (§a.11): without the
// number, and without what only keeps the transport alive.
func (p *tap) printed() (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.heard {
		sender, rest, _ := strings.Cut(text, " ")
		_, rest, _ = strings.Cut(rest, " ")
		if !strings.HasPrefix(rest, legacy.Heartbeat) && !strings.HasPrefix(rest, legacy.WhoAmI) {
			lines = append(lines, sender+" "+rest)
		}
	}
	return lines
}

// command sends what the recorded controller sent.
func say(t *testing.T, l *link, line string) {
	cmd, err := legacy.ParseCommand(line)
	require.NoError(t, err)
	require.NoError(t, l.send(cmd.Seq > 0, cmd.Target, cmd.Name, cmd.Args...))
}

func distinct(lines []string) (out []string) {
	had := map[string]bool{}
	for _, line := range lines {
		if !had[line] {
			had[line] = true
			out = append(out, line)
		}
	}
	return out
}

// TestMulticastRecording: the recorded agent says what it said, when it said it, and the bridge says what the recorded
// controller said, byte by byte, with these differences: no alias in YOUARE, because that steals the name (§a.6), and no
// RETRY, because that hangs the agent (§a.7). It hears what the controller's program printed, and beyond it what that one
// threw away behind a gap that was none.
func TestMulticastRecording(t *testing.T) {
	seen, printed := transcript.Wire(t, "omf-comm-02-multicast-wire.txt")
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		at := func(d time.Duration) { time.Sleep(time.Until(begun.Add(d))) }
		ether := &group.Ether{}
		agent := ether.Agent(netip.MustParseAddr("10.18.1.2"))
		timing := quick
		timing.Hello, timing.Enrol = 5*time.Second, time.Second
		h := newHub(group.Default(), timing, discard)
		h.conn = ether.Controller(netip.MustParseAddr("10.11.0.40"))
		m := h.add(netip.MustParseAddr("10.18.1.2"), "n_1_2")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		at(8038*time.Millisecond - timing.Hello)
		go func() { done <- h.run(ctx) }()
		linked := make(chan *link, 1)
		p := &tap{}
		go func() {
			via, err := m.await(ctx)
			if err != nil {
				return
			}
			p.transport = via
			l := newLink(p, "n_1_2", timing)
			if l.enrol(ctx, "10.18.1.2") == nil {
				linked <- l
			}
		}()
		var l *link
		for _, d := range seen {
			at(d.At)
			switch {
			case !d.ToAgents:
				require.NoError(t, agent.Write([]byte(d.Text)))
			case d.Text == "0 * RESET\n":
				say(t, l, d.Text)
				l.via.close()
			case d.Text[0] >= '1' && d.Text[0] <= '9':
				if l == nil {
					l = <-linked
				}
				say(t, l, d.Text)
			}
			synctest.Wait()
		}
		<-l.over
		cancel()
		require.NoError(t, <-done)
		var want, got []string
		for _, d := range seen {
			switch {
			case !d.ToAgents, strings.Contains(d.Text, " RETRY "):
			case strings.Contains(d.Text, " YOUARE "):
				want = append(want, "0 10.18.1.2 YOUARE n_1_2 0\n")
			default:
				want = append(want, d.Text)
			}
		}
		for _, e := range ether.Log() {
			if e.ToAgents {
				got = append(got, e.Text)
			}
		}
		require.Equal(t, distinct(want), distinct(got))
		want = nil
		for _, line := range printed {
			if line != "n_1_2 ENROLLED" {
				want = append(want, line)
			}
		}
		want = append(want, "n_1_2 ALLO 09:26:29", "n_1_2 APP_EVENT STARTED exec:1", `n_1_2 APP_EVENT DONE.OK exec:1 "status: 0"`)
		require.Equal(t, want, p.printed())
	})
}

// conversation is a link to an agent at the other end of a pipe, and what that end was told.
type conversation struct {
	*tap
	t     *testing.T
	link  *link
	agent net.Conn
	told  chan string
}

func converse(t *testing.T, name, address string) *conversation {
	ours, theirs := net.Pipe()
	timing := quick
	timing.Enrol, timing.Answer = time.Minute, time.Minute
	c := &conversation{tap: &tap{transport: newStream(ours, name, address, timing)}, t: t, agent: theirs, told: make(chan string, 16)}
	c.link = newLink(c.tap, name, timing)
	go func() {
		defer close(c.told)
		buf := make([]byte, 4096)
		for {
			n, err := theirs.Read(buf)
			if err != nil {
				return
			}
			c.told <- string(buf[:n])
		}
	}()
	return c
}

// says is the agent's turn. It falls silent after it.
func (c *conversation) says(text string) {
	_, err := c.agent.Write([]byte(text))
	require.NoError(c.t, err)
	time.Sleep(2 * legacy.QuietTime * time.Millisecond)
}

// end hangs up and gives what the agent was told.
func (c *conversation) end() (told []string) {
	c.agent.Close()
	<-c.link.over
	for line := range c.told {
		told = append(told, line)
	}
	return told
}

// TestListenLog: the log of the original controller which agents connect to. The bridge says the same, but for blanks at
// the end of lines and for repeating a command on a connection that loses nothing; and it hears DONE.OK, which the
// original loses in what came glued (§a.2).
func TestListenLog(t *testing.T) {
	entries := transcript.Log(t, "omf-comm-03-tcp-listen-commserver-log.txt")
	synctest.Test(t, func(t *testing.T) {
		c := converse(t, "n_0_1", "127.0.0.1")
		enrolled := make(chan error, 1)
		var want []string
		pipes := 0
		for _, e := range entries {
			switch {
			case e.Pipe != "":
				pipes++
			case strings.Contains(e.Sent, "YOUARE"):
				want = append(want, "0 127.0.0.1 YOUARE n_0_1 0\n")
				require.Equal(t, "0 127.0.0.1 YOUARE n_0_1 0 \n", e.Sent)
				go func() { enrolled <- c.link.enrol(t.Context(), "127.0.0.1") }()
				synctest.Wait()
			case strings.HasPrefix(e.Sent, "-1 "):
			case e.Sent != "":
				want = append(want, e.Sent)
				say(t, c.link, e.Sent)
			default:
				c.says(e.Text)
			}
		}
		require.NoError(t, <-enrolled)
		require.Equal(t, 3, pipes)
		require.Equal(t, want, c.end())
		heard := c.printed()
		require.Contains(t, heard, `n_0_1 APP_EVENT DONE.OK builtin:load_image "status: 0"`)
		require.Contains(t, heard, `n_0_1 APP_EVENT STDOUT builtin:load_image`)
		require.Contains(t, heard, `n_0_1 APP_EVENT STDOUT builtin:load_image "0 100 12"`)
		require.Len(t, heard, 1+1+9+1+2+2)
	})
}

// TestConnectingAgentRecording: an agent that connects by itself. Its alias in YOUARE, which made it sign as "image", is
// not given to it here.
func TestConnectingAgentRecording(t *testing.T) {
	steps := transcript.Read(t, "omf-agent-07-tcp-client-mode.txt")
	synctest.Test(t, func(t *testing.T) {
		c := converse(t, "n_1_2", "10.18.1.2")
		enrolled := make(chan error, 1)
		var want, said []string
		for _, step := range steps {
			switch {
			case strings.Contains(step.Sent, "YOUARE"):
				require.Equal(t, "0 * YOUARE n_1_2 0 image\n", step.Sent)
				want = append(want, "0 10.18.1.2 YOUARE n_1_2 0\n")
				go func() { enrolled <- c.link.enrol(t.Context(), "10.18.1.2") }()
				synctest.Wait()
			case step.Sent != "":
				want = append(want, step.Sent)
				say(t, c.link, step.Sent)
			}
			for _, text := range step.Heard {
				text = "n_1_2 " + text[strings.Index(text, " ")+1:]
				c.says(text)
				said = append(said, text)
			}
		}
		require.NoError(t, <-enrolled)
		require.Equal(t, want, c.end())
		require.Equal(t, said, c.heard)
		require.Contains(t, c.printed(), `n_1_2 APP_EVENT DONE.OK builtin:load_image "status: 0"`)
	})
}
