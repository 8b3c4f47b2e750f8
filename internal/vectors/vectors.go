// Package vectors finds what was recorded of the original programs, and what they wrote: images, datagrams, sessions. It
// lies in ../shared/vectors, beside the module; a test that asks for it is skipped where that folder is absent.
//
// What does not live here: what a recording means, which is for who replays it, and vectors small enough for a testdata.
package vectors

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Path is where a file or folder of the recordings lies, by its slash-separated name within them.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		require.NotEqual(t, dir, filepath.Dir(dir), "no go.mod above the test")
		dir = filepath.Dir(dir)
	}
	all := filepath.Join(filepath.Dir(dir), "shared", "vectors")
	if _, err := os.Stat(all); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no recordings of the original programs here: %s", all)
	}
	path := filepath.Join(all, filepath.FromSlash(name))
	_, err = os.Stat(path)
	require.NoError(t, err, "the recordings are here, but this one is not")
	return path
}

// Read is the content of a file of the recordings.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Path(t, name))
	require.NoError(t, err)
	return b
}
