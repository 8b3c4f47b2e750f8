package install

import (
	"errors"
	"fmt"

	"loadnode/transfer/disk"
	"loadnode/transfer/ndz"
)

// Fill says what becomes of sectors that the image describes as free.
type Fill int

const (
	Skip    Fill = iota // they keep what was on the disk before
	Zero                // they are made zero
	Pattern             // they are written with a 32-bit pattern
)

// Config says what is installed where.
type Config struct {
	Target   disk.Target
	Manifest *ndz.Manifest // nil: chunks are checked for their structure only
	Chunks   int           // number of chunks to expect without a manifest; 0: not known
	Offset   int64         // bytes from the start of the target to the start of the unit
	Limit    int64         // bytes of the target that belong to the unit; 0: up to the end
	Fill     Fill
	Pattern  uint32 // for Fill Pattern, little-endian
	Discard  bool   // discard free space before it is filled; alone (Fill Skip) this promises nothing of its content
	FillRest bool   // fill (and discard) also what lies behind the described unit, to the end of the target or to Limit
	ReadBack bool   // Finish reads everything again and compares; takes 8 bytes of memory for each 64 KiB of data
	NoExtend bool   // an output file ends with its last data, even if the image describes free space behind it
}

// Assurance values of a Result.
const (
	AssuranceWritten  = "written"  // every chunk was checked, written and synced
	AssuranceReadBack = "readback" // and read again and compared
)

// ErrTooLarge says that the image describes more than the target, or the slice of it, has room for.
var ErrTooLarge = errors.New("image is larger than its place on the disk")

// ErrIncomplete says that Finish was called before all chunks were installed.
var ErrIncomplete = errors.New("image is incomplete")

// WriteError says that bytes could not be written: [Off, Off+Len) of the target. It is final.
type WriteError struct {
	Off, Len int64
	Err      error
}

// Error names the byte range.
func (e *WriteError) Error() string {
	return fmt.Sprintf("write bytes %d to %d of the disk: %v", e.Off, e.Off+e.Len, e.Err)
}

// Unwrap gives the error of the system.
func (e *WriteError) Unwrap() error { return e.Err }

// ReadBackError says that the disk does not hold what was written to it.
type ReadBackError struct {
	First, Last int64 // the first bad range of the disk in bytes: [First, Last), at most 64 KiB of it
	Chunk       int   // the chunk it belongs to, -1 behind the described unit
	Ranges      int   // how many such ranges are bad in all
	Err         error // set if the range could not even be read
}

// Error names the first bad range and the number of them.
func (e *ReadBackError) Error() string {
	s := fmt.Sprintf("read back: bytes %d to %d of the disk (chunk %d) differ from what was written", e.First, e.Last, e.Chunk)
	if e.Err != nil {
		s = fmt.Sprintf("read back: bytes %d to %d of the disk (chunk %d): %v", e.First, e.Last, e.Chunk, e.Err)
	}
	if e.Ranges > 1 {
		s += fmt.Sprintf(", and %d more ranges", e.Ranges-1)
	}
	return s
}

// Unwrap gives the error of the read, if there was one.
func (e *ReadBackError) Unwrap() error { return e.Err }

// Stats are counters of a running installation.
type Stats struct {
	Chunks       int   // chunks on the disk
	Duplicates   int   // chunks that came again and were left alone
	BytesWritten int64 // bytes of data written
	BytesFilled  int64 // bytes of free space made zero or patterned
	BytesCovered int64 // bytes described by the chunks on the disk, written, filled or skipped
}

// Result is what a finished installation may claim.
type Result struct {
	Chunks         int
	BytesWritten   int64
	BytesFilled    int64
	BytesDescribed int64      // size of the unit
	Undescribed    bool       // V1: free space between chunks is not described by the image and was left as it was
	Assurance      string     // AssuranceWritten or AssuranceReadBack
	DataDigest     ndz.Digest // of what was written, as Manifest.DataDigest; zero without a manifest
}
