package ntfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"loadnode/transfer/imagezip/free"
)

const (
	bootSize   = 8 << 10 // bytes of $Boot: boot sector and boot code
	maxCluster = 2 << 20 // bytes; what Windows makes at most
)

// volume is an open filesystem.
type volume struct {
	r        io.ReaderAt
	size     int64  // bytes of the source
	sector   uint64 // bytes
	sectors  uint64 // of the volume, without the copy of the boot sector behind it
	cluster  uint64 // bytes
	clusters uint64
	record   uint64 // bytes of a record of the MFT
	mftAt    uint64 // cluster of record 0
	mirrorAt uint64 // cluster of the copy of the first records
	mft      *stream
}

// isBoot says whether a sector is the boot sector of NTFS.
func isBoot(b []byte) bool {
	return string(b[3:11]) == "NTFS    " && b[510] == 0x55 && b[511] == 0xAA
}

// parse reads a boot sector for which isBoot holds. The source has size bytes.
func parse(b []byte, size int64) (*volume, error) {
	le := binary.LittleEndian
	v := &volume{
		sector:   uint64(le.Uint16(b[11:])),
		sectors:  le.Uint64(b[40:]),
		mftAt:    le.Uint64(b[48:]),
		mirrorAt: le.Uint64(b[56:]),
	}
	if bits.OnesCount64(v.sector) != 1 || v.sector < 512 || v.sector > 4096 {
		return nil, damaged("sectors of %d bytes", v.sector)
	}
	switch n := b[13]; {
	case n <= 128:
		v.cluster = uint64(n) * v.sector
	case n >= 0xF0: // larger ones are given as a negative power of two
		v.cluster = v.sector << (256 - int(n))
	}
	if bits.OnesCount64(v.cluster) != 1 || v.cluster > maxCluster {
		return nil, damaged("clusters of %#x sectors", b[13])
	}
	switch n := int8(b[64]); {
	case n > 0:
		v.record = uint64(n) * v.cluster
	case n >= -16:
		v.record = 1 << -n
	}
	if bits.OnesCount64(v.record) != 1 || v.record < 512 || v.record > 64<<10 {
		return nil, damaged("records of the MFT of %#x clusters", b[64])
	}
	if have := uint64(size) / v.sector; v.sectors > have {
		return nil, damaged("it has %d sectors of %d bytes, but the source only has room for %d: is it truncated?", v.sectors, v.sector, have)
	}
	v.clusters = v.sectors / (v.cluster / v.sector)
	if v.clusters <= bootSize/v.cluster || v.mftAt >= v.clusters || v.mirrorAt >= v.clusters {
		return nil, damaged("%d clusters, with the MFT at %d and its mirror at %d", v.clusters, v.mftAt, v.mirrorAt)
	}
	return v, nil
}

// damaged is an ErrFilesystem.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: NTFS: %s", free.ErrFilesystem, fmt.Sprintf(format, args...))
}

// readClusters fills p from a place within the clusters of the volume.
func (v *volume) readClusters(p []byte, off uint64, what string) error {
	if off+uint64(len(p)) > v.clusters*v.cluster {
		return damaged("%s lies behind the end: run chkdsk", what)
	}
	if n, err := v.r.ReadAt(p, int64(off)); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s at byte %d: %w", what, off, err)
	}
	return nil
}

// span is a run of clusters in sectors of 512 bytes.
func (v *volume) span(cluster, n uint64) free.Span {
	per := v.cluster / free.SectorSize
	return free.Span{Start: cluster * per, End: (cluster + n) * per}
}
