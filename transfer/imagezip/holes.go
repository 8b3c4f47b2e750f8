package imagezip

import (
	"errors"
	"io"
	"syscall"
)

// What lseek of Linux finds beside positions.
const (
	seekData = 3
	seekHole = 4
)

// holes knows where a sparse file has data. Nil, and a source that knows of no holes, have none.
type holes struct {
	src        io.Seeker
	from, to   int64 // what is known: [from, to) is a hole or data
	hole, none bool
}

// find says whether bytes from off on are a hole, which reads as zeros, and how many of the next n are of that kind.
func (h *holes) find(off, n int64) (hole bool, count int64) {
	if h == nil || h.none {
		return false, n
	}
	if off < h.from || off >= h.to {
		if err := h.look(off); err != nil {
			h.none = true
			return false, n
		}
	}
	return h.hole, min(n, h.to-off)
}

func (h *holes) look(off int64) error {
	data, err := h.src.Seek(off, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO): // a hole up to the end of the file
		data, err = h.src.Seek(0, io.SeekEnd)
		if err == nil && data <= off {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		fallthrough
	case err == nil && data > off:
		h.from, h.to, h.hole = off, data, true
		return nil
	case err != nil:
		return err
	}
	end, err := h.src.Seek(off, seekHole)
	if err == nil && end <= off {
		err = io.ErrUnexpectedEOF
	}
	h.from, h.to, h.hole = off, end, false
	return err
}
