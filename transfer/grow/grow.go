package grow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"loadnode/transfer/disk"
	"loadnode/transfer/disk/ptable"
)

// ErrRefused says that nothing was changed, because the disk is not as it should be.
var ErrRefused = errors.New("not grown, nothing was changed")

// sector is the unit of partition tables here, in bytes; align is what the end of a partition is aligned to, in sectors.
const (
	sector = 512
	align  = 1 << 20 / sector
)

// Options say how far to go.
type Options struct {
	Size Size
	// TableOnly leaves the filesystem alone.
	TableOnly bool
}

// Result says what was done. Sizes are in bytes.
type Result struct {
	Partition       int    // the last partition of the disk
	Before, After   int64  // its size
	BackupMoved     bool   // the backup GPT was put at the end of the disk
	Filesystem      string // what is in the partition: "ext4", "" if it is not known
	FilesystemGrown bool
	Notes           []string // what a user should know
}

// Disk grows the last partition of a disk, or of a file that stands for one, and its filesystem. It may be repeated: what
// is done already is left alone. The disk must not be in use. An error that wraps [ErrRefused] means that nothing was
// written; any other that the table may be changed and the filesystem may have its old size, in which it is whole.
func Disk(ctx context.Context, path string, o Options) (Result, error) {
	target, err := disk.Open(path, disk.Options{Regular: true})
	if err != nil {
		return Result{}, fmt.Errorf("grow %s: %w: %w", path, ErrRefused, err)
	}
	defer target.Close()
	res, fs, err := table(ctx, target, o)
	if err != nil {
		return res, fmt.Errorf("grow %s: %w", path, err)
	}
	if err := target.Close(); err != nil {
		return res, fmt.Errorf("grow %s: %w", path, err)
	}
	if fs == nil || o.TableOnly {
		return res, nil
	}
	if err := fs.grow(ctx, path); err != nil {
		return res, fmt.Errorf("grow the %s filesystem of partition %d of %s: %w", fs.kind, res.Partition, path, err)
	}
	res.FilesystemGrown = true
	return res, nil
}

// table changes the table. The filesystem is nil if there is nothing to grow.
func table(ctx context.Context, target disk.Target, o Options) (Result, *filesystem, error) {
	refuse := func(format string, args ...any) (Result, *filesystem, error) {
		return Result{}, nil, fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
	}
	t, err := ptable.Read(target, target.Size())
	if err != nil {
		return refuse("%w", err)
	}
	if s, ok := target.(interface{ SectorSize() int }); ok && s.SectorSize() != t.SectorSize {
		return refuse("the table is made for sectors of %d bytes, the disk has %d", t.SectorSize, s.SectorSize())
	}
	if len(t.Notes) > 1 || len(t.Notes) == 1 && !t.Moved {
		return refuse("the partition table is not as expected: %s", strings.Join(t.Notes, "; "))
	}
	last, err := lastPartition(t)
	if err != nil {
		return refuse("%w", err)
	}
	moved := t.Moved
	if err := t.Relocate(target.Size()); err != nil {
		return refuse("%w", err)
	}
	sectors, err := wanted(t, last, o.Size)
	if err != nil {
		return refuse("%w", err)
	}
	fs, name, err := examine(target, last)
	if err != nil {
		return refuse("partition %d: %w", last.Number, err)
	}
	res := Result{Partition: last.Number, Before: int64(last.Sectors) * sector, After: int64(sectors) * sector, Filesystem: name, BackupMoved: moved}
	if sectors == last.Sectors {
		res.Notes = append(res.Notes, fmt.Sprintf("partition %d has its size already", last.Number))
	} else if err := t.Resize(last.Number, sectors); err != nil {
		return refuse("%w", err)
	}
	if err := ctx.Err(); err != nil {
		return refuse("%w", err)
	}
	if moved || sectors != last.Sectors {
		if err := t.Write(target); err != nil {
			return res, nil, err
		}
		if r, ok := target.(interface{ Reread() error }); ok {
			if err := r.Reread(); err != nil {
				res.Notes = append(res.Notes, err.Error())
			}
		}
	}
	if fs == nil {
		switch name {
		case "":
			name = "no filesystem that is known"
		}
		if sectors != last.Sectors {
			res.Notes = append(res.Notes, fmt.Sprintf("partition %d holds %s: only the partition was made larger", last.Number, name))
		}
		return res, nil, nil
	}
	fs.offset, fs.bytes = int64(last.Start)*sector, int64(sectors)*sector
	if fs.bytes-fs.size < fs.block {
		res.Notes = append(res.Notes, fmt.Sprintf("its %s filesystem fills it already", fs.kind))
		return res, nil, nil
	}
	return res, fs, nil
}

// lastPartition is the one that ends last, and that is no container.
func lastPartition(t *ptable.Table) (ptable.Partition, error) {
	var last, container ptable.Partition
	for _, p := range t.Partitions {
		switch {
		case p.Extended():
			container = p
		case p.End() > last.End():
			last = p
		}
	}
	switch {
	case last.Number == 0:
		return last, errors.New("the disk has no partition to grow")
	case container.Start >= last.End():
		return last, fmt.Errorf("the last partition (%d) is an extended one without logical partitions", container.Number)
	}
	return last, nil
}

// wanted is the new size in sectors. It is never less than the present one.
func wanted(t *ptable.Table, p ptable.Partition, s Size) (uint64, error) {
	limit, err := t.Limit(p.Number)
	if err != nil {
		return 0, err
	}
	room := limit - p.Start
	want := room
	switch {
	case s.Bytes < 0 || s.Percent < 0 || s.Percent > 100:
		return 0, fmt.Errorf("size %+v cannot be", s)
	case s.Bytes > 0:
		want = uint64(s.Bytes) / sector
		if want > room {
			return 0, fmt.Errorf("partition %d cannot have %d bytes: there is room for %d", p.Number, s.Bytes, room*sector)
		}
		if want < p.Sectors {
			return 0, fmt.Errorf("partition %d has %d bytes, which is more than %d: making it smaller is not done here", p.Number, p.Sectors*sector, s.Bytes)
		}
	case s.Percent > 0:
		want = min(room, uint64(float64(room)*s.Percent/100))
	}
	end := (p.Start + want) / align * align
	return max(end, p.End()) - p.Start, nil
}
