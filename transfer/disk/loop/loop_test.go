package loop

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAttach: the device is the part of the file, no more, and is gone when it is closed.
func TestAttach(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	const part = 64 << 10
	path := filepath.Join(t.TempDir(), "disk")
	text := make([]byte, 3*part)
	for i := range text {
		text[i] = byte(i / part)
	}
	require.NoError(t, os.WriteFile(path, text, 0o600))
	f, err := Attach(path, part, part, false)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	got := make([]byte, 2*part)
	n, _ := f.ReadAt(got, 0)
	require.Equal(t, text[part:2*part], got[:n])
	_, err = f.WriteAt([]byte{7}, 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	text[part] = 7
	require.Equal(t, text, after)

	f, err = Attach(path, 0, part, true)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{8}, 0)
	require.Error(t, err)
	require.NoError(t, f.Close())
	_, err = Attach(filepath.Join(t.TempDir(), "none"), 0, part, true)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
