// Package outfile keeps unfinished output files apart from finished ones: a file is written under a hidden name beside
// its place and moved there only when it is complete and on the medium. Nobody can take half an image for a whole one.
package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is an output file in the making.
type File struct {
	Temp string // where to write; an empty file until then
	path string
	mode fs.FileMode // of the file that is replaced, 0 if there is none
	kept bool
}

// Plain says whether an output of this name should be made by New: true if there is nothing yet or a regular file.
// Devices and pipes are written to directly.
func Plain(path string) (bool, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if st.IsDir() {
		return false, fmt.Errorf("%s is a directory", path)
	}
	return st.Mode().IsRegular(), nil
}

// New makes the temporary file. A symbolic link is followed, so that the link stays and its target is replaced.
func New(path string) (*File, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f := &File{path: path}
	if st, err := os.Stat(path); err == nil {
		f.mode = st.Mode().Perm()
	}
	f.Temp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.part", filepath.Base(path), os.Getpid()))
	file, err := os.OpenFile(f.Temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	return f, file.Close()
}

// Commit moves the file to its place. It must be complete, synced and closed.
func (f *File) Commit() error {
	if f.mode != 0 {
		if err := os.Chmod(f.Temp, f.mode); err != nil {
			return err
		}
	}
	if err := os.Rename(f.Temp, f.path); err != nil {
		return err
	}
	f.kept = true
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("sync %s: %w", filepath.Dir(f.path), err)
	}
	return nil
}

// Discard removes what was not committed. It is meant to be deferred.
func (f *File) Discard() {
	if !f.kept {
		os.Remove(f.Temp)
	}
}
