package catalogue

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// stamp tells two states of a file apart without reading it. The change time
// is part of it because a modification time can be set back.
type stamp struct {
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // Unix nanoseconds
	Ctime int64  `json:"ctime"` // Unix nanoseconds
	Inode uint64 `json:"inode"`
}

func stampOf(fi os.FileInfo) stamp {
	s := stamp{Size: fi.Size(), Mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.Ctime, s.Inode = st.Ctim.Nano(), st.Ino
	}
	return s
}

func (s stamp) modified() time.Time { return time.Unix(0, s.Mtime).UTC() }

// openImage opens a regular file of the directory for reading. Opening never
// blocks, whatever lies under the name.
func (c *Catalogue) openImage(name string) (*os.File, stamp, error) {
	f, err := c.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if notThere(err) {
			return nil, stamp{}, fmt.Errorf("%w: %s", ErrNotFound, name)
		}
		if fi, lerr := c.root.Lstat(name); lerr == nil && fi.Mode()&os.ModeSymlink != 0 {
			err = fmt.Errorf("%w: a symbolic link that leads nowhere in the image directory: %w", ErrInvalid, err)
		}
		return nil, stamp{}, fmt.Errorf("open image %s: %w", name, err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is a %s, not a file", ErrInvalid, kindOf(fi.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, stamp{}, fmt.Errorf("open image %s: %w", name, err)
	}
	return f, stampOf(fi), nil
}

func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&os.ModeNamedPipe != 0:
		return "pipe"
	case m&os.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
