package roundtrip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Mount mounts the filesystem in a file of its own by a loop device, calls f with the folder, and unmounts it. options
// are those of mount -o. It says false, with a line in the log, where that is not possible: no root, no loop devices, or
// a kernel without the filesystem.
func Mount(t testing.TB, path, kind, options string, f func(dir string)) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("only root can mount: what needs a mounted filesystem is left out")
		return false
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if out, code := Tool(t, "mount", "-t", kind, "-o", strings.TrimPrefix(options+",loop", ","), path, dir); code != 0 {
		t.Logf("%s cannot be mounted here, what needs that is left out: %s", kind, out)
		return false
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			Run(t, "umount", dir)
		}
	}
	defer unmount()
	f(dir)
	unmount()
	return true
}

// Mounted gives Files of the filesystem in a file, mounted read-only. ok is false where that is not possible.
func Mounted(t testing.TB, path, kind, options string) (files map[string]string, ok bool) {
	t.Helper()
	ok = Mount(t, path, kind, strings.TrimPrefix(options+",ro", ","), func(dir string) { files = Files(t, dir) })
	return files, ok
}
