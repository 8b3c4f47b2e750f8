package disk

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoDiscard says that a disk, or the filesystem of a file, cannot discard.
var ErrNoDiscard = errors.New("discard is not supported")

// Discarder is a target that can be told which bytes hold nothing. The targets of [Open] are; a
// target that wraps one passes both methods on.
type Discarder interface {
	// CanDiscard asks the system whether Discard does anything.
	CanDiscard() bool
	// Discard tells the medium that n bytes from off on hold nothing. What is read there afterwards is not defined: on
	// many disks zeros, on others what was there before. Who needs zeros calls Zero. Bytes of sectors that are not
	// wholly in the range stay as they are. The error wraps ErrNoDiscard where the system cannot do it.
	Discard(off, n int64) error
}

// CanDiscard punches a hole where there is nothing yet.
func (f *file) CanDiscard() bool {
	return f.punch(f.Size(), sector) == nil
}

func (f *file) Discard(off, n int64) error {
	n = min(n, f.Size()-off)
	if n <= 0 {
		return nil
	}
	return discardError(f.File, f.punch(off, n))
}

func (f *file) punch(off, n int64) error {
	return ignoringEINTR(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// CanDiscard asks for an empty range: the kernel looks first whether the device can discard at all.
func (d *device) CanDiscard() bool {
	return errors.Is(discard(d.File, 0, 0), unix.EINVAL)
}

func (d *device) Discard(off, n int64) error {
	k := int64(d.SectorSize())
	end := min(off+n, d.size) / k * k
	if off = (off + k - 1) / k * k; off >= end {
		return nil
	}
	return discardError(d.File, ignoringEINTR(func() error { return discard(d.File, off, end-off) }))
}

func discardError(f *os.File, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%s: %w", f.Name(), ErrNoDiscard)
	}
	return fmt.Errorf("discard on %s: %w", f.Name(), err)
}

// discard is the system call for block devices.
func discard(f *os.File, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return errno
	}
	return nil
}

// SectorSize is the logical sector size of the device in bytes.
func (d *device) SectorSize() int {
	n, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET)
	if err != nil || n < sector {
		return sector
	}
	return n
}

// Reread tells the kernel that the partition table has changed. It fails while a partition is in use.
func (d *device) Reread() error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKRRPART, 0); errno != 0 && errno != unix.EINVAL {
		return fmt.Errorf("%s: the kernel did not read the partition table again: %w", d.Name(), errno)
	}
	return nil // EINVAL: a device without partitions
}
