package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/agent/initramfs/module"
)

const (
	// token is the file that only the loaded system has.
	token = "/etc/token"
	// boots is the file in which each start of the system leaves a mark of its
	// own. It has its size from the beginning: a system that wrote to free space
	// would leave traces there that no load removes.
	boots = "/var/boots"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		return // all that it needs is loaded by alias
	case os.Args[0] == "/sbin/init":
		err = system()
	default:
		err = initrd()
	}
	fmt.Println("guest:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// initrd goes to the system on the disk.
func initrd() error {
	for _, m := range []struct{ kind, on string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.on, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.on, err)
		}
	}
	l, err := modules()
	if err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < 2*time.Minute; {
		if err := plug(l); err != nil {
			return err
		}
		if mounted() {
			break
		}
	}
	if err := unix.Chroot("/tmp"); err != nil {
		return fmt.Errorf("no filesystem with a system was found: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return syscall.Exec("/sbin/init", []string{"/sbin/init"}, nil)
}

// modules are those of the running kernel.
func modules() (*module.Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	l := &module.Loader{Index: &module.Index{}, Dir: "/lib/modules/" + unix.ByteSliceToString(u.Release[:])}
	dep, err := os.Open(l.Dir + "/modules.dep")
	if err != nil {
		return nil, err
	}
	defer dep.Close()
	alias, err := os.Open(l.Dir + "/modules.alias")
	if err != nil {
		return nil, err
	}
	defer alias.Close()
	return l, errors.Join(l.Index.ReadDep(dep), l.Index.ReadAlias(alias))
}

// plug loads the drivers of what is there.
func plug(l *module.Loader) error {
	files, err := filepath.Glob("/sys/bus/*/devices/*/modalias")
	if err != nil {
		return err
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			_, _ = l.Claim(strings.TrimSpace(string(text))) // a driver may not want what it claims
		}
	}
	return nil
}

// mounted looks for the filesystem with the system and mounts it.
func mounted() bool {
	parts, _ := filepath.Glob("/sys/class/block/*/partition")
	for _, p := range parts {
		dev := "/dev/" + filepath.Base(filepath.Dir(p))
		if unix.Mount(dev, "/tmp", "ext4", unix.MS_RDONLY, "") != nil {
			continue
		}
		if _, err := os.Stat("/tmp" + token); err == nil {
			fmt.Println("guest: the system is on", dev)
			return true
		}
		_ = unix.Unmount("/tmp", 0)
	}
	return false
}

// system says what only the loaded system knows, and which starts it has seen.
func system() error {
	text, err := os.ReadFile(token)
	if err != nil {
		return err
	}
	fmt.Printf("token %s\n", strings.TrimSpace(string(text)))
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT, ""); err != nil {
		return fmt.Errorf("make the disk writable: %w", err)
	}
	marks, err := mark()
	if err != nil {
		return err
	}
	for _, m := range marks {
		fmt.Printf("boot %s\n", m)
	}
	unix.Sync()
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make the disk whole: %w", err)
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// mark adds the mark of this start to those of the starts before.
func mark() ([]string, error) {
	f, err := os.OpenFile(boots, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	own := make([]byte, 8)
	rand.Read(own)
	marks := append(strings.Fields(string(text)), hex.EncodeToString(own))
	line := strings.Join(marks, "\n") + "\n"
	if len(line) > len(text) {
		return nil, fmt.Errorf("%s is full", boots)
	}
	if _, err := f.WriteAt([]byte(line), 0); err != nil {
		return nil, err
	}
	return marks, f.Sync()
}
