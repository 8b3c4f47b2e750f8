package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"loadnode/transfer/ndz"
)

// ErrNotFound says that the directory has no such image.
var ErrNotFound = errors.New("no such image")

// ErrExists says that an image of that name is there already.
var ErrExists = errors.New("image exists already")

// ErrInvalid says that a file is not a usable image.
var ErrInvalid = errors.New("not a usable image")

// ErrServed says that an image cannot be removed because a session sends it.
var ErrServed = errors.New("image is being served")

// ErrBusy says that somebody else writes the same image at this moment.
var ErrBusy = errors.New("image is being written")

// ErrSpace says that the disk of the image directory is too full.
var ErrSpace = errors.New("no space left for images")

// ErrReadOnly says that the image directory cannot be written to.
var ErrReadOnly = errors.New("image directory is read-only")

// ErrClosed says that the catalogue was closed.
var ErrClosed = errors.New("catalogue is closed")

// ErrInUse says that another image service works on the same directory.
var ErrInUse = errors.New("another image service uses this directory")

// ErrChanged says that a file was written to while it was read.
var ErrChanged = errors.New("file is changing while it is read")

// DamagedError says that a file is not what its manifest says. It is not
// served until it is restored.
type DamagedError struct {
	Image       string
	Digest      ndz.Digest // root digest of the manifest; zero if the manifest itself is unreadable
	Chunk       int        // first bad chunk; -1 if no single one is to blame
	First, Last int64      // its bytes in the file, [First, Last); 0, 0 with Chunk -1
	Err         error
}

// Error names the image and, where known, the bytes.
func (e *DamagedError) Error() string { return fmt.Sprintf("image %s: %v", e.Image, e.Err) }

// Unwrap gives the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// OffsetError says that a piece of an upload does not begin where the last one
// ended.
type OffsetError struct {
	Image      string
	Have, Want int64 // bytes stored; where the piece begins
}

// Error tells both offsets.
func (e *OffsetError) Error() string {
	return fmt.Sprintf("upload of %s: piece begins at byte %d, but %d bytes are stored", e.Image, e.Want, e.Have)
}

// damaged makes a DamagedError of what went wrong while name was compared
// with its manifest.
func damaged(name string, root ndz.Digest, err error) *DamagedError {
	d := &DamagedError{Image: name, Digest: root, Chunk: -1, Err: err}
	var c *ndz.CorruptError
	if errors.As(err, &c) {
		d.Chunk, d.First, d.Last = c.Chunk, c.First, c.Last
	}
	return d
}

// explain gives errors of the file system the sentinel that says what to do.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrSpace, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
