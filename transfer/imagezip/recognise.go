package imagezip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/fat"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/ntfs"
	"loadnode/transfer/imagezip/probe"
	"loadnode/transfer/imagezip/swap"
	"loadnode/transfer/imagezip/xfs"
	"loadnode/transfer/ndz"
)

// probes are asked in this order; Auto asks all of them.
var probes = []struct {
	kind  Kind
	name  string
	probe free.Probe
}{
	{Ext, "ext2, ext3 or ext4", ext.Probe},
	{Ext, "XFS", xfs.Probe},
	{NTFS, "NTFS", ntfs.Probe},
	{FAT, "FAT", fat.Probe},
	{Swap, "swap", swap.Probe},
}

// part finds out what is on a part of the source whose first sector is at, and adds what is free there. Sectors of the
// part become those of the filesystem if what lies behind it is to be left out.
func (e *examiner) part(p *Part, at uint64) error {
	switch {
	case slices.Contains(e.o.Ignore, p.Number):
		p.Kind = "ignored"
		e.add(p, free.Span{End: p.Sectors})
		return nil
	case e.o.Kind == Raw, e.o.Kind == File, slices.Contains(e.o.Whole, p.Number):
		return nil
	}
	fs, err := e.filesystem(p, at)
	if err != nil {
		return e.named(p, err)
	}
	if fs == nil {
		return nil
	}
	p.Kind, p.Label, p.Notes = fs.Kind, fs.Label, append(p.Notes, fs.Notes...)
	if fs.Sectors > p.Sectors {
		return e.named(p, fmt.Errorf("%w: it has %d sectors, but there are only %d", ErrFilesystem, fs.Sectors, p.Sectors))
	}
	if fs.Unclean {
		if !e.o.Unclean {
			return e.named(p, fmt.Errorf("%s %w: %s, or use --force to save it whole", fs.Kind, ErrUnclean, cure(fs.Kind)))
		}
		p.Notes = append(p.Notes, "was mounted or not cleanly unmounted: saved whole, as it is; check it after it is installed")
		return nil
	}
	var list free.List
	for _, s := range fs.Free.Spans() {
		list.Add(s)
	}
	list.Subtract([]free.Span{{Start: fs.Sectors, End: 1 << 62}})
	e.add(p, list.Spans()...)
	if e.o.OnlyFS && fs.Sectors < p.Sectors {
		if p.Number != 0 && e.o.Partition == 0 {
			e.add(p, free.Span{Start: fs.Sectors, End: p.Sectors})
		} else {
			p.Sectors = fs.Sectors
		}
	}
	return nil
}

// cure says what makes a filesystem clean.
func cure(kind string) string {
	switch kind {
	case "xfs":
		return "unmount it, or mount and unmount it once, or run xfs_repair"
	case "ntfs":
		return "shut Windows down completely (shutdown /s /t 0, not the fast way), or unmount it"
	case "swap":
		return "start the suspended system once and shut it down"
	case "fat12", "fat16", "fat32":
		return "unmount it, or run fsck.fat"
	}
	return "unmount it, or run e2fsck"
}

// relocations finds what needs relocations in an image of a partition (§5), which may be installed at another place of a
// disk: the first sectors of LILO and of BSD hold addresses counted from the start of the disk.
func (e *examiner) relocations(p *Part, at uint64) error {
	if e.o.Partition == 0 && !e.o.Relocate {
		return nil
	}
	b := make([]byte, 2*ndz.SectorSize)
	if n, err := section(e.src, at, p.Sectors).ReadAt(b, 0); n < len(b) {
		if err == io.EOF {
			return nil
		}
		return fmt.Errorf("capture: read the first sectors of %v: %w", p, err)
	}
	found := ""
	switch {
	case string(b[6:10]) == "LILO":
		found = "the boot sector of LILO"
	case binary.LittleEndian.Uint32(b[ndz.SectorSize:]) == 0x82564557:
		found = "a BSD disklabel"
	default:
		return nil
	}
	if e.o.Relocate {
		return fmt.Errorf("capture: %v has %s, and relocations for it are not written: use the original tools, or leave out -L", p, found)
	}
	p.Notes = append(p.Notes, fmt.Sprintf("there is %s: it works only if the image is installed at the same place of a disk", found))
	return nil
}

// add adds what is free in a part.
func (e *examiner) add(p *Part, spans ...free.Span) {
	for _, s := range spans {
		e.free.Add(free.Span{Start: p.Start + s.Start, End: p.Start + s.End})
	}
}

// filesystem asks the probes. Nil with no error: it is to be saved whole.
func (e *examiner) filesystem(p *Part, at uint64) (*free.Filesystem, error) {
	r := section(e.src, at, p.Sectors)
	auto := e.o.Kind == Auto || e.o.Kind == Disk
	if auto {
		var found bool
		if p.Holds, found = probe.Member(r, r.Size()); found {
			return nil, nil
		}
	}
	wanted := ""
	for _, known := range probes {
		if !auto && known.kind != e.o.Kind {
			continue
		}
		fs, found, err := known.probe(e.ctx, r, r.Size(), free.Options{SkipBad: e.o.SkipErrors})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", known.name, err)
		}
		if found {
			return fs, nil
		}
		if wanted != "" {
			wanted += " or "
		}
		wanted += known.name
	}
	var found bool
	if p.Holds, found = probe.Foreign(r, r.Size()); auto {
		return nil, nil
	}
	if found {
		return nil, fmt.Errorf("%w: want %s, found %s: use -r to save every sector (raw)", ErrNoFilesystem, wanted, p.Holds)
	}
	return nil, fmt.Errorf("%w: want %s: use -r to save every sector (raw)", ErrNoFilesystem, wanted)
}

// named says in an error which partition it is about, and what can be done.
func (e *examiner) named(p *Part, err error) error {
	if p.Number == 0 {
		return fmt.Errorf("capture: %w", err)
	}
	if errors.Is(err, ErrFilesystem) || errors.Is(err, ErrUnclean) {
		return fmt.Errorf("capture: partition %d: %w (-R %d saves it whole, -I %d leaves it out)", p.Number, err, p.Number, p.Number)
	}
	return fmt.Errorf("capture: partition %d: %w", p.Number, err)
}
