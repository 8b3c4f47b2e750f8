package probe

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Places and values are those of the formats themselves; little-endian unless said otherwise.

// strong are the marks Member knows: long magic numbers, or shorter ones with fields that must make sense.
var strong = []mark{
	{name: "LUKS1 encrypted volume", magic: "LUKS\xba\xbe\x00\x01"},
	{name: "LUKS2 encrypted volume", magic: "LUKS\xba\xbe\x00\x02"},
	{name: "BitLocker volume", at: 3, magic: "-FVE-FS-"},
	// On removable media the boot sector also is that of a FAT32 filesystem; the identifier behind it tells.
	{name: "BitLocker volume", at: 424, magic: "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"},
	{name: "BitLocker volume", at: 424, magic: "\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8"},
	markLVM2, markMD12, markIMSM, markDDF, markBcache,
	{name: "Linux RAID member (metadata 1.1)", magic: mdMagic + "\x01\x00\x00\x00"},
	{name: "Linux RAID member (metadata 1.0)", check: md10},
	{name: "Linux RAID member (metadata 0.90)", check: md090},
	{name: "ZFS pool member", check: zfs},
	{name: "bcachefs", at: 4096 + 24, magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{name: "Ceph BlueStore device", magic: "bluestore block device"},
	{name: "VMFS volume", at: 1 << 20, magic: "\x0d\xd0\x01\xc0"},
	{name: "btrfs", at: 64<<10 + 0x40, magic: "_BHRfS_M"},
	{name: "APFS container", at: 32, magic: "NXSB", check: apfs},
	{name: "ReFS", at: 3, magic: "ReFS\x00\x00\x00\x00"},
	{name: "exFAT", at: 3, magic: "EXFAT   "},
	{name: "f2fs", at: 1024, magic: "\x10\x20\xf5\xf2"},
	{name: "NILFS2", at: 1024 + 6, magic: "\x34\x34", check: nilfs2},
	{name: "erofs", at: 1024, magic: "\xe2\xe1\xf5\xe0"},
	{name: "HFS+", at: 1024, magic: "H+\x00\x04", check: hfsPlus},
	{name: "HFSX", at: 1024, magic: "HX\x00\x05", check: hfsPlus},
	{name: "squashfs", magic: "hsqs", check: squashfs(binary.LittleEndian)},
	{name: "squashfs", magic: "sqsh", check: squashfs(binary.BigEndian)},
	{name: "JFS", at: 32 << 10, magic: "JFS1", check: jfs},
	{name: "ReiserFS", at: 64<<10 + 52, magic: "ReIsErFs"},
	{name: "ReiserFS", at: 64<<10 + 52, magic: "ReIsEr2Fs"},
	{name: "ReiserFS", at: 64<<10 + 52, magic: "ReIsEr3Fs"},
	{name: "ReiserFS", at: 8<<10 + 20, magic: "ReIsErFs"},
	{name: "ReiserFS", at: 8<<10 + 52, magic: "ReIsErFs"},
	{name: "Reiser4", at: 64 << 10, magic: "ReIsEr4"},
	{name: "UFS2", check: ufs("\x19\x54\x01\x19")},
	{name: "UFS1", check: ufs("\x00\x01\x19\x54")},
}

var (
	markLVM2   = mark{name: "LVM2 physical volume", check: lvm2}
	markMD12   = mark{name: "Linux RAID member (metadata 1.2)", at: 4096, magic: mdMagic + "\x01\x00\x00\x00"}
	markIMSM   = mark{name: "Intel RAID member (IMSM)", check: imsm}
	markDDF    = mark{name: "DDF RAID member", check: ddf}
	markBcache = mark{name: "bcache device", at: 4096 + 24, magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"}
)

// whole are the marks Disk knows: they lie outside of all partitions, and leave room for a table before them.
var whole = []mark{markLVM2, markMD12, markIMSM, markDDF, markBcache}

// weak are the marks that only Foreign knows.
var weak = []mark{
	{name: "ISO 9660", at: 32<<10 + 1, magic: "CD001"},
	{name: "UDF", at: 32<<10 + 1, magic: "BEA01", check: udf},
	{name: "Linux swap", check: swapSpace},
	{name: "Minix filesystem", check: minix},
	{name: "HFS", at: 1024, magic: "BD", check: hfs},
	{name: "LVM1 physical volume", magic: "HM\x01\x00"},
	{name: "LVM1 physical volume", magic: "HM\x02\x00"},
	{name: "GPT partition table", at: 512, magic: "EFI PART\x00\x00\x01\x00"},
	{name: "GPT partition table", at: 4096, magic: "EFI PART\x00\x00\x01\x00"},
	{name: "BSD disklabel", at: 512, magic: bsdMagic, check: disklabel(512)},
	{name: "BSD disklabel", at: 0, magic: bsdMagic, check: disklabel(0)},
	{name: "BSD disklabel", at: 64, magic: bsdMagic, check: disklabel(64)},
	{name: "MBR partition table", at: 510, magic: "\x55\xaa", check: mbr},
}

const bsdMagic = "\x57\x45\x56\x82"

// number is the 16 or 32 bits at a place. Zero is what no mark accepts where it asks.
func (s *source) number(order binary.ByteOrder, at int64, size int) uint32 {
	switch b := s.at(at, size); {
	case b == nil:
		return 0
	case size == 2:
		return uint32(order.Uint16(b))
	default:
		return order.Uint32(b)
	}
}

// power says whether v is a power of two between two limits.
func power(v, least, most uint32) bool {
	return bits.OnesCount32(v) == 1 && v >= least && v <= most
}

func apfs(s *source) bool { return power(s.number(binary.LittleEndian, 36, 4), 4096, 64<<10) }

func nilfs2(s *source) bool {
	bytes := s.number(binary.LittleEndian, 1024+8, 2)
	if bytes < 24 || bytes > 1024 {
		return false
	}
	b := s.at(1024, int(bytes))
	if b == nil {
		return false
	}
	// The sum covers the superblock with the field of the sum as zeros, from a seed, and is not inverted at the end.
	sum := ^binary.LittleEndian.Uint32(b[12:])
	for _, part := range [][]byte{b[:16], make([]byte, 4), b[20:]} {
		sum = crc32.Update(sum, crc32.IEEETable, part)
	}
	return ^sum == binary.LittleEndian.Uint32(b[16:])
}

func hfsPlus(s *source) bool { return power(s.number(binary.BigEndian, 1024+40, 4), 512, 1<<30) }

// hfs: allocation blocks are multiples of 512 bytes, and there are some.
func hfs(s *source) bool {
	size := s.number(binary.BigEndian, 1024+20, 4)
	return size > 0 && size%512 == 0 && s.number(binary.BigEndian, 1024+18, 2) > 0
}

func squashfs(order binary.ByteOrder) func(*source) bool {
	return func(s *source) bool {
		major := s.number(order, 28, 2)
		return major >= 1 && major <= 4
	}
}

func jfs(s *source) bool {
	size, shift := s.number(binary.LittleEndian, 32<<10+16, 4), s.number(binary.LittleEndian, 32<<10+20, 2)
	return power(size, 512, 4096) && size == 1<<shift
}

// ufs looks for a superblock where the versions of UFS keep it, in both byte orders; the magic is given big-endian.
func ufs(magic string) func(*source) bool {
	want := binary.BigEndian.Uint32([]byte(magic))
	return func(s *source) bool {
		for _, at := range []int64{64 << 10, 8 << 10, 0, 256 << 10} {
			for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
				if s.number(order, at+1372, 4) != want {
					continue
				}
				block, fragment := s.number(order, at+48, 4), s.number(order, at+52, 4)
				if power(block, 4096, 64<<10) && power(fragment, 512, block) && s.number(order, at+56, 4) == block/fragment {
					return true
				}
			}
		}
		return false
	}
}

// udf: the volume recognition sequence names the version within its first descriptors.
func udf(s *source) bool {
	for at := int64(34 << 10); at <= 64<<10; at += 2 << 10 {
		switch string(s.at(at+1, 5)) {
		case "NSR02", "NSR03":
			return true
		}
	}
	return false
}

// swapSpace knows swap areas of all page sizes, also suspended systems on them.
func swapSpace(s *source) bool {
	for page := int64(4 << 10); page <= 64<<10; page *= 2 {
		switch string(s.at(page-10, 10)) {
		case "SWAP-SPACE", "SWAPSPACE2", "S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001",
			"\xed\xc3\x02\xe9\x98\x56\xe5\x0c\x00\x00":
			return true
		}
	}
	return false
}

// minix: the magic is two bytes, so the sizes must add up: the maps hold all inodes and zones, and come before the data.
func minix(s *source) bool {
	const at = 1024
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		num := func(off int64, size int) uint64 { return uint64(s.number(order, at+off, size)) }
		var inodes, zones, imap, zmap, first, block, inode uint64
		switch magic := num(16, 2); {
		case magic == 0x137F || magic == 0x138F:
			inodes, zones, imap, zmap, first, block, inode = num(0, 2), num(2, 2), num(4, 2), num(6, 2), num(8, 2), 1024, 32
		case magic == 0x2468 || magic == 0x2478:
			inodes, zones, imap, zmap, first, block, inode = num(0, 2), num(20, 4), num(4, 2), num(6, 2), num(8, 2), 1024, 64
		case num(24, 2) == 0x4D5A:
			inodes, zones, imap, zmap, first, block, inode = num(0, 4), num(20, 4), num(6, 2), num(8, 2), num(10, 2), num(28, 2), 64
		default:
			continue
		}
		// A first data zone of zero in version 3 says that it is to be calculated.
		if inodes > 0 && block >= 1024 && imap*block*8 > inodes && zmap*block*8+first > zones &&
			(first == 0 || first >= 2+imap+zmap+inodes*inode/block) {
			return true
		}
	}
	return false
}

// disklabel: the magic stands there twice.
func disklabel(at int64) func(*source) bool {
	return func(s *source) bool { return string(s.at(at+132, 4)) == bsdMagic }
}

// mbr: boot code of a filesystem also ends with 55 AA, so the entries must look like entries.
func mbr(s *source) bool {
	entries := 0
	b := s.at(446, 64)
	for ; len(b) > 0; b = b[16:] {
		switch e := b[:16]; {
		case string(e) == string(make([]byte, 16)):
		case e[0]&0x7f != 0 || e[4] == 0 || binary.LittleEndian.Uint32(e[12:]) == 0:
			return false
		default:
			entries++
		}
	}
	return entries > 0
}
