package fat

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
)

var _ free.Probe = Probe

// Probe recognises FAT12, FAT16 and FAT32. It needs a bit of memory for each cluster, 32 MiB at most, and 16 bytes for
// each run of free clusters. Unclean is what the boot sector or the second entry of the FAT says; FAT12 has only the
// former.
func Probe(ctx context.Context, r io.ReaderAt, size int64, o free.Options) (*free.Filesystem, bool, error) {
	b := make([]byte, 512)
	if err := readAt(r, size, b, 0, "boot sector"); err != nil || !isBoot(b) {
		return nil, false, notEnd(err)
	}
	// The first byte of the FAT repeats the kind of medium, and the bits behind it are set.
	var head [2]byte
	sector, reserved := int64(binary.LittleEndian.Uint16(b[11:])), int64(binary.LittleEndian.Uint16(b[14:]))
	if err := readAt(r, size, head[:], sector*reserved, "FAT"); err != nil || !isMedia(head[0]) || head[1]&0xF != 0xF {
		return nil, false, notEnd(err)
	}
	v, err := parse(b, size)
	if err != nil {
		return nil, true, err
	}
	t := table{v: v, r: r}
	if err := t.read(ctx, o); err != nil {
		return nil, true, err
	}
	if v.bits == 32 {
		t.mark(v.rootCluster)
	}
	list, clusters := t.free()
	fs := &free.Filesystem{
		Kind:    fmt.Sprintf("fat%d", v.bits),
		Label:   v.label,
		Sectors: v.total * (v.sector / free.SectorSize),
		Free:    list,
		Unclean: v.dirty || t.unclean,
		Notes:   t.notes(clusters, uint64(len(list.Spans()))),
	}
	if v.info != 0 {
		if err := t.compareInfo(fs, size, clusters, o); err != nil {
			return nil, true, err
		}
	}
	return fs, true, nil
}

// notes are what the user should know about a table with so many free clusters in so many spans.
func (t *table) notes(clusters, spans uint64) (notes []string) {
	add := func(n uint64, format string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf(format, n))
		}
	}
	if t.v.dirty || t.unclean {
		notes = append(notes, "the filesystem is mounted or was not unmounted, or has seen errors: unmount it or run fsck.fat")
	}
	if t.v.active < 0 {
		add(t.differ, "the copies of the FAT differ in %d entries, what any of them uses was saved: run fsck.fat")
	}
	add(t.v.clusters-t.listed-clusters, "%d clusters are part of a file and free at once, and were saved: run fsck.fat")
	add(t.outside, "%d entries of the FAT lead to clusters that do not exist: run fsck.fat")
	add(t.unread, "%d entries of the FAT could not be read, their clusters were saved")
	if spans == maxSpans {
		notes = append(notes, fmt.Sprintf("the free space has more than %d pieces, the rest was saved", maxSpans))
	}
	return notes
}

// compareInfo adds a note if the count of free clusters that FSInfo keeps is another. It is only meant as a hint, so that
// nothing else follows from it.
func (t *table) compareInfo(fs *free.Filesystem, size int64, clusters uint64, o free.Options) error {
	b := make([]byte, 512)
	if err := readAt(t.r, size, b, int64(t.v.info*t.v.sector), "FSInfo"); err != nil {
		if o.SkipBad {
			return nil
		}
		return err
	}
	le := binary.LittleEndian
	const unknown = 0xFFFFFFFF
	count := le.Uint32(b[488:])
	if le.Uint32(b) == 0x41615252 && le.Uint32(b[484:]) == 0x61417272 && count != unknown && uint64(count) != clusters {
		fs.Notes = append(fs.Notes, fmt.Sprintf("FSInfo counts %d free clusters, the FAT %d", count, clusters))
	}
	return nil
}

// readAt fills p from a source of size bytes. The error is io.EOF if the source ends before.
func readAt(r io.ReaderAt, size int64, p []byte, off int64, what string) error {
	if off > size-int64(len(p)) {
		return io.EOF
	}
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == io.EOF {
			return err
		}
		return fmt.Errorf("read %s at byte %d: %w", what, off, err)
	}
	return nil
}

// notEnd drops io.EOF: a source too short for a filesystem is none.
func notEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
