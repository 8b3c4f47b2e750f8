package personalise

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// probe says what filesystem a part of a disk holds, by the signature that the kernel looks for too, and its options.
func probe(path string, p extent) (kind, options string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	head := make([]byte, min(p.size, 68<<10))
	n, err := f.ReadAt(head, p.off)
	if err != nil && err != io.EOF {
		return "", "", err
	}
	name := signature(head[:n])
	for _, k := range kinds {
		if k.name == name {
			return k.name, k.options, nil
		}
	}
	return "", "", errUnknown
}

// signature tells filesystems by their magic numbers; ext2 and ext3 are mounted as ext4.
func signature(head []byte) string {
	has := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && bytes.Equal(head[at:at+len(magic)], []byte(magic))
	}
	switch {
	case len(head) >= 1024+58 && binary.LittleEndian.Uint16(head[1024+56:]) == 0xef53:
		return "ext4"
	case has(0, "XFSB"):
		return "xfs"
	case has(64<<10+64, "_BHRfS_M"):
		return "btrfs"
	}
	return ""
}
