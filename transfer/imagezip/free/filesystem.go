package free

import (
	"context"
	"errors"
	"io"
)

// ErrUnclean says that a filesystem was not unmounted cleanly, or is mounted: what it says of free space is not the
// truth then.
var ErrUnclean = errors.New("filesystem is mounted or was not cleanly unmounted")

// ErrFilesystem says that a filesystem is damaged, or uses a feature its probe does not know. The message names it.
var ErrFilesystem = errors.New("filesystem cannot be captured by its free space (raw capture, -r, always works)")

// Filesystem is what a probe found out.
type Filesystem struct {
	Kind    string   // "ext4", "xfs", "fat32", "ntfs", "swap"
	Label   string   // as the filesystem has it, may be empty
	Sectors uint64   // of the filesystem itself, may be less than the source has
	Free    *List    // within Sectors
	Unclean bool     // mounted, or not cleanly unmounted: Free is not the truth
	Notes   []string // what the user should know: sentences without a full stop
}

// Options say how a filesystem is read.
type Options struct {
	// SkipBad takes space for used whose bitmap or index cannot be read, with a note, instead of giving up.
	SkipBad bool
}

// Probe recognises a filesystem by its superblock and reads its free space from a source of size bytes. found is false,
// with no error, if it is not of the probe's kind. An error which wraps ErrFilesystem says that it is of this kind, but
// damaged or of a make the probe does not know; other errors are those of the source.
type Probe func(ctx context.Context, r io.ReaderAt, size int64, o Options) (fs *Filesystem, found bool, err error)
