package disk

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceSize asks a block device for its capacity in bytes.
func deviceSize(f *os.File) (int64, error) {
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return int64(size), nil
}

// zeroOut makes a range of a block device zero, with discard or write-same where the device can. EINVAL if the range
// is not aligned to its sectors.
func zeroOut(f *os.File, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return errno
	}
	return nil
}
