package disk

import "errors"

// Reasons of the safety gate. Every error of Check, Open and Find wraps one of them, or the error of the system.
var (
	ErrNotBlockDevice = errors.New("not a block device")         // the path is something else than a disk
	ErrMounted        = errors.New("mounted")                    // a filesystem on the disk is mounted
	ErrInUse          = errors.New("in use")                     // swap, RAID, LVM or another program holds the disk
	ErrTooSmall       = errors.New("too small")                  // the image does not fit
	ErrSectorSize     = errors.New("wrong sector size")          // the image was made for other sectors
	ErrReadOnly       = errors.New("read-only")                  // the disk is write-protected
	ErrAmbiguous      = errors.New("more than one disk matches") // a selector must mean one disk
	ErrNotFound       = errors.New("no such disk")               // a selector or path means no disk
)
