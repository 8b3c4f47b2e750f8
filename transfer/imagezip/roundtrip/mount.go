package roundtrip

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// mountScript mounts, says so, and unmounts when its input ends. A program that is just being started has for a moment
// the open files of who starts it, and keeps the filesystem busy for that moment.
const mountScript = `PATH=$PATH:/usr/sbin:/sbin; mount -t "$1" -o "$2" "$3" "$4" || exit 1; echo mounted; read end
tries=100; while ! umount "$4" 2>/dev/null; do tries=$((tries-1)); [ $tries -gt 0 ] || exec umount "$4"; sleep 0.05; done`

// Mount mounts the filesystem in a file of its own by a loop device, calls f with the folder, and unmounts it. options
// are those of mount -o. It says false, with a line in the log, where that is not possible: no root, no loop devices, or
// a kernel without the filesystem.
//
// The mount belongs to a process with a mount namespace of its own: no other program that happens to copy its mounts can
// keep the filesystem busy when it is unmounted here, and it goes with the test whatever happens to that.
func Mount(t testing.TB, path, kind, options string, f func(dir string)) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("only root can mount: what needs a mounted filesystem is left out")
		return false
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	require.NoError(t, os.Mkdir(dir, 0o755))
	cmd := exec.Command("/bin/sh", "-c", mountScript, "sh", kind, strings.TrimPrefix(options+",loop", ","), path, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	if err := cmd.Start(); err != nil {
		t.Logf("no mount namespaces here, what needs a mounted filesystem is left out: %v", err)
		return false
	}
	ended := false
	end := func() error {
		if ended {
			return nil
		}
		ended = true
		in.Close()
		return cmd.Wait()
	}
	defer end()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		require.Error(t, end())
		t.Logf("%s cannot be mounted here, what needs that is left out: %s", kind, stderr.String())
		return false
	}
	f(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, dir))
	require.NoError(t, end(), stderr.String())
	return true
}

// Mounted gives Files of the filesystem in a file, mounted read-only. ok is false where that is not possible.
func Mounted(t testing.TB, path, kind, options string) (files map[string]string, ok bool) {
	t.Helper()
	ok = Mount(t, path, kind, strings.TrimPrefix(options+",ro", ","), func(dir string) { files = Files(t, dir) })
	return files, ok
}
