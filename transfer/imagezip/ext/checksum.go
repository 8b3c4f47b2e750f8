package ext

import (
	"encoding/binary"
	"hash/crc32"
)

// crc32c continues a CRC-32C as ext4 does, which does not invert the result.
func crc32c(sum uint32, b []byte) uint32 {
	return ^crc32.Update(^sum, crc32.MakeTable(crc32.Castagnoli), b)
}

// crc16 continues a CRC-16 (polynomial 0x8005, reflected), the checksum of uninit_bg.
func crc16(sum uint16, b []byte) uint16 {
	for _, c := range b {
		sum ^= uint16(c)
		for range 8 {
			low := sum & 1
			sum >>= 1
			if low != 0 {
				sum ^= 0xA001
			}
		}
	}
	return sum
}

// superChecksum verifies a superblock, if the filesystem has checksums.
func (fs *filesystem) superChecksum(sb []byte) bool {
	return fs.roCompat&roMetadataCsum == 0 || crc32c(^uint32(0), sb[:0x3FC]) == binary.LittleEndian.Uint32(sb[0x3FC:])
}

// descChecksum verifies the descriptor of a group, if it has a checksum: it covers the group's number and all of the
// descriptor but itself.
func (fs *filesystem) descChecksum(g uint32, b []byte) bool {
	const at, behind = 0x1E, 0x20
	number := binary.LittleEndian.AppendUint32(nil, g)
	want := binary.LittleEndian.Uint16(b[at:])
	switch {
	case fs.roCompat&roMetadataCsum != 0:
		sum := crc32c(crc32c(fs.csumSeed, number), b[:at])
		return uint16(crc32c(crc32c(sum, []byte{0, 0}), b[behind:])) == want
	case fs.roCompat&roGdtCsum != 0:
		return crc16(crc16(crc16(crc16(0xFFFF, fs.uuid[:]), number), b[:at]), b[behind:]) == want
	}
	return true
}

// bitmapChecksum verifies a block bitmap, if it has a checksum: of 32 bits with large descriptors, otherwise of 16.
func (fs *filesystem) bitmapChecksum(b []byte, want uint32) bool {
	if fs.roCompat&roMetadataCsum == 0 {
		return true
	}
	sum := crc32c(fs.csumSeed, b[:fs.bitmapBytes])
	if fs.descSize < 64 {
		sum &= 0xFFFF
	}
	return sum == want
}
