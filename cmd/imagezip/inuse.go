package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"loadnode/transfer/disk"
)

// machine is where a program looks what is in use.
type machine struct {
	sys   string // where sysfs is mounted
	check func(path string) error
}

func thisMachine() machine {
	return machine{sys: "/sys", check: func(path string) error { return disk.Check(path, 0, 0, true) }}
}

// inUse says why a disk or file must not be captured: it, a partition of it, or a loop device over the same file is
// mounted, swap space, or held by RAID, LVM or device mapper. What is in use changes while it is read.
func (m machine) inUse(path string) error {
	if err := busy(m.check(path)); err != nil {
		return err
	}
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	loops, err := filepath.Glob(filepath.Join(m.sys, "block", "loop*", "loop", "backing_file"))
	if err != nil {
		return err
	}
	behind := map[string]string{} // loop devices to their files
	for _, name := range loops {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the loop device is gone
		}
		behind["/dev/"+filepath.Base(filepath.Dir(filepath.Dir(name)))] = strings.TrimSuffix(string(b), "\n")
	}
	if its := behind[file]; its != "" {
		file = its
	}
	for device, its := range behind {
		if its != file {
			continue
		}
		if err := busy(m.check(device)); err != nil {
			return fmt.Errorf("%s is behind a loop device: %w", path, err)
		}
	}
	return nil
}

// busy keeps of what the gate for writing says what matters for reading.
func busy(err error) error {
	if errors.Is(err, disk.ErrMounted) || errors.Is(err, disk.ErrInUse) {
		return err
	}
	return nil
}
