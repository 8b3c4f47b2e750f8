package legacy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy/internal/transcript"
)

// replays says which tests replay which recording of OMF's own programs: this side played by our code, the other by the
// recording. Paths are below the module.
var replays = map[string][]string{
	"omf-agent-01-load-real-frisbee.txt":        {"agent/legacy/listener/replay_test.go TestRecordings"},
	"omf-agent-02-protocol-edge-cases.txt":      {"agent/legacy/listener/replay_test.go TestRecordings"},
	"omf-agent-03a-disconnect-mid-load.txt":     {"agent/legacy/listener/vanish_test.go TestControllerVanishesRecording"},
	"omf-agent-03b-already-connected.txt":       {"agent/legacy/listener/vanish_test.go TestControllerVanishesRecording"},
	"omf-agent-04-failures-and-save.txt":        {"agent/legacy/listener/replay_test.go TestRecordings", "agent/legacy/bridge/save_test.go TestSaveToDirectory"},
	"omf-agent-05-loopback-seed-form.txt":       {"agent/legacy/listener/replay_test.go TestRecordings"},
	"omf-agent-06-nc-raw-bytes.txt":             {"agent/legacy/listener/vanish_test.go TestRawBytesRecording"},
	"omf-agent-07-tcp-client-mode.txt":          {"agent/legacy/bridge/replay_test.go TestConnectingAgentRecording"},
	"omf-comm-01-tcp-wire.txt":                  {"agent/legacy/listener/replay_test.go TestRecordings"},
	"omf-comm-02-multicast-wire.txt":            {"agent/legacy/bridge/replay_test.go TestMulticastRecording", "agent/legacy/listener/crowd_test.go TestMulticastRecording"},
	"omf-comm-03-tcp-listen-commserver-log.txt": {"agent/legacy/bridge/replay_test.go TestListenLog"},
	"omf-grid-01-frisbee.txt":                   {"frisbeesvc/compat/compat_test.go TestRecordings"},
	"omf-grid-02-service-descriptions.txt":      {"frisbeesvc/compat/compat_test.go TestRecordings"},
	"omf-grid-03-inventory.txt":                 {"frisbeesvc/compat/compat_test.go TestRecordings"},
	"omf-grid-04-pxe-cmc.txt":                   {"frisbeesvc/compat/compat_test.go TestRecordings"},
	"omf-lineserializer-vectors.json":           {"agent/legacy/line_test.go TestQuotingOfTheOriginal"},
}

// TestEveryRecordingIsReplayed: no recording is without a test, and each test is there and names its recording.
func TestEveryRecordingIsReplayed(t *testing.T) {
	for _, file := range transcript.Files(t) {
		require.NotEmpty(t, replays[file], "%s has no replay", file)
	}
	for file, tests := range replays {
		for _, test := range tests {
			path, name, _ := strings.Cut(test, " ")
			src, err := os.ReadFile(filepath.Join("../..", path))
			require.NoError(t, err)
			parsed, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
			require.NoError(t, err)
			found := false
			for _, d := range parsed.Decls {
				f, ok := d.(*ast.FuncDecl)
				found = found || ok && f.Name.Name == name && strings.Contains(string(src[f.Pos()-1:f.End()-1]), `"`+file+`"`)
			}
			require.True(t, found, "%s of %s does not replay %s", name, path, file)
		}
	}
}
