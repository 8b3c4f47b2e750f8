package agent_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/internal/lab"
	"loadnode/bus/bustest"
	"loadnode/bus/embedded"
	"loadnode/events"
)

const (
	memoryLimit = 128 << 10 // KiB, of the whole process
	sizeLimit   = 12 << 20  // bytes, of the program
)

// takeAnything is an image service that keeps nothing.
func takeAnything(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(events.Place{State: events.PlaceOpen}) // the agent sees what is missing
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		_ = json.NewEncoder(w).Encode(events.Image{Name: "new.ndz", Size: n, Digest: strings.Repeat("0", 64)}) // likewise
	}
}

// TestProgramIsSmall loads an image several times as large as its buffers with
// the program itself, saves it again, and looks at what it took.
func TestProgramIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program and loads 120 MiB")
	}
	program := filepath.Join(t.TempDir(), "omf-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "loadnode/cmd/omf-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	st, err := os.Stat(program)
	require.NoError(t, err)
	require.Less(t, st.Size(), int64(sizeLimit))

	h := bustest.StartWith(t, embedded.Config{Listen: "127.0.0.1:-1"})
	b := &bench{t: t, bus: h, handler: h.Connect(t), images: lab.Serve(t, lab.NewLargeImage(t, 120))}
	b.machine = &fileMachine{path: filepath.Join(t.TempDir(), "disk")}
	b.images.StartData()
	cred, err := json.Marshal(h.Server().NodeCredential(bustest.Testbed, nodeName))
	require.NoError(t, err)
	agent := exec.Command(program, "--nats", h.Server().ClientURL(), "--node", nodeName, "--boot-id", bootID, "--imaging", "--disk-allow-regular")
	agent.Env = append(os.Environ(), "OMF_AGENT_CREDENTIAL="+string(cred))
	require.NoError(t, agent.Start())
	b.up()
	cmd := b.command()
	cmd.Disk, cmd.Verify = b.machine.path, events.VerifyReadback
	b.obeyed(events.VerbLoad, cmd)
	b.done()
	sink := httptest.NewServer(http.HandlerFunc(takeAnything))
	defer sink.Close()
	save := events.SaveCommand{NodeRef: cmd.NodeRef, Effect: "save", Image: "new.ndz", Disk: b.machine.path,
		Place: events.Place{Image: "new.ndz", URL: sink.URL, Token: "secret"}}
	save.Attempt = 2
	b.obeyed(events.VerbSave, save)
	d := b.saveOutcome(2)
	require.IsType(t, events.SaveDone{}, d, "%+v", d)
	require.Greater(t, d.(events.SaveDone).BytesSent, int64(100<<20))
	peak := peakMemory(t, agent.Process.Pid)
	require.NoError(t, agent.Process.Signal(os.Interrupt))
	require.NoError(t, agent.Wait())
	require.Less(t, peak, memoryLimit)
	require.Greater(t, peak, 1<<10, "this is no measurement")
	b.requireDisk(true)
}

// peakMemory is the most memory that a process ever had resident, in KiB.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	require.True(t, ok)
	var kib int
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib
}
