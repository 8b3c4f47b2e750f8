package transcript

import (
	"bufio"
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
)

// Datagram is one that was seen on the multicast transport.
type Datagram struct {
	At       time.Duration // since the recording began
	From     string        // address
	ToAgents bool
	Text     string
}

var datagram = regexp.MustCompile(`^ *([0-9.]+) ([0-9.]+) -> (224\.4\.0\.[12]):(?:9006|9002) b'(.*)'$`)

// Wire reads a recording of the multicast transport, and what the controller's program printed meanwhile.
func Wire(t *testing.T, file string) (seen []Datagram, printed []string) {
	raw := vectors.Read(t, "omf/"+file)
	wire, stdout, ok := strings.Cut(string(raw), "--- stdout of commServer\n")
	require.True(t, ok, "%s has no printed part", file)
	for line := range strings.Lines(wire) {
		m := datagram.FindStringSubmatch(strings.TrimRight(line, "\n"))
		require.NotNil(t, m, line)
		at, err := time.ParseDuration(m[1] + "s")
		require.NoError(t, err)
		seen = append(seen, Datagram{At: at, From: m[2], ToAgents: strings.HasSuffix(m[3], ".1"), Text: unquote(t, m[4])})
	}
	for line := range strings.Lines(stdout) {
		if line = strings.TrimRight(line, "\n"); !strings.HasPrefix(line, "rc=") {
			printed = append(printed, line)
		}
	}
	return seen, printed
}

func unquote(t *testing.T, s string) string {
	text, err := strconv.Unquote(`"` + strings.NewReplacer(`"`, `\"`, `\'`, `'`).Replace(s) + `"`)
	require.NoError(t, err, s)
	return text
}

// Entry is one thing that the log of the original controller tells.
type Entry struct {
	Pipe string // a line of its pipe language that it was given
	Sent string // a line it sent to an agent
	Name string // of a message it heard: who
	Text string // and what, with its number
}

var (
	pipeLine = regexp.MustCompile(`DEBUG \(main\.c\) stdin: \((.*)$`)
	sentLine = regexp.MustCompile(`DEBUG sending cmd\([0-9]+\): <(.*)$`)
	msgLine  = regexp.MustCompile(`INFO  msg: <([^<>]*)><([^<>]*)><([^<>]*)><(.*)>$`)
)

// Log reads the log of the original controller.
func Log(t *testing.T, file string) (entries []Entry) {
	raw := vectors.Read(t, "omf/"+file)
	in := bufio.NewScanner(bytes.NewReader(raw))
	for in.Scan() {
		if m := pipeLine.FindStringSubmatch(in.Text()); m != nil {
			entries = append(entries, Entry{Pipe: m[1]})
		} else if m := sentLine.FindStringSubmatch(in.Text()); m != nil {
			entries = append(entries, Entry{Sent: m[1] + "\n"})
		} else if m := msgLine.FindStringSubmatch(in.Text()); m != nil {
			entries = append(entries, Entry{Name: m[1], Text: m[1] + " " + m[3] + " " + m[2] + " " + m[4]})
		}
	}
	require.NoError(t, in.Err())
	require.NotEmpty(t, entries)
	return entries
}

// Files are the names of all recordings.
func Files(t *testing.T) (names []string) {
	files, err := os.ReadDir(vectors.Path(t, "omf"))
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}
