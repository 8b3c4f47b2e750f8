package listener

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/internal/transcript"
	"loadnode/internal/vectors"
)

// TestControllerVanishesRecording: while one controller has a load run another is turned away with the recorded words;
// when the first vanishes, what it ran is killed, as by the original, and the next one is served.
func TestControllerVanishesRecording(t *testing.T) {
	m := &endless{}
	at := agent(t, m, "10.18.1.2")
	first := dial(t, at, "10.18.1.2", "n_1_2")
	for _, step := range transcript.Read(t, "omf-agent-03a-disconnect-mid-load.txt") {
		if step.Sent != "" {
			first.send(step.Sent)
		}
		require.Equal(t, step.Heard, first.hear(len(step.Heard)))
	}
	require.Eventually(t, func() bool { return m.running.Load() == 1 }, patience, time.Millisecond)

	raw := vectors.Read(t, "omf/"+"omf-agent-03b-already-connected.txt")
	second := dial(t, at)
	_ = second.conn.SetReadDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(second.conn)
	require.NoError(t, err, "the agent hangs up")
	require.Equal(t, legacy.ErrorWord+" "+legacy.Connected, string(said))
	require.Contains(t, string(raw), " <- '"+string(said)+"'\n")

	first.conn.Close()
	reconnect(t, at, "10.18.1.2")
	require.Zero(t, m.running.Load())
}

// TestRawBytesRecording: the answer to YOUARE has exactly the bytes of the dump, and none behind them.
func TestRawBytesRecording(t *testing.T) {
	raw := vectors.Read(t, "omf/"+"omf-agent-06-nc-raw-bytes.txt")
	var want []byte
	for line := range strings.Lines(string(raw)) {
		_, line, found := strings.Cut(line, ": ")
		require.True(t, found)
		columns, _, _ := strings.Cut(line, "  ")
		b, err := hex.DecodeString(strings.ReplaceAll(columns, " ", ""))
		require.NoError(t, err)
		want = append(want, b...)
	}
	c := dial(t, agent(t, &endless{}, "10.18.1.2"))
	c.send("0 * YOUARE n_1_2 0\n")
	got := make([]byte, len(want))
	_, err := io.ReadFull(c.conn, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "%q", got)
	_ = c.conn.SetReadDeadline(time.Now().Add(4 * quiet))
	_, err = c.conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
