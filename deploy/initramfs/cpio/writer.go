package cpio

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// File types of the mode, as in stat(2).
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
	typeChar    = 0o020000
)

const (
	magic   = "070701"
	trailer = "TRAILER!!!"
	maxFile = 1<<32 - 1 // bytes: sizes have eight hexadecimal digits
	maxName = 4095      // the kernel's PATH_MAX with its final zero
)

// ErrName says that a name cannot be in an archive.
var ErrName = errors.New("not a name for an archive")

// Writer writes one archive. Directories come before what is in them; it adds
// none by itself. After an error it writes nothing more and returns that error.
type Writer struct {
	to    io.Writer
	inode uint32
	size  int64
	err   error
}

// New makes a writer. Close ends the archive; the underlying writer stays open.
func New(to io.Writer) *Writer { return &Writer{to: to} }

// Size is how many bytes were written so far.
func (w *Writer) Size() int64 { return w.size }

// Dir writes a directory with the mode 0755.
func (w *Writer) Dir(name string) error {
	return w.entry(name, typeDir|0o755, 0, 0, nil, 0)
}

// File writes a regular file with the permission bits of mode.
func (w *Writer) File(name string, mode uint32, data []byte) error {
	return w.entry(name, typeRegular|mode&0o7777, 0, 0, data, len(data))
}

// Link writes a symbolic link.
func (w *Writer) Link(name, target string) error {
	return w.entry(name, typeLink|0o777, 0, 0, []byte(target), len(target))
}

// Char writes a character device with the permission bits of mode.
func (w *Writer) Char(name string, mode, major, minor uint32) error {
	return w.entry(name, typeChar|mode&0o7777, major, minor, nil, 0)
}

// Close writes the end of the archive.
func (w *Writer) Close() error {
	w.header(trailer, 0, 0, 0, 0, 0)
	return w.err
}

func (w *Writer) entry(name string, mode, major, minor uint32, data []byte, size int) error {
	if w.err != nil {
		return w.err
	}
	if name == "" || name == "." || name == trailer || name[0] == '/' || path.Clean(name) != name ||
		name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) || len(name) > maxName {
		w.err = fmt.Errorf("%w: %q", ErrName, name)
		return w.err
	}
	if int64(size) > maxFile {
		w.err = fmt.Errorf("%s: %d bytes: an archive holds files of %d at most", name, size, int64(maxFile))
		return w.err
	}
	w.inode++
	w.header(name, w.inode, mode, major, minor, uint32(size))
	w.write(data)
	w.pad()
	return w.err
}

// header writes the 110 bytes before a name, and the name. A link count of 1
// for all keeps the kernel from looking for hard links.
func (w *Writer) header(name string, inode, mode, major, minor, size uint32) {
	var b strings.Builder
	b.WriteString(magic)
	for _, field := range [...]uint32{
		inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, uint32(len(name) + 1), 0,
	} {
		fmt.Fprintf(&b, "%08X", field)
	}
	b.WriteString(name)
	b.WriteByte(0)
	w.write([]byte(b.String()))
	w.pad()
}

// pad fills up to a multiple of four.
func (w *Writer) pad() {
	if n := w.size % 4; n > 0 {
		w.write(make([]byte, 4-n))
	}
}

func (w *Writer) write(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	n, err := w.to.Write(p)
	w.size += int64(n)
	w.err = err
}
