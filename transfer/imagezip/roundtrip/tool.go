package roundtrip

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Sparse makes a file of size bytes without content.
func Sparse(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
}

// Dir is a folder for the test like t.TempDir, in memory where there is enough of it: what is written there waits for no
// disk.
func Dir(t testing.TB) string {
	t.Helper()
	const shm, enough = "/dev/shm", 4 << 30
	var st unix.Statfs_t
	if err := unix.Statfs(shm, &st); err != nil || st.Bavail*uint64(st.Bsize) < enough {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "roundtrip")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
