package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a disk. A block device opened for writing is claimed exclusively: the kernel refuses that while it or one
// of its partitions is mounted or held by RAID or LVM, which is ErrInUse here. Check first for a better explanation.
func Open(path string, o Options) (Target, error) {
	o.Regular = o.Regular || o.Create || o.ReadOnly
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && st.Mode().IsRegular() && o.Regular:
		if o.Truncate && !o.ReadOnly {
			flags |= os.O_TRUNC
		}
	case err == nil && st.Mode().Type() == fs.ModeDevice:
		if !o.ReadOnly {
			flags |= os.O_EXCL
		}
	case err == nil:
		return nil, fmt.Errorf("open %s: %w (it is %s)", path, ErrNotBlockDevice, kindName(st.Mode()))
	case errors.Is(err, fs.ErrNotExist) && o.Create && !o.ReadOnly:
		flags |= os.O_CREATE | os.O_EXCL
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open %s: %w", path, ErrNotFound)
	default:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f, err := os.OpenFile(path, flags, 0o666)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open %s: %w: the disk or a partition of it is mounted, or held by RAID, LVM or another program", path, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	t, err := newTarget(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if o.Direct && !o.ReadOnly {
		d, err := newDirect(t, f)
		if err != nil {
			t.Close()
			return nil, err
		}
		return d, nil
	}
	return t, nil
}

// newTarget looks at what was really opened: the path may mean something else than a moment ago.
func newTarget(f *os.File) (Target, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case st.Mode().IsRegular():
		return &file{File: f}, nil
	case st.Mode().Type() == fs.ModeDevice:
		size, err := deviceSize(f)
		if err != nil {
			return nil, fmt.Errorf("size of the device: %w", err)
		}
		return &device{File: f, size: size}, nil
	}
	return nil, fmt.Errorf("%w (it is %s)", ErrNotBlockDevice, kindName(st.Mode()))
}

func kindName(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "a regular file"
	case m.IsDir():
		return "a directory"
	case m&fs.ModeCharDevice != 0:
		return "a character device"
	case m&fs.ModeDevice != 0:
		return "a block device"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "of type " + m.Type().String()
}
