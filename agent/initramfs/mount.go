package initramfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mounts are what the kernel shows, and room for what is not kept.
func mounts() []mount {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{"proc", "/proc", quiet, ""},
		{"sysfs", "/sys", quiet, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
}

type mount struct {
	kind, on string
	flags    uintptr
	options  string
}

// mountAll mounts everything. What is mounted already stays.
func mountAll() error {
	var errs error
	for _, m := range mounts() {
		if err := os.MkdirAll(m.on, 0o755); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		if err := unix.Mount(m.kind, m.on, m.kind, m.flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = errors.Join(errs, fmt.Errorf("mount %s: %w", m.on, err))
		}
	}
	return errs
}
