package cluster

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/internal/process"
)

// patience is how long a test waits for what must come.
const patience = 90 * time.Second

// built is the binary, once some test has asked for it.
var built struct{ path string }

// binary builds the command once: the processes run without the race
// detector, which would slow fifty nodes down by much and is on in the tests of
// the packages themselves.
var binary = sync.OnceValues(func() (path string, err error) {
	built.path, err = process.Build()
	return built.path, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built.path != "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
	os.Exit(code)
}

// begin starts omf; Ready waits for it.
func begin(t *testing.T, dir, name string, args ...string) *process.Process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	return process.Start(t, process.Config{Path: path, Dir: dir, Name: name, Patience: patience}, args...)
}
