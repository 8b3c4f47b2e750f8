package listener

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/internal/transcript"
)

var (
	agentAddress = netip.MustParseAddr("10.18.1.2")
	boss         = netip.MustParseAddr("10.11.0.40")
)

// crowded runs an agent on an ether within a bubble of virtual time, and gives a controller's end.
func crowded(t *testing.T, ether *group.Ether, cfg Config) group.Conn {
	cfg.Group, cfg.Name = ether.Agent(agentAddress), agentAddress.String()
	l, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return ether.Controller(boss)
}

// replay is a Machine whose programs print what was recorded, when it was recorded.
type replay struct {
	script
	begun time.Time
	seen  []transcript.Datagram
}

func (r *replay) play(id string) Program {
	return func(ctx context.Context, print func(stream, line string)) int {
		for _, d := range r.seen {
			m, err := legacy.ParseMessage(d.Text)
			if err != nil {
				continue
			}
			e, ok := m.Event()
			if !ok || e.ID != id || e.Kind == legacy.Started {
				continue
			}
			select {
			case <-time.After(time.Until(r.begun.Add(d.At))):
			case <-ctx.Done():
				return 0
			}
			if e.Kind == legacy.DoneOK {
				return 0
			}
			print(e.Kind, e.Text)
		}
		return 0
	}
}

func (r *replay) Load(string, uint16, string) Program { return r.play(legacy.LoadProcess) }
func (r *replay) Command([]string) Program            { return r.play("exec:1") }

// TestMulticastRecording: what the recorded controller said is said to this agent at the same times, and it says the
// same as the original, byte by byte and in the same hundredths; but what it is asked to repeat it repeats, where the
// original hangs (§a.7).
func TestMulticastRecording(t *testing.T) {
	seen, _ := transcript.Wire(t, "omf-comm-02-multicast-wire.txt")
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		machine := &replay{begun: begun, seen: seen}
		var ether group.Ether
		time.Sleep(444 * time.Millisecond) // its heartbeat came at 10.444
		controller := crowded(t, &ether, Config{
			Machine: machine, Heard: group.Default().Agents,
			Now: func() time.Time {
				return time.Unix(1795339573, 300e6).UTC().Add(time.Since(begun) - 20445*time.Millisecond)
			},
		})
		var want []string
		for _, d := range seen {
			if !d.ToAgents {
				time.Sleep(time.Until(begun.Add(d.At + time.Millisecond)))
				want = append(want, d.Text)
				continue
			}
			time.Sleep(time.Until(begun.Add(d.At)))
			require.NoError(t, controller.Write([]byte(d.Text)))
			switch d.Text {
			case "0 n_1_2 RETRY 17 17\n":
				want = append(want, "n_1_2 17 ALLO 09:26:29")
			case "0 n_1_2 RETRY 17 18\n":
				want = append(want, "n_1_2 17 ALLO 09:26:29", "n_1_2 18 APP_EVENT STARTED exec:1")
			case "0 n_1_2 RETRY 17 19\n":
				want = append(want, "n_1_2 17 ALLO 09:26:29", "n_1_2 18 APP_EVENT STARTED exec:1", `n_1_2 19 APP_EVENT DONE.OK exec:1 "status: 0"`)
			}
		}
		time.Sleep(time.Second)
		var got []string
		for _, h := range ether.Log() {
			if !h.ToAgents {
				got = append(got, h.Text)
			}
		}
		require.Equal(t, want, got)
	})
}

// counter is a Machine that notes in which order its programs were started.
type counter struct {
	endless
	order []string
}

func (c *counter) Command(words []string) Program {
	return func(context.Context, func(stream, line string)) int { return 0 }
}

func (c *counter) Load(_ string, _ uint16, disk string) Program {
	c.order = append(c.order, disk)
	return func(context.Context, func(stream, line string)) int { return 0 }
}

