package grow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"loadnode/transfer/disk/ptable"
)

// filesystem is one that can be grown.
type filesystem struct {
	kind   string // as mount knows it
	size   int64  // what it has now, in bytes
	block  int64  // it grows by whole blocks
	inodes uint32 // XFS: greatest share of inodes in percent, which must be said again

	offset, bytes int64 // the partition
}

// errUnclean says that a filesystem must be mounted or checked before.
var errUnclean = errors.New("was not cleanly unmounted: mount it once, or check it, before it is grown")

// examine says what is in a partition; fs is nil if it is nothing that can be grown. An error means that the partition
// must not be touched.
func examine(r io.ReaderAt, p ptable.Partition) (fs *filesystem, name string, err error) {
	size := int64(p.Sectors) * sector
	head := make([]byte, min(size, 128<<10))
	if _, err := r.ReadAt(head, int64(p.Start)*sector); err != nil && err != io.EOF {
		return nil, "", err
	}
	if err := endOfRAID(r, p); err != nil {
		return nil, "", err
	}
	if len(head) < 128<<10 {
		return nil, "", nil
	}
	le, be := binary.LittleEndian, binary.BigEndian
	switch ext := head[1024:2048]; {
	case le.Uint16(ext[56:]) == 0xef53:
		fs, err = examineExt(ext)
	case string(head[:4]) == "XFSB":
		fs = &filesystem{kind: "xfs", block: int64(be.Uint32(head[4:])), inodes: uint32(head[127])}
		blocks := be.Uint64(head[8:])
		if fs.block < 512 || fs.block > 65536 || fs.block&(fs.block-1) != 0 || blocks > uint64(size/fs.block) {
			return nil, "", fmt.Errorf("its XFS superblock is damaged: %d blocks of %d bytes in a partition of %d", blocks, fs.block, size)
		}
		fs.size = int64(blocks) * fs.block
	case string(head[65536+64:][:8]) == "_BHRfS_M":
		sb := head[65536:]
		if le.Uint64(sb[0x88:]) != 1 {
			return nil, "", fmt.Errorf("its btrfs spans %d devices: grow it with btrfs filesystem resize", le.Uint64(sb[0x88:]))
		}
		if le.Uint64(sb[0x60:]) != 0 {
			return nil, "", fmt.Errorf("its btrfs %w", errUnclean)
		}
		fs = &filesystem{kind: "btrfs", block: int64(le.Uint32(sb[0x90:])), size: int64(le.Uint64(sb[0x70:]))}
		if fs.block < 512 || fs.block > 65536 || fs.size < 0 || fs.size > size {
			return nil, "", fmt.Errorf("its btrfs superblock is damaged: %d bytes in a partition of %d", fs.size, size)
		}
	default:
		return nil, other(head), nil
	}
	if err != nil {
		return nil, "", err
	}
	if fs.size > size {
		return nil, "", fmt.Errorf("its %s has %d bytes, the partition %d", fs.kind, fs.size, size)
	}
	return fs, fs.kind, nil
}

func examineExt(sb []byte) (*filesystem, error) {
	const (
		clean, errorsFound = 1, 2
		needsRecovery      = 0x4
		journalDevice      = 0x8
		wide               = 0x80
	)
	le := binary.LittleEndian
	shift := le.Uint32(sb[24:])
	if shift > 6 {
		return nil, fmt.Errorf("its ext superblock is damaged: block size 2^%d KiB", shift)
	}
	incompat := le.Uint32(sb[96:])
	switch state := le.Uint16(sb[58:]); {
	case incompat&journalDevice != 0:
		return nil, errors.New("it is the journal of another ext filesystem")
	case state&clean == 0 || incompat&needsRecovery != 0:
		return nil, fmt.Errorf("its ext filesystem %w", errUnclean)
	case state&errorsFound != 0:
		return nil, errors.New("its ext filesystem knows of errors: run e2fsck -f before it is grown")
	}
	blocks := uint64(le.Uint32(sb[4:]))
	if incompat&wide != 0 {
		blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	block := int64(1024) << shift
	if blocks > uint64(1<<62/block) {
		return nil, fmt.Errorf("its ext superblock is damaged: %d blocks", blocks)
	}
	return &filesystem{kind: "ext4", block: block, size: int64(blocks) * block}, nil
}

// other names what is left alone.
func other(head []byte) string {
	for _, s := range []struct {
		at          int
		text, named string
	}{{3, "NTFS    ", "NTFS"}, {3, "EXFAT   ", "exFAT"}, {82, "FAT32   ", "FAT"}, {54, "FAT1", "FAT"}, {4086, "SWAPSPACE2", "swap"},
		{0, "LUKS\xba\xbe", "LUKS"}, {512, "LABELONE", "LVM"}, {4096, "\xfc\x4e\x2b\xa9", "a member of a RAID"}} {
		if bytes.HasPrefix(head[s.at:], []byte(s.text)) {
			return s.named
		}
	}
	return ""
}

// endOfRAID looks for the superblocks that md keeps at the end of a partition (versions 0.90 and 1.0): in a longer one
// they would not be found.
func endOfRAID(r io.ReaderAt, p ptable.Partition) error {
	size := int64(p.Sectors) * sector
	b := make([]byte, 4)
	for _, at := range []int64{size/65536*65536 - 65536, (size/sector - 16) / 8 * 8 * sector} {
		if at < 0 {
			continue
		}
		if _, err := r.ReadAt(b, int64(p.Start)*sector+at); err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(b) == 0xa92b4efc {
			return errors.New("it is a member of a RAID, whose description is at its end: grow it with mdadm")
		}
	}
	return nil
}
