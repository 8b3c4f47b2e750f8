// Package transcript reads the recordings of OMF's own programs (../shared/vectors/omf) for tests.
package transcript

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
)

// Step is something a controller sent, and what the agent said until the controller sent the next thing. The first step
// of a recording may have sent nothing.
type Step struct {
	Sent  string
	Heard []string // segments as they came
}

var line = regexp.MustCompile(`^ *[0-9.]+ (?:\[1\] )?(->|<-|server->agent|agent->server) b?'(.*)'$`)

// Read reads a recording of a connection between a controller and an agent.
func Read(t *testing.T, file string) []Step {
	raw := vectors.Read(t, "omf/"+file)
	steps := []Step{{}}
	in := bufio.NewScanner(bytes.NewReader(raw))
	for in.Scan() {
		m := line.FindStringSubmatch(in.Text())
		if m == nil {
			continue
		}
		text := unquote(t, m[2])
		if m[1] == "->" || m[1] == "server->agent" {
			steps = append(steps, Step{Sent: text})
		} else {
			last := &steps[len(steps)-1]
			last.Heard = append(last.Heard, text)
		}
	}
	require.NoError(t, in.Err())
	require.Greater(t, len(steps), 1, fmt.Sprintf("%s has no steps", file))
	return steps
}
