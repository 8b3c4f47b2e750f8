package fat

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"loadnode/transfer/imagezip/free"
)

const (
	minFAT16 = 4085  // clusters; with fewer, entries have 12 bits
	minFAT32 = 65525 // clusters; with fewer, FAT12 or FAT16 is to be used
	maxFAT32 = 0x0FFFFFF5
	maxFATs  = 4 // copies: what mkfs.fat makes at most

	// At byte 424, these identifiers say that the boot sector of FAT32 is a front for an encrypted volume.
	bitLockerToGo = "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"
	bitLockerUsed = "\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8"
)

// volume is the geometry of a filesystem as its boot sector gives it.
type volume struct {
	sector   uint64 // bytes per sector
	cluster  uint64 // sectors per cluster
	reserved uint64 // sectors before the first FAT
	fats     uint64 // copies
	fatSize  uint64 // sectors of a copy
	root     uint64 // sectors of the root directory; 0: it lies in clusters (FAT32)
	total    uint64 // sectors
	data     uint64 // first sector of cluster 2
	clusters uint64
	bits     int // of an entry of the FAT: 12, 16 or 32

	active      int    // the copy that counts if the copies are not kept equal; -1: they are
	rootCluster uint64 // FAT32
	info        uint64 // sector of FSInfo; 0: there is none
	dirty       bool   // the boot sector says that it is mounted or was not unmounted
	label       string
}

// isBoot says whether a sector can be the boot sector of a FAT filesystem.
func isBoot(b []byte) bool {
	le := binary.LittleEndian
	jump := b[0] == 0xEB && b[2] == 0x90 || b[0] == 0xE9
	oem := string(b[3:11])
	sector := le.Uint16(b[11:])
	switch {
	case !jump || le.Uint16(b[510:]) != 0xAA55:
		return false
	case oem == "NTFS    " || oem == "EXFAT   " || oem == "-FVE-FS-":
		return false
	case string(b[424:440]) == bitLockerToGo || string(b[424:440]) == bitLockerUsed:
		return false
	case bits.OnesCount16(sector) != 1 || sector < 512 || sector > 4096:
		return false
	case bits.OnesCount8(b[13]) != 1 || le.Uint16(b[14:]) == 0:
		return false
	}
	return b[16] >= 1 && b[16] <= maxFATs && isMedia(b[21])
}

func isMedia(b byte) bool { return b == 0xF0 || b >= 0xF8 }

// parse reads a boot sector for which isBoot holds. The source has size bytes.
func parse(b []byte, size int64) (*volume, error) {
	le := binary.LittleEndian
	v := &volume{
		sector:   uint64(le.Uint16(b[11:])),
		cluster:  uint64(b[13]),
		reserved: uint64(le.Uint16(b[14:])),
		fats:     uint64(b[16]),
		fatSize:  uint64(le.Uint16(b[22:])),
		total:    uint64(le.Uint16(b[19:])),
		active:   -1,
	}
	if v.total == 0 {
		v.total = uint64(le.Uint32(b[32:]))
	}
	rootBytes := 32 * uint64(le.Uint16(b[17:]))
	if rootBytes%v.sector != 0 {
		return nil, fmt.Errorf("%w: FAT: a root directory of %d entries is no whole number of sectors", free.ErrFilesystem, rootBytes/32)
	}
	v.root = rootBytes / v.sector
	extended := b[36:]
	if v.fatSize == 0 { // only FAT32 has no room for it here
		v.bits = 32
		if err := v.parse32(b); err != nil {
			return nil, err
		}
		extended = b[64:]
	}
	v.dirty = extended[1]&3 != 0
	if extended[2] == 0x29 {
		if label := strings.TrimRight(string(extended[7:18]), " \x00"); label != "NO NAME" {
			v.label = label
		}
	}
	v.data = v.reserved + v.fats*v.fatSize + v.root
	if v.total < v.data+v.cluster {
		return nil, fmt.Errorf("%w: FAT: %d sectors, but the data starts at sector %d", free.ErrFilesystem, v.total, v.data)
	}
	v.clusters = (v.total - v.data) / v.cluster
	if v.bits == 0 {
		v.bits = 12
		if v.clusters >= minFAT16 {
			v.bits = 16
		}
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	if have := uint64(size) / v.sector; v.total > have {
		return nil, fmt.Errorf("%w: FAT: it has %d sectors of %d bytes, but the source only has room for %d: is it truncated?",
			free.ErrFilesystem, v.total, v.sector, have)
	}
	return v, nil
}

// parse32 reads what only FAT32 has.
func (v *volume) parse32(b []byte) error {
	le := binary.LittleEndian
	v.fatSize = uint64(le.Uint32(b[36:]))
	if flags := le.Uint16(b[40:]); flags&0x80 != 0 {
		v.active = int(flags & 0xF)
		if uint64(v.active) >= v.fats {
			return fmt.Errorf("%w: FAT32: copy %d of the FAT is in use, there are %d", free.ErrFilesystem, v.active, v.fats)
		}
	}
	if version := le.Uint16(b[42:]); version != 0 {
		return fmt.Errorf("%w: FAT32: unknown version %#x", free.ErrFilesystem, version)
	}
	if v.fatSize == 0 || v.root != 0 {
		return fmt.Errorf("%w: FAT32: a FAT of %d sectors, and %d sectors of a root directory", free.ErrFilesystem, v.fatSize, v.root)
	}
	v.rootCluster = uint64(le.Uint32(b[44:]))
	v.info = uint64(le.Uint16(b[48:]))
	backup := uint64(le.Uint16(b[50:]))
	for _, at := range []*uint64{&v.info, &backup} {
		switch {
		case *at == 0xFFFF:
			*at = 0
		case *at >= v.reserved: // it would lie in what is divided into clusters
			return fmt.Errorf("%w: FAT32: FSInfo or the backup boot sector at sector %d, but only %d sectors are reserved",
				free.ErrFilesystem, *at, v.reserved)
		}
	}
	return nil
}

// check holds the numbers against each other. How many bits an entry has follows from the number of clusters, but many
// small EFI system partitions are FAT32 with fewer clusters than that needs, and all who mount them agree on it.
func (v *volume) check() error {
	var wrong string
	switch {
	case v.bits == 16 && v.clusters >= minFAT32:
		wrong = fmt.Sprintf("%d clusters are too many for entries of 16 bits", v.clusters)
	case v.bits == 32 && v.clusters > maxFAT32:
		wrong = fmt.Sprintf("%d clusters are too many for entries of 28 bits", v.clusters)
	case v.fatSize*v.sector*8 < (v.clusters+2)*uint64(v.bits):
		wrong = fmt.Sprintf("the FAT has %d sectors, too few for %d clusters", v.fatSize, v.clusters)
	case v.bits == 32 && (v.rootCluster < 2 || v.rootCluster >= v.clusters+2):
		wrong = fmt.Sprintf("the root directory is at cluster %d, there are %d", v.rootCluster, v.clusters)
	case v.bits != 32 && v.root == 0:
		wrong = "it has no root directory"
	default:
		return nil
	}
	return fmt.Errorf("%w: FAT: %s", free.ErrFilesystem, wrong)
}
