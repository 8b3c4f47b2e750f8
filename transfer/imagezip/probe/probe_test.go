package probe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/probe"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

const size = 16 << 20

// disk is a source in which only some places are not zero.
type disk struct {
	size   int64
	pieces map[int64][]byte
	fail   int64 // reads of this byte fail, if it is not zero
}

var errBroken = errors.New("broken")

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	n := int(max(0, min(int64(len(p)), d.size-off)))
	for at, b := range d.pieces {
		if from := max(at, off); from < at+int64(len(b)) && from < off+int64(n) {
			copy(p[from-off:n], b[from-at:])
		}
	}
	switch {
	case d.fail > 0 && off <= d.fail && d.fail < off+int64(n):
		return int(d.fail - off), errBroken
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// put is a disk with pieces at places.
func put(pieces map[int64][]byte) disk { return disk{size: size, pieces: pieces} }

// text is one piece.
func text(at int64, s string) disk { return put(map[int64][]byte{at: []byte(s)}) }

// fields makes a piece of numbers at places within it.
func fields(order binary.AppendByteOrder, n int, magicAt int, magic string, numbers map[int]uint64) []byte {
	b := make([]byte, n)
	for at, v := range numbers { // the size of a number is in the upper bits of its place
		var value []byte
		switch at >> 16 {
		case 2:
			value = order.AppendUint16(nil, uint16(v))
		case 8:
			value = order.AppendUint64(nil, v)
		default:
			value = order.AppendUint32(nil, uint32(v))
		}
		copy(b[at&0xFFFF:], value)
	}
	copy(b[magicAt:], magic)
	return b
}

// u16 and u64 are places of numbers of two and eight bytes; others have four.
func u16(at int) int { return 2<<16 | at }
func u64(at int) int { return 8<<16 | at }

func md1(offset uint64) []byte {
	b := fields(le, 512, 0, "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", map[int]uint64{
		16: 7, 72: 1, u64(80): 20000, 92: 2, u64(128): 2048, u64(136): 20000, u64(144): offset, 220: 2})
	le.PutUint16(b[256:], 0)
	le.PutUint16(b[258:], 1)
	sum := uint64(0)
	for i := 0; i < 256+2*2; i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	return b
}

func nilfs() []byte {
	b := fields(le, 1024, 6, "\x34\x34", map[int]uint64{0: 2, u16(8): 280, 12: 0x1234567, 20: 2, u64(24): 2, u64(32): size})
	sum := ^crc32.Update(^uint32(0x1234567), crc32.IEEETable, b[:280]) // the field of the sum is zeros yet
	le.PutUint32(b[16:], sum)
	return b
}

func zfsLabel(order binary.AppendByteOrder, at int64, slots int) map[int64][]byte {
	pieces := map[int64][]byte{}
	for i := range slots {
		pieces[at+128<<10+int64(i)*1024] = fields(order, 1024, 0, "", map[int]uint64{u64(0): 0x00bab10c, u64(8): 5000, u64(16): uint64(i) + 1})
	}
	return pieces
}

func ufs(order binary.AppendByteOrder, magic uint64) []byte {
	return fields(order, 1376, 0, "", map[int]uint64{48: 32768, 52: 4096, 56: 8, 1372: magic})
}

func iso(descriptors ...string) map[int64][]byte {
	pieces := map[int64][]byte{}
	for i, d := range descriptors {
		pieces[32<<10+int64(i)*2048] = []byte(d)
	}
	return pieces
}

func partitions(entries ...string) disk {
	b := make([]byte, 512)
	copy(b[:440], bytes.Repeat([]byte{0x77}, 440)) // boot code
	for i, e := range entries {
		copy(b[446+16*i:], e)
	}
	copy(b[510:], "\x55\xaa")
	return put(map[int64][]byte{0: b})
}

const entry = "\x80\x01\x01\x00\x83\x02\x03\x04\x00\x08\x00\x00\x00\x00\x01\x00"

// head is something recognisable.
type head struct {
	name  string
	disk  disk
	wins  bool
	blkid string // what libblkid calls it; empty: it does not know, or wants more than there is here
}

func heads() []head {
	const bsd = "\x57\x45\x56\x82"
	label := fields(le, 512, 0, bsd, nil)
	copy(label[132:], bsd)
	return []head{
		{"LUKS1 encrypted volume", text(0, "LUKS\xba\xbe\x00\x01"), true, "crypto_LUKS"},
		{"LUKS2 encrypted volume", text(0, "LUKS\xba\xbe\x00\x02"), true, ""},
		{"BitLocker volume", text(0, "\xeb\x58\x90-FVE-FS-"), true, ""},
		{"BitLocker volume", put(map[int64][]byte{0: []byte("\xeb\x58\x90MSWIN4.1"), 424: []byte("\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01")}), true, ""},
		{"BitLocker volume", put(map[int64][]byte{0: []byte("\xeb\x58\x90MSWIN4.1"), 424: []byte("\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8")}), true, ""},
		{"LVM2 physical volume", put(map[int64][]byte{512: fields(le, 512, 0, "LABELONE", map[int]uint64{u64(8): 1, 24: 0x324d564c, 28: 0x31303020})}), true, ""},
		{"LVM2 physical volume", put(map[int64][]byte{3 * 512: fields(le, 512, 0, "LABELONE", map[int]uint64{u64(8): 3, 24: 0x324d564c, 28: 0x31303020})}), true, ""},
		{"Linux RAID member (metadata 1.1)", put(map[int64][]byte{0: md1(0)}), true, "linux_raid_member"},
		{"Linux RAID member (metadata 1.2)", put(map[int64][]byte{4096: md1(8)}), true, "linux_raid_member"},
		{"Linux RAID member (metadata 1.0)", put(map[int64][]byte{size - 8192: md1(size/512 - 16)}), true, "linux_raid_member"},
		{"Linux RAID member (metadata 1.0)", disk{size + 9000&^511, map[int64][]byte{size + 8704 - 8192 - 512: md1((size + 8704 - 8192 - 512) / 512)}, 0}, true, "linux_raid_member"},
		{"Linux RAID member (metadata 0.90)", put(map[int64][]byte{size - 64<<10: fields(le, 4096, 0, "\xfc\x4e\x2b\xa9", map[int]uint64{8: 90})}), true, "linux_raid_member"},
		{"Linux RAID member (metadata 0.90)", disk{size + 40000&^511, map[int64][]byte{size - 64<<10: fields(be, 4096, 0, "\xa9\x2b\x4e\xfc", map[int]uint64{8: 90})}, 0}, true, "linux_raid_member"},
		{"Intel RAID member (IMSM)", text(size-1024, "Intel Raid ISM Cfg Sig. 1.3.00"), true, ""},
		{"DDF RAID member", put(map[int64][]byte{size - 512: fields(be, 512, 0, "\xde\x11\xde\x11", map[int]uint64{u64(96): size/512 - 1})}), true, ""},
		{"ZFS pool member", disk{64 << 20, zfsLabel(le, 0, 8), 0}, true, "zfs_member"},
		{"ZFS pool member", disk{64 << 20, zfsLabel(be, 256<<10, 8), 0}, true, "zfs_member"},
		{"ZFS pool member", put(zfsLabel(le, 256<<10, 1)), true, ""},
		{"bcache device", text(4096+24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"), true, ""},
		{"bcachefs", text(4096+24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"), true, ""},
		{"Ceph BlueStore device", text(0, "bluestore block device\n"), true, "ceph_bluestore"},
		{"VMFS volume", put(map[int64][]byte{1 << 20: fields(le, 512, 0, "\x0d\xd0\x01\xc0", nil)}), true, "VMFS_volume_member"},
		{"btrfs", text(64<<10+64, "_BHRfS_M"), true, "btrfs"},
		{"APFS container", put(map[int64][]byte{0: fields(le, 4096, 32, "NXSB", map[int]uint64{u16(24): 1, 36: 4096})}), true, "apfs"},
		{"ReFS", text(0, "\x00\x00\x00ReFS\x00\x00\x00\x00"), true, "ReFS"},
		{"exFAT", text(0, "\xeb\x76\x90EXFAT   "), true, ""},
		{"f2fs", put(map[int64][]byte{1024: fields(le, 3000, 0, "\x10\x20\xf5\xf2", map[int]uint64{u16(4): 1, 12: 12})}), true, "f2fs"},
		{"NILFS2", put(map[int64][]byte{1024: nilfs()}), true, "nilfs2"},
		{"erofs", put(map[int64][]byte{1024: fields(le, 128, 0, "\xe2\xe1\xf5\xe0", map[int]uint64{12: 12})}), true, "erofs"},
		{"HFS+", put(map[int64][]byte{1024: fields(be, 512, 0, "H+\x00\x04", map[int]uint64{40: 4096})}), true, "hfsplus"},
		{"HFSX", put(map[int64][]byte{1024: fields(be, 512, 0, "HX\x00\x05", map[int]uint64{40: 4096})}), true, "hfsplus"},
		{"squashfs", put(map[int64][]byte{0: fields(le, 96, 0, "hsqs", map[int]uint64{u16(28): 4})}), true, "squashfs"},
		{"squashfs", put(map[int64][]byte{0: fields(be, 96, 0, "sqsh", map[int]uint64{u16(28): 3})}), true, "squashfs3"},
		{"JFS", put(map[int64][]byte{32 << 10: fields(le, 512, 0, "JFS1", map[int]uint64{4: 1, 16: 4096, u16(20): 12, u16(22): 3, 24: 512, u16(28): 9})}), true, "jfs"},
		{"ReiserFS", put(map[int64][]byte{64 << 10: fields(le, 204, 52, "ReIsEr2Fs", map[int]uint64{12: 100, u16(44): 4096})}), true, "reiserfs"},
		{"ReiserFS", put(map[int64][]byte{64 << 10: fields(le, 204, 52, "ReIsEr3Fs", map[int]uint64{12: 100, u16(44): 4096})}), true, "reiserfs"},
		{"ReiserFS", put(map[int64][]byte{64 << 10: fields(le, 204, 52, "ReIsErFs", map[int]uint64{12: 100, u16(44): 4096})}), true, "reiserfs"},
		{"ReiserFS", put(map[int64][]byte{8 << 10: fields(le, 204, 52, "ReIsErFs", map[int]uint64{12: 100, u16(44): 4096})}), true, "reiserfs"},
		{"ReiserFS", put(map[int64][]byte{8 << 10: fields(le, 204, 20, "ReIsErFs", map[int]uint64{12: 100, u16(44): 4096})}), true, "reiserfs"},
		{"Reiser4", text(64<<10, "ReIsEr4"), true, "reiser4"},
		{"UFS2", put(map[int64][]byte{64 << 10: ufs(le, 0x19540119)}), true, "ufs"},
		{"UFS2", put(map[int64][]byte{64 << 10: ufs(be, 0x19540119)}), true, "ufs"},
		{"UFS2", put(map[int64][]byte{256 << 10: ufs(le, 0x19540119)}), true, "ufs"},
		{"UFS1", put(map[int64][]byte{8 << 10: ufs(le, 0x00011954)}), true, "ufs"},
		{"UFS1", put(map[int64][]byte{0: ufs(be, 0x00011954)}), true, "ufs"},
		{"ISO 9660", put(iso("\x01CD001\x01", "\xffCD001\x01")), false, "iso9660"},
		{"UDF", put(iso("\x00BEA01\x01", "\x00NSR02\x01", "\x00TEA01\x01")), false, ""},
		{"UDF", put(iso("\x00BEA01\x01", "\x00BOOT2\x01", "\x00NSR03\x01")), false, ""},
		{"Linux swap", text(4096-10, "SWAP-SPACE"), false, "swap"},
		{"Linux swap", text(65536-10, "SWAPSPACE2"), false, ""},
		{"Linux swap", text(4096-10, "S1SUSPEND\x00"), false, "swsuspend"},
		{"Linux swap", text(8192-10, "ULSUSPEND\x00"), false, "swsuspend"},
		{"Linux swap", text(4096-10, "LINHIB0001"), false, "swsuspend"},
		{"Linux swap", text(4096-10, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c\x00\x00"), false, ""},
		{"Minix filesystem", put(map[int64][]byte{1024: fields(le, 32, 0, "", map[int]uint64{u16(0): 640, u16(2): 1910, u16(4): 1, u16(6): 1, u16(8): 24, u16(16): 0x137F})}), false, ""},
		{"Minix filesystem", put(map[int64][]byte{1024: fields(be, 32, 0, "", map[int]uint64{u16(0): 640, u16(4): 1, u16(6): 1, u16(8): 44, u16(16): 0x2478, 20: 1910})}), false, ""},
		{"HFS", put(map[int64][]byte{1024: fields(be, 512, 0, "BD", map[int]uint64{u16(18): 4000, 20: 4096})}), false, "hfs"},
		{"LVM1 physical volume", text(0, "HM\x01\x00"), false, ""},
		{"LVM1 physical volume", text(0, "HM\x02\x00"), false, ""},
		{"GPT partition table", text(512, "EFI PART\x00\x00\x01\x00"), false, ""},
		{"GPT partition table", text(4096, "EFI PART\x00\x00\x01\x00"), false, ""},
		{"BSD disklabel", put(map[int64][]byte{512: label}), false, ""},
		{"BSD disklabel", put(map[int64][]byte{0: label}), false, ""},
		{"BSD disklabel", put(map[int64][]byte{64: label}), false, ""},
		{"MBR partition table", partitions(entry), false, ""},
		{"MBR partition table", partitions("", "", "", strings.Replace(entry, "\x80", "\x00", 1)), false, ""},
	}
}

func foreign(d disk) string {
	name, _ := probe.Foreign(d, d.size)
	return name
}

func member(d disk) string {
	name, _ := probe.Member(d, d.size)
	return name
}

func TestHeads(t *testing.T) {
	for _, h := range heads() {
		t.Run(h.name, func(t *testing.T) {
			require.Equal(t, h.name, foreign(h.disk))
			if h.wins {
				require.Equal(t, h.name, member(h.disk))
			} else {
				require.Empty(t, member(h.disk))
			}
			short := h.disk
			short.size = 512
			_, _ = probe.Foreign(short, short.size) // whatever it is, it must not panic
		})
	}
	require.Empty(t, foreign(put(nil)))
	for _, size := range []int64{0, 1, 511, 512, 4096, 65536} {
		require.Empty(t, foreign(disk{size: size}))
	}
}

// What is nearly one of the heads is none.
func TestNearly(t *testing.T) {
	change := func(at int64, b []byte, i int) disk {
		b = bytes.Clone(b)
		b[i] ^= 0x40
		return put(map[int64][]byte{at: b})
	}
	for name, d := range map[string]disk{
		"LUKS of another version":    text(0, "LUKS\xba\xbe\x00\x03"),
		"LVM label in wrong sector":  put(map[int64][]byte{512: fields(le, 512, 0, "LABELONE", map[int]uint64{u64(8): 2, 24: 0x324d564c, 28: 0x31303020})}),
		"LVM label of another type":  put(map[int64][]byte{512: fields(le, 512, 0, "LABELONE", map[int]uint64{u64(8): 1})}),
		"md of another version":      text(4096, "\xfc\x4e\x2b\xa9\x02\x00\x00\x00"),
		"md 1.0 elsewhere":           put(map[int64][]byte{size - 4096: md1(0)}),
		"md 0.90 elsewhere":          put(map[int64][]byte{size - 32<<10: fields(le, 4096, 0, "\xfc\x4e\x2b\xa9", map[int]uint64{8: 90})}),
		"md 0.91 of 1":               put(map[int64][]byte{size - 64<<10: fields(le, 4096, 0, "\xfc\x4e\x2b\xa9", map[int]uint64{4: 1, 8: 90})}),
		"md 0.89":                    put(map[int64][]byte{size - 64<<10: fields(le, 4096, 0, "\xfc\x4e\x2b\xa9", map[int]uint64{8: 89})}),
		"IMSM elsewhere":             text(size-512, "Intel Raid ISM Cfg Sig. 1.3.00"),
		"ZFS at the end only":        put(zfsLabel(le, size-256<<10, 8)),
		"ZFS outside of the slots":   put(map[int64][]byte{128<<10 + 8: []byte("\x0c\xb1\xba\x00\x00\x00\x00\x00")}),
		"btrfs copy only":            text(64<<20+64, "_BHRfS_M"),
		"APFS without blocks":        put(map[int64][]byte{0: fields(le, 4096, 32, "NXSB", map[int]uint64{36: 4097})}),
		"NILFS2 with a wrong sum":    change(1024, nilfs(), 30),
		"NILFS2 without size":        change(1024, nilfs(), 9),
		"HFS+ without blocks":        put(map[int64][]byte{1024: fields(be, 512, 0, "H+\x00\x04", map[int]uint64{40: 4095})}),
		"HFS+ of another version":    put(map[int64][]byte{1024: fields(be, 512, 0, "H+\x00\x05", map[int]uint64{40: 4096})}),
		"HFS without blocks":         put(map[int64][]byte{1024: fields(be, 512, 0, "BD", map[int]uint64{u16(18): 4000, 20: 4097})}),
		"squashfs of version 9":      put(map[int64][]byte{0: fields(le, 96, 0, "hsqs", map[int]uint64{u16(28): 9})}),
		"JFS with other block sizes": put(map[int64][]byte{32 << 10: fields(le, 512, 0, "JFS1", map[int]uint64{16: 4096, u16(20): 11})}),
		"UFS with other fragments":   put(map[int64][]byte{64 << 10: fields(le, 1376, 0, "", map[int]uint64{48: 32768, 52: 4096, 56: 4, 1372: 0x19540119})}),
		"UFS elsewhere":              put(map[int64][]byte{32 << 10: ufs(le, 0x19540119)}),
		"UDF without version":        put(iso("\x00BEA01\x01", "\x00TEA01\x01")),
		"swap elsewhere":             text(4096-9, "SWAPSPACE2"),
		"Minix without maps":         put(map[int64][]byte{1024: fields(le, 32, 0, "", map[int]uint64{u16(0): 640, u16(2): 1910, u16(8): 24, u16(16): 0x137F})}),
		"Minix with small maps":      put(map[int64][]byte{1024: fields(le, 32, 0, "", map[int]uint64{u16(0): 8192, u16(2): 1910, u16(4): 1, u16(6): 1, u16(8): 300, u16(16): 0x137F})}),
		"Minix with many zones":      put(map[int64][]byte{1024: fields(le, 32, 0, "", map[int]uint64{u16(0): 640, u16(2): 9000, u16(4): 1, u16(6): 1, u16(8): 24, u16(16): 0x137F})}),
		"Minix, data too early":      put(map[int64][]byte{1024: fields(le, 32, 0, "", map[int]uint64{u16(0): 640, u16(2): 1910, u16(4): 1, u16(6): 1, u16(8): 23, u16(16): 0x137F})}),
		"disklabel without its end":  put(map[int64][]byte{512: []byte("\x57\x45\x56\x82")}),
		"boot code":                  partitions("\x77" + entry[1:]),
		"boot code, second entry":    partitions(entry, "\x00\x01\x01\x00\x00\x02\x03\x04\x00\x08\x00\x00\x00\x00\x01\x00"),
		"partition without length":   partitions(entry[:12] + "\x00\x00\x00\x00"),
		"no partitions":              partitions(),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, foreign(d)) })
	}
}

// Of what is at the start or the end of a disk, only some says that its partition table is not to be believed.
func TestDisk(t *testing.T) {
	found := map[string]int{}
	for _, h := range heads() {
		name, ok := probe.Disk(h.disk, h.disk.size)
		require.Equal(t, ok, name != "")
		if ok {
			require.Equal(t, h.name, name)
			found[name]++
		}
	}
	require.Equal(t, map[string]int{"LVM2 physical volume": 2, "Linux RAID member (metadata 1.2)": 1, "Intel RAID member (IMSM)": 1,
		"DDF RAID member": 1, "bcache device": 1}, found)
}

// What cannot be read cannot be ruled out.
func TestReadErrors(t *testing.T) {
	for _, at := range []int64{100, 4096, 64<<10 + 70, 128<<10 + 5, 384<<10 + 5, size - 8192 + 1, size - 64<<10 + 2, size - 512 + 1} {
		d := put(nil)
		d.fail = at
		require.Contains(t, member(d), "cannot be read at byte")
		require.Contains(t, foreign(d), "cannot be read at byte")
	}
	d := put(nil)
	d.fail = 8 << 20 // nothing is looked for here
	require.Empty(t, foreign(d))
	// What is known is told all the same.
	d = text(0, "LUKS\xba\xbe\x00\x01")
	d.fail = 64 << 10
	require.Equal(t, "LUKS1 encrypted volume", member(d))
}

// The heads above are what libblkid takes them for.
func TestHeadsByBlkid(t *testing.T) {
	known := 0
	for i, h := range heads() {
		if h.blkid == "" {
			continue
		}
		path := filepath.Join(t.TempDir(), "head")
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(h.disk.size))
		for at, b := range h.disk.pieces {
			_, err := f.WriteAt(b, at)
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
		out, code := tool.Exit(t, "blkid", "-p", "-o", "value", "-s", "TYPE", path)
		if code != 0 || strings.TrimSpace(out) != h.blkid {
			t.Errorf("head %d, %s, %q: blkid says %q and exits with %d", i, h.name, h.blkid, out, code)
		}
		known++
	}
	require.Greater(t, known, 30)
}

// What the real tools make.
func TestTools(t *testing.T) {
	for _, c := range []struct {
		name string
		mib  int64
		wins bool
		args []string
	}{
		{"btrfs", 128, true, []string{"mkfs.btrfs", "-q", "-f"}},
		{"f2fs", 64, true, []string{"mkfs.f2fs", "-q", "-f"}},
		{"LUKS1 encrypted volume", 16, true, []string{"cryptsetup", "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-file", "/proc/self/exe", "--keyfile-size", "32"}},
		{"LUKS2 encrypted volume", 32, true, []string{"cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "/proc/self/exe", "--keyfile-size", "32"}},
		{"Minix filesystem", 10, false, []string{"mkfs.minix", "-1"}},
		{"Minix filesystem", 10, false, []string{"mkfs.minix", "-1", "-n", "14"}},
		{"Minix filesystem", 10, false, []string{"mkfs.minix", "-2", "-n", "14"}},
		{"Minix filesystem", 10, false, []string{"mkfs.minix", "-2"}},
		{"Minix filesystem", 10, false, []string{"mkfs.minix", "-3"}},
		{"Linux swap", 10, false, []string{"mkswap", "-q"}},
		{"Linux swap", 10, false, []string{"mkswap", "-q", "-p", "65536"}},
		{"", 16, false, []string{"mke2fs", "-q", "-F", "-t", "ext4"}},
		{"", 2, false, []string{"mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024"}},
		{"", 40, false, []string{"mkfs.fat", "-F", "32"}},
		{"", 4, false, []string{"mkfs.fat", "-F", "12"}},
		{"", 10, false, []string{"mkntfs", "-Q", "-F", "-q"}},
		{"", 300, false, []string{"mkfs.xfs", "-q", "-f"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fs")
			f, err := os.Create(path)
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, f.Truncate(c.mib<<20))
			tool.Run(t, c.args[0], append(c.args[1:], path)...)
			name, found := probe.Foreign(f, c.mib<<20)
			require.Equal(t, c.name, name)
			require.Equal(t, c.name != "", found)
			name, found = probe.Member(f, c.mib<<20)
			require.Equal(t, c.wins, found, name)
		})
	}
}

// A filesystem that was there before the container, or is inside it, still has its superblock.
func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	require.NoError(t, os.Truncate(path, size))
	tool.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", path)
	ext4, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Empty(t, member(put(map[int64][]byte{0: ext4})))
	for _, h := range heads() {
		if !h.wins || h.disk.size != size {
			continue
		}
		before := map[int64][]byte{}
		for at, piece := range h.disk.pieces {
			before[at] = bytes.Clone(ext4[at:][:len(piece)])
			copy(ext4[at:], piece)
		}
		if le.Uint16(ext4[1024+56:]) == 0xEF53 { // otherwise it would be overwritten
			require.Equal(t, h.name, member(put(map[int64][]byte{0: ext4})))
		}
		for at, piece := range before {
			copy(ext4[at:], piece)
		}
	}
	require.Empty(t, member(put(map[int64][]byte{0: ext4})))
}

func FuzzForeign(f *testing.F) {
	for _, h := range heads() {
		var b []byte
		for at, piece := range h.disk.pieces {
			if at < 5<<10 {
				b = append(b, make([]byte, max(0, int(at)+len(piece)-len(b)))...)
				copy(b[at:], piece)
			}
		}
		f.Add(b, int64(len(b)))
	}
	f.Fuzz(func(t *testing.T, head []byte, n int64) {
		d := disk{size: n, pieces: map[int64][]byte{0: head, n - 64<<10: head, 32 << 10: head}}
		name, found := probe.Foreign(d, n)
		require.Equal(t, found, name != "")
		if name, found := probe.Member(d, n); found {
			again, _ := probe.Foreign(d, n)
			require.Equal(t, name, again)
		}
	})
}
