// Package tool runs programs of the system for tests, such as mke2fs and sfdisk: they make what we read, and judge what we
// wrote. A test that needs one which is not installed is skipped.
//
// What does not live here: programs that loadnode itself runs.
package tool

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Path finds a program, also where only root looks.
func Path(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// Exit runs a program and returns its output, standard error included, and its exit code.
func Exit(t testing.TB, name string, args ...string) (string, int) {
	t.Helper()
	return exit(t, "", name, args)
}

// Run is Exit for programs that must exit with 0.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return Feed(t, "", name, args...)
}

// Feed is Run for programs that read standard input.
func Feed(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	out, code := exit(t, stdin, name, args)
	require.Zero(t, code, "%s %q: %s", name, args, out)
	return out
}

func exit(t testing.TB, stdin, name string, args []string) (string, int) {
	t.Helper()
	cmd := exec.Command(Path(t, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	// The last three let mkfs.xfs make filesystems below 300 MB, as its own tests do.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_DETERMINISTIC=1", "TEST_DIR=x", "TEST_DEV=x", "QA_CHECK_FS=x")
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
