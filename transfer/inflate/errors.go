package inflate

import (
	"errors"
	"fmt"
	"io"
)

// What can be wrong with a stream. Every error of this package is an [*Error] that wraps one of these.
var (
	// ErrHeader says that the two bytes at the start are no zlib header (RFC 1950, section 2.2).
	ErrHeader = errors.New("not a zlib header")
	// ErrDictionary says that the stream needs a preset dictionary, which nothing here has.
	ErrDictionary = errors.New("zlib stream needs a preset dictionary")
	// ErrBlockType says that a block has the reserved type 3 (RFC 1951, section 3.2.3).
	ErrBlockType = errors.New("reserved block type")
	// ErrStored says that the length of a stored block and its complement do not agree (section 3.2.4).
	ErrStored = errors.New("length of a stored block contradicts its complement")
	// ErrCount says that a block announces more symbols than the format has: 286 for literals and lengths, 30 for
	// distances (section 3.2.7).
	ErrCount = errors.New("block announces more symbols than there are")
	// ErrRepeat says that a repetition of code lengths has nothing to repeat, or goes beyond the announced symbols
	// (section 3.2.7).
	ErrRepeat = errors.New("repeated code lengths do not fit")
	// ErrOversubscribed says that the code lengths of a block need more codes than there are (section 3.2.2).
	ErrOversubscribed = errors.New("over-subscribed code")
	// ErrIncomplete says that the code lengths of a block leave codes without a meaning. Allowed are no code at all, and
	// a single one of one bit.
	ErrIncomplete = errors.New("incomplete code")
	// ErrSymbol says that bits stand for no symbol, or for one that the format reserves.
	ErrSymbol = errors.New("bits without a meaning")
	// ErrDistance says that a match begins before the first byte of the output.
	ErrDistance = errors.New("distance too far back")
	// ErrTruncated says that the input ends before the stream does. It wraps io.ErrUnexpectedEOF.
	ErrTruncated = fmt.Errorf("input is truncated: %w", io.ErrUnexpectedEOF)
	// ErrChecksum says that the output does not have the Adler-32 sum at the end of the stream.
	ErrChecksum = errors.New("invalid checksum: it is not the Adler-32 of the output")
	// ErrTooLong says that there is more output than room for it.
	ErrTooLong = errors.New("output is longer than described")
	// ErrTooShort says that the stream ends before the output is full.
	ErrTooShort = errors.New("output is shorter than described")
	// ErrTrailing says that something follows the stream in the input.
	ErrTrailing = errors.New("bytes follow the stream")
)

// Error says what is wrong, and where.
type Error struct {
	In  int   // bytes of input looked at so far
	Out int64 // bytes of output made so far
	Err error // one of the errors of this package
}

// Error names the fault and the place.
func (e *Error) Error() string {
	return fmt.Sprintf("%v (at byte %d of the input, %d of the output)", e.Err, e.In, e.Out)
}

// Unwrap gives the fault.
func (e *Error) Unwrap() error { return e.Err }
