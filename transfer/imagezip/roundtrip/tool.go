package roundtrip

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Tool runs a program of the system and returns its output (standard error included) and exit code. The test is skipped
// if the program is not installed.
func Tool(t testing.TB, name string, args ...string) (string, int) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(path, args...)
	// The last three let mkfs.xfs make filesystems below 300 MB, as its own tests do.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_DETERMINISTIC=1", "TEST_DIR=x", "TEST_DEV=x", "QA_CHECK_FS=x")
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Run is Tool for programs that must exit with 0.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, code := Tool(t, name, args...)
	require.Zero(t, code, "%s %q: %s", name, args, out)
	return out
}

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
