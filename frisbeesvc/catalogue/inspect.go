package catalogue

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"loadnode/transfer/ndz"
)

// Detail is what the headers of an image tell.
type Detail struct {
	Entry
	Info       *ndz.Info
	Relocs     int      // relocation records of all chunks
	Filesystem []string // best effort
}

// Inspect looks into an image, after the same checks as Get.
func (c *Catalogue) Inspect(ctx context.Context, name string) (*Detail, error) {
	f, err := c.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := ndz.Inspect(f, f.Size())
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", name, err)
	}
	e, ok := c.describe(name)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	d := &Detail{Entry: e, Info: info, Filesystem: recognise(head(f, info))}
	buf := make([]byte, ndz.HeaderSize)
	for i := range info.Chunks {
		if _, err := f.ReadAt(buf, int64(i)*ndz.ChunkSize); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", name, err)
		}
		h, err := ndz.ParseHeader(buf)
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %w", name, err)
		}
		d.Relocs += len(h.Relocs)
	}
	return d, nil
}

// headSize is how much of the beginning of the unit is looked at: up to the
// super block of btrfs.
const headSize = 68 << 10

// head returns the beginning of the imaged unit. What the image does not hold
// is zero.
func head(f *File, info *ndz.Info) []byte {
	out := make([]byte, headSize)
	chunk := make([]byte, ndz.ChunkSize)
	for i, c := range info.Chunks {
		if c.First*ndz.SectorSize >= headSize {
			continue
		}
		if _, err := f.ReadAt(chunk, int64(i)*ndz.ChunkSize); err != nil {
			break
		}
		h, err := ndz.ParseHeader(chunk)
		if err != nil {
			break
		}
		s, err := ndz.NewStream(chunk, h)
		if err != nil {
			break
		}
		for _, r := range h.Regions {
			off := r.Start * ndz.SectorSize
			if off >= headSize {
				break
			}
			n := min(r.Size*ndz.SectorSize, headSize-off)
			if _, err := io.ReadFull(s, out[off:off+n]); err != nil || n < r.Size*ndz.SectorSize {
				break
			}
		}
		s.Close()
	}
	return out
}

// Names of partition types, as far as anybody meets them on a testbed.
var mbrTypes = map[byte]string{
	0x01: "fat12", 0x04: "fat16", 0x06: "fat16", 0x07: "ntfs", 0x0b: "fat32", 0x0c: "fat32", 0x0e: "fat16",
	0x05: "extended", 0x0f: "extended", 0x82: "linux-swap", 0x83: "linux", 0x8e: "lvm", 0xa5: "freebsd",
	0xa6: "openbsd", 0xa9: "netbsd", 0xef: "efi", 0xfd: "raid",
}

// recognise names what the beginning of a disk or partition shows. An empty
// result means nothing but that it was not recognised.
func recognise(b []byte) []string {
	at := func(off int, magic string) bool { return bytes.HasPrefix(b[off:], []byte(magic)) }
	switch {
	case at(512, "EFI PART"):
		return []string{"gpt"}
	case at(0, "XFSB"):
		return []string{"xfs"}
	case at(3, "NTFS    "):
		return []string{"ntfs"}
	case at(82, "FAT32"):
		return []string{"fat32"}
	case at(54, "FAT1"):
		return []string{"fat16"}
	case at(4086, "SWAPSPACE2"):
		return []string{"linux-swap"}
	case at(0x10040, "_BHRfS_M"):
		return []string{"btrfs"}
	case binary.LittleEndian.Uint16(b[1080:]) == 0xef53:
		const journal, extents = 0x4, 0x40
		switch {
		case binary.LittleEndian.Uint32(b[1024+0x60:])&extents != 0:
			return []string{"ext4"}
		case binary.LittleEndian.Uint32(b[1024+0x5c:])&journal != 0:
			return []string{"ext3"}
		}
		return []string{"ext2"}
	case at(510, "\x55\xaa"):
		out := []string{"mbr"}
		for p := range 4 {
			t := b[446+16*p+4]
			if t == 0 {
				continue
			}
			n, ok := mbrTypes[t]
			if !ok {
				n = fmt.Sprintf("type-%02x", t)
			}
			out = append(out, n)
		}
		return out
	}
	return nil
}
