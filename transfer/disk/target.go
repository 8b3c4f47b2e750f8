package disk

import "io"

// Target is a disk, or a file in its place, open for positioned reads and writes. ReadAt, WriteAt, Zero and Size may be
// called by several goroutines at once; the others not.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Size is the present size in bytes: of a block device its capacity, of a file its length.
	Size() int64
	// Fixed says that the size cannot change: true for devices.
	Fixed() bool
	// Extend makes a file at least size bytes long; what is new reads as zeros. A device that is smaller is an error
	// that wraps ErrTooSmall. No write may run meanwhile.
	Extend(size int64) error
	// Zero makes n bytes from off on read as zeros, without writing them where the system can do that. It does not make
	// a file longer: beyond its end there is nothing to make zero.
	Zero(off, n int64) error
	// Sync returns when everything written is on the medium.
	Sync() error
	Close() error
}

// Options say how to open a target. The zero value opens an existing block device for writing.
type Options struct {
	ReadOnly bool // open for reading only; then regular files are always allowed
	Regular  bool // a regular file is allowed (simulated nodes, tests, image conversion)
	Create   bool // create a regular file that does not exist; implies Regular
	Truncate bool // cut an existing regular file to nothing
	Direct   bool // write around the page cache (O_DIRECT); an error where the system cannot do that
}
