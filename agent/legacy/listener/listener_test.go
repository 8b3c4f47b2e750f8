package listener

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// endless is a Machine whose programs run until they are killed.
type endless struct{ running, started atomic.Int64 }

func (m *endless) program(ctx context.Context, _ func(stream, line string)) int {
	m.started.Add(1)
	m.running.Add(1)
	defer m.running.Add(-1)
	<-ctx.Done()
	return 0
}
func (m *endless) Load(string, uint16, string) Program          { return m.program }
func (m *endless) Save(string, string, string) (Program, error) { return m.program, nil }
func (m *endless) Command([]string) Program                     { return m.program }
func (m *endless) Reboot()                                      {}

func enrolled(t *testing.T, address string) *controller {
	c := dial(t, address, "n_1_2")
	c.send("0 * YOUARE n_1_2 0\n")
	require.Equal(t, []string{"n_1_2 0 HB -1 -1 -1 -1"}, c.hear(1))
	return c
}

func TestSecondControllerIsRefusedUntilTheFirstIsGone(t *testing.T) {
	m := &endless{}
	at := agent(t, m, "")
	first := enrolled(t, at)
	second := dial(t, at)
	require.Equal(t, []string{"ERROR Already connected to a handler"}, second.hear(1))
	require.Empty(t, second.hear(1), "the connection is closed")

	first.send("1 * LOAD_IMAGE 224.0.0.2 7000\n")
	require.Equal(t, []string{"n_1_2 0 APP_EVENT STARTED builtin:load_image"}, first.hear(1))
	require.Eventually(t, func() bool { return m.running.Load() == 1 }, patience, time.Millisecond)
	first.conn.Close()
	reconnect(t, at, "n_1_2")
	require.Zero(t, m.running.Load(), "what the first one started was killed")
}

func TestOneImagingProgramAtATime(t *testing.T) {
	m := &endless{}
	c := enrolled(t, agent(t, m, ""))
	c.send("1 * LOAD_IMAGE 224.0.0.2 7000 /dev/sda\n")
	c.hear(1)
	c.send("2 * LOAD_IMAGE 224.0.0.2 7000 /dev/sda\n")
	require.Equal(t, []string{`n_1_2 0 ERROR EXECUTION "'LOAD_IMAGE' with '224.0.0.2 7000 /dev/sda'" "builtin:load_image is running already"`}, c.hear(1))
	c.send("3 * KILL builtin:load_image TERM\n")
	require.Equal(t, []string{`n_1_2 0 APP_EVENT DONE.ERROR builtin:load_image "status: 9"`}, c.hear(1))
	require.EqualValues(t, 1, m.started.Load())
}

func TestACommandInPieces(t *testing.T) {
	c := enrolled(t, agent(t, &endless{}, ""))
	for _, piece := range []string{"1 * RA", "LLO\n2 *", " RALLO\n"} {
		c.send(piece)
	}
	for _, m := range c.hear(2) {
		require.Contains(t, m, "ALLO")
	}
}

func TestHostileControllers(t *testing.T) {
	c := enrolled(t, agent(t, &endless{}, ""))
	c.send(strings.Repeat("x", 100_000))
	c.send("\n" + strings.Repeat("1 * ( ", 1000) + "\n\x00\xff\n2 ((((* RALLO\n")
	for i := range 2 * maxPrograms {
		c.send("0 * EXEC id" + strings.Repeat("y", i%500) + " sleep\n")
	}
	c.send("0 * LOAD_IMAGE 224.0.0.2 99999\n0 * LOAD_IMAGE\n0 * KILL\n0 * ALIAS " + strings.Repeat("a ", 400) + "\n9 * RALLO\n")
	for {
		got := c.hear(1)
		require.NotEmpty(t, got, "it still answers")
		if strings.Contains(got[0], " ALLO ") {
			return
		}
	}
}

func TestSubstitution(t *testing.T) {
	require.Equal(t, []string{"echo", "n=%n", "1-2/n_1_2", "n"}, substitute([]string{"%echo", "n=%n", "%%x-%y/%n", "%n"}, "n_1_2"))
}
