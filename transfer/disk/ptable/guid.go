package ptable

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// GUID is a GUID as it lies on the disk: the first three groups little-endian.
type GUID [16]byte

// String is the usual form: 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
func (g GUID) String() string {
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", binary.LittleEndian.Uint32(g[:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// ParseGUID reads the usual form.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	groups := strings.Split(s, "-")
	var b []byte
	var err error
	if len(groups) == 5 && len(groups[0]) == 8 && len(groups[1]) == 4 && len(groups[2]) == 4 && len(groups[3]) == 4 {
		b, err = hex.DecodeString(strings.Join(groups, ""))
	}
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("%q is no GUID, such as 0FC63DAF-8483-4772-8E79-3D69D8477DE4", s)
	}
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5], b[6], b[7] = b[5], b[4], b[7], b[6]
	return GUID(b), nil
}

// Type is the type of a partition, for one kind of table or for both. A zero half is not known.
type Type struct {
	MBR  byte
	GUID GUID
}

// both are types that exist in MBR and in GPT, with the names that -D takes.
var both = []struct {
	name string
	mbr  byte
	guid string
}{
	{"linux", 0x83, "0FC63DAF-8483-4772-8E79-3D69D8477DE4"},
	{"swap", 0x82, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"},
	{"lvm", 0x8e, "E6D6D379-F507-44C2-A23C-238F2A3DF928"},
	{"raid", 0xfd, "A19D880F-05FC-4D3B-A006-743F0F84911E"},
	{"efi", 0xef, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"},
	{"ntfs", 0x07, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"fat32", 0x0c, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"fat16", 0x06, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"", 0x01, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"", 0x04, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"", 0x0b, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"", 0x0e, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{"", 0xa5, "516E7CB4-6ECF-11D6-8FF8-00022D09712B"}, // FreeBSD disklabel
}

// ParseType reads a type: a number ("131", "0x83"), a GUID, or one of linux, swap, lvm, raid, efi, ntfs, fat32, fat16. A
// number that has a counterpart in GPT stands for both.
func ParseType(s string) (Type, error) {
	if strings.Contains(s, "-") {
		g, err := ParseGUID(s)
		if err == nil && g == (GUID{}) {
			err = fmt.Errorf("type %s means an unused entry", s)
		}
		return Type{GUID: g}, err
	}
	number, err := strconv.ParseUint(s, 0, 8)
	if err == nil && (number == 0 || number == typeProtective || isExtended(byte(number))) {
		return Type{}, fmt.Errorf("type %s does not belong to a partition that holds data", s)
	}
	for _, b := range both {
		if err == nil && byte(number) == b.mbr || err != nil && s != "" && s == b.name {
			g, err := ParseGUID(b.guid)
			return Type{MBR: b.mbr, GUID: g}, err
		}
	}
	if err != nil {
		return Type{}, fmt.Errorf("type %q is neither a number such as 131 or 0x83, nor a GUID, nor one of linux, swap, lvm, raid, efi, ntfs, fat32, fat16", s)
	}
	return Type{MBR: byte(number)}, nil
}
