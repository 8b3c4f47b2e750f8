package probe

import "encoding/binary"

// mdMagic starts a superblock of Linux RAID; in version 0.90 in the byte order of the machine that wrote it.
const mdMagic = "\xfc\x4e\x2b\xa9"

// lvm2: the label is in one of the first four sectors and says in which.
func lvm2(s *source) bool {
	for sector := range int64(4) {
		b := s.at(512*sector, 32)
		if b != nil && string(b[:8]) == "LABELONE" && string(b[24:]) == "LVM2 001" &&
			binary.LittleEndian.Uint64(b[8:]) == uint64(sector) {
			return true
		}
	}
	return false
}

// md10: the superblock lies at least 8 KiB before the end, at a multiple of 4 KiB.
func md10(s *source) bool {
	if s.size < 8<<10 {
		return false
	}
	at := (s.size/512 - 16) &^ 7 * 512
	return string(s.at(at, 8)) == mdMagic+"\x01\x00\x00\x00"
}

// md090: the superblock lies at the last multiple of 64 KiB that has as much behind it.
func md090(s *source) bool {
	if s.size < 64<<10 {
		return false
	}
	at := s.size&^(64<<10-1) - 64<<10
	b := s.at(at, 12)
	if b == nil {
		return false
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(b) == 0xa92b4efc && order.Uint32(b[4:]) == 0 && order.Uint32(b[8:]) >= 90 && order.Uint32(b[8:]) <= 91 {
			return true
		}
	}
	return false
}

// imsm: metadata of firmware RAID in the last but one sector.
func imsm(s *source) bool {
	return string(s.at(s.size&^511-1024, 24)) == "Intel Raid ISM Cfg Sig. "
}

// ddf: the anchor is the last sector.
func ddf(s *source) bool {
	b := s.at(s.size&^511-512, 4)
	return string(b) == "\xde\x11\xde\x11" || string(b) == "\x11\xde\x11\xde"
}

// zfs: each of the labels at 0 and 256 KiB ends with 128 KiB of uberblocks, in slots of at least 1 KiB. The two labels at
// the end are not looked at: they outlive what is written over the others, and then mean nothing.
func zfs(s *source) bool {
	for label := int64(0); label < 512<<10; label += 256 << 10 {
		b := s.at(label+128<<10, 128<<10)
		for ; len(b) > 0; b = b[1024:] {
			if binary.LittleEndian.Uint64(b) == 0x00bab10c || binary.BigEndian.Uint64(b) == 0x00bab10c {
				return true
			}
		}
	}
	return false
}
