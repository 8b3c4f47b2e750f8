package roundtrip

import (
	"errors"
	"io"
)

// ErrMedium is what a Broken disk answers.
var ErrMedium = errors.New("medium error")

// Broken is a disk on which reads that touch a byte fail.
func Broken(disk io.ReaderAt, at int64) io.ReaderAt { return broken{disk, at} }

type broken struct {
	io.ReaderAt
	at int64
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.at && b.at < off+int64(len(p)) {
		return 0, ErrMedium
	}
	return b.ReaderAt.ReadAt(p, off)
}
