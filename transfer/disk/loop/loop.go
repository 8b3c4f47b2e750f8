// Package loop makes loop devices over parts of disks and of files that stand for disks. That works for both, and waits
// for no devices of partitions. What is done with the device is for who asked for it.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// tries is how often another program may take the free device first.
const tries = 16

// Attach makes a loop device over n bytes of path from an offset. It goes when its last user has: close it, after what
// was mounted from it is unmounted.
func Attach(path string, off, n int64, readOnly bool) (*os.File, error) {
	mode, flags := os.O_RDWR, uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	back, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	ctl, err := openControl()
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for range tries {
		number, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		f, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), mode, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Offset: uint64(off), Sizelimit: uint64(n), Flags: flags}}
		switch err := unix.IoctlLoopConfigure(int(f.Fd()), &config); {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EBUSY):
			f.Close()
			return nil, fmt.Errorf("loop device over %s: %w", path, err)
		}
		f.Close()
	}
	return nil, errors.New("other programs took every free loop device")
}

const (
	control      = "/dev/loop-control"
	controlMajor = 10 // of the kernel's small devices
	controlMinor = 237
)

// openControl opens the device that hands out loop devices. While its driver is a module that nobody has loaded there is
// no such file, unless udev has made one; to open it is what makes the kernel load the driver.
func openControl() (*os.File, error) {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if e := unix.Mknod(control, unix.S_IFCHR|0o660, int(unix.Mkdev(controlMajor, controlMinor))); e != nil && !errors.Is(e, unix.EEXIST) {
		return nil, fmt.Errorf("%w, and cannot be made: %w", err, e)
	}
	return os.OpenFile(control, os.O_RDWR, 0)
}