// TestMissingCommandsAreAskedFor: commands come late, twice and not at all; each is obeyed once and in its order, and a
// gap that nobody fills does not make the agent deaf.
func TestMissingCommandsAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &counter{}
		var ether group.Ether
		c := crowded(t, &ether, Config{Machine: m})
		say := func(lines ...string) {
			for _, line := range lines {
				require.NoError(t, c.Write([]byte(line)))
			}
			synctest.Wait()
		}
		asked := func() (out []string) {
			for _, h := range ether.Log() {
				if strings.Contains(h.Text, " RETRY ") {
					out = append(out, h.Text)
				}
			}
			return out
		}
		load := func(seq int, disk string) string {
			return fmt.Sprintf("%d n_1_2 LOAD_IMAGE 224.0.0.2 7000 %s\n", seq, disk)
		}
		say("0 10.18.1.2 YOUARE n_1_2 4\n", load(3, "old"), load(5, "a"), load(-5, "a"), load(8, "d"), load(-8, "d"))
		require.Equal(t, []string{"a"}, m.order)
		require.Equal(t, []string{"n_1_2 0 RETRY 6 7"}, asked())
		say(load(-7, "c"))
		require.Equal(t, []string{"a"}, m.order, "its turn has not come")
		say(load(-6, "b"))
		require.Equal(t, []string{"a", "b", "c", "d"}, m.order)
		say(load(11, "f"))
		require.Equal(t, "n_1_2 0 RETRY 9 10", asked()[1])
		for range maxRetries {
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "c", "d", "f"}, m.order, "it goes on without what is lost for good")
		require.Len(t, asked(), 1+maxRetries)
	})
}

// TestSilentControllerIsForgotten (§a.4).
func TestSilentControllerIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &endless{}
		var ether group.Ether
		c := crowded(t, &ether, Config{Machine: m, System: "pxe:1.0.0"})
		require.NoError(t, c.Write([]byte("0 10.18.1.2 YOUARE n_1_2 0\n")))
		require.NoError(t, c.Write([]byte("1 * LOAD_IMAGE 224.0.0.2 7000 /dev/sda\n")))
		synctest.Wait()
		require.EqualValues(t, 1, m.running.Load())
		time.Sleep(71 * time.Second)
		synctest.Wait()
		require.Zero(t, m.running.Load(), "what it started is killed")
		var got []string
		for _, h := range ether.Log() {
			if !h.ToAgents && !strings.Contains(h.Text, " HB ") {
				got = append(got, h.Text)
			}
		}
		require.Equal(t, []string{
			"n_1_2 0 WHOAMI 4.2 - -1 4.4.0 pxe:1.0.0",
			"n_1_2 1 APP_EVENT STARTED builtin:load_image",
			"n_1_2 0 WARN ALMOST_LOST_HANDLER 1 50",
			"n_1_2 0 ERROR LOST_HANDLER 60",
			"10.18.1.2 0 WHOAMI 4.2 - -1 4.4.0 pxe:1.0.0",
		}, slices.Compact(got))
	})
}

// FuzzCrowd: whatever is said on the group, the agent goes on, and keeps within its bounds.
func FuzzCrowd(f *testing.F) {
	f.Add("0 10.18.1.2 YOUARE n_1_2 0\n", "9 * RALLO\n", "0 * RETRY 1 2147483647\n")
	f.Add("0 * YOUARE n_1_2 7 a b\n", "-9 * LOAD_IMAGE 224.0.0.2 7000\n", "0 * RETRY x\n")
	f.Add("1 * RESET", "\x00\xff", "0 * RETRY -5 3\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		synctest.Test(t, func(t *testing.T) {
			var ether group.Ether
			conn := crowded(t, &ether, Config{Machine: &endless{}})
			for _, text := range []string{a, b, c, a, b, c} {
				require.NoError(t, conn.Write([]byte(text)))
				synctest.Wait()
			}
			require.NoError(t, conn.Write([]byte("0 10.18.1.2 RESET\n")))
			require.NoError(t, conn.Write([]byte("0 n_1_2 RESET\n")))
			require.NoError(t, conn.Write([]byte("0 10.18.1.2 YOUARE n_9_9 0\n")))
			synctest.Wait()
			require.NoError(t, conn.Write([]byte("0 n_9_9 RALLO\n")))
			synctest.Wait()
			log := ether.Log()
			require.Contains(t, log[len(log)-1].Text, " ALLO ")
			require.LessOrEqual(t, len(log), 20+6*maxRepeat)
		})
	})
}
