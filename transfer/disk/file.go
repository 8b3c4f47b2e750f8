package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sector is what block devices can zero by themselves at least, in bytes.
const sector = 512

// zeroPiece is how many zeros are written at once where the system cannot zero by itself.
const zeroPiece = 1 << 20

// file is a regular file that stands for a disk.
type file struct {
	*os.File
}

func (f *file) Size() int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

func (f *file) Fixed() bool { return false }

func (f *file) Extend(size int64) error {
	if size <= f.Size() {
		return nil
	}
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("extend %s to %d bytes: %w", f.Name(), size, err)
	}
	return nil
}

// Zero punches a hole. The end of the file is not moved, so that another goroutine may write beyond it at the same
// time: what lies there was never written and reads as zeros.
func (f *file) Zero(off, n int64) error {
	n = min(n, f.Size()-off)
	if n <= 0 {
		return nil
	}
	err := f.punch(off, n)
	if unsupported(err) {
		return writeZeros(f, off, n)
	}
	return err
}

func (f *file) Sync() error { return syncFile(f.File) }

// Uncache asks the kernel to forget what it holds of the file in memory, so that the next read comes from the medium.
func (f *file) Uncache() error { return uncache(f.File) }

// device is a block device.
type device struct {
	*os.File
	size int64
}

func (d *device) Size() int64 { return d.size }

func (d *device) Fixed() bool { return true }

func (d *device) Extend(size int64) error {
	if size > d.size {
		return fmt.Errorf("%s: %w: it has %d bytes, %d are needed", d.Name(), ErrTooSmall, d.size, size)
	}
	return nil
}

func (d *device) Zero(off, n int64) error {
	n = min(n, d.size-off)
	if n <= 0 {
		return nil
	}
	// What is no whole sector is written, so that the rest can be left to the device.
	head := min(n, (sector-off%sector)%sector)
	tail := (n - head) % sector
	for _, part := range [2][2]int64{{off, head}, {off + n - tail, tail}} {
		if err := writeZeros(d, part[0], part[1]); err != nil {
			return err
		}
	}
	off, n = off+head, n-head-tail
	if n == 0 {
		return nil
	}
	err := ignoringEINTR(func() error { return zeroOut(d.File, off, n) })
	if unsupported(err) {
		return writeZeros(d, off, n)
	}
	return err
}

func (d *device) Sync() error { return syncFile(d.File) }

// Uncache asks the kernel to forget what it holds of the device in memory, so that the next read comes from the medium.
func (d *device) Uncache() error { return uncache(d.File) }

func syncFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, unix.EINVAL) { // what cannot be synced has nothing to sync (§6)
		return nil
	}
	return err
}

func uncache(f *os.File) error {
	return ignoringEINTR(func() error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) })
}

func writeZeros(w io.WriterAt, off, n int64) error {
	zeros := make([]byte, min(n, zeroPiece))
	for n > 0 {
		k, err := w.WriteAt(zeros[:min(n, zeroPiece)], off)
		off, n = off+int64(k), n-int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// unsupported says that a system call does not exist for this device, filesystem or alignment: then zeros are written.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EPERM)
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
