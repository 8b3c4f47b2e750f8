package ndz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Sizes of the format (§1), in bytes unless they say otherwise.
const (
	SectorSize  = 512                    // unit of all disk addresses in an image
	ChunkSize   = 1 << 20                // every chunk has exactly this size
	HeaderSize  = 4096                   // header area at the start of a chunk
	MaxPayload  = ChunkSize - HeaderSize // room for the zlib stream
	MaxSector   = uint64(1)<<32 - 1      // highest sector number a header can hold
	MaxChunks   = 1 << 22                // most chunks of an image that this package reads (4 TiB of file)
	magicBase   = uint32(0x69696969)     // V1; V2 is one more, and so on
	regionBytes = 8                      // one region record
	relocBytes  = 16                     // one relocation record
	csumNone    = 0                      // V4 csum_type: no checksum
	csumSHA1    = 1                      // V4 csum_type: SHA-1 over header area and payload
	csumSigned  = 0x8000                 // V4 csum_type: bit for an RSA signature over the digest
	csumOffset  = 72                     // V4: where the checksum lies
	csumBytes   = 256                    // V4: room of the checksum
	uuidOffset  = 328                    // V4: where the 16 bytes of the image's UUID lie
	totalOffset = 12                     // V1: where the number of chunks lies
	relocNone   = 0                      // §5: ignore
	relocShort  = 6                      // §5: only some bytes of a sector are valid
)

// headerBytes is the length of the header struct by version (§2).
var headerBytes = [5]int{1: 24, 2: 36, 3: 36, 4: 344}

// ErrFormat is wrapped by every error that says a chunk is not a valid .ndz chunk.
var ErrFormat = errors.New("not a valid ndz chunk")

// ErrUnsupported is wrapped by every error that says a chunk is valid, but uses a part of the format which this
// package does not read.
var ErrUnsupported = errors.New("unsupported ndz feature")

// Region is a run of sectors whose content a chunk carries (§2). Both numbers are in sectors, Start counted from the
// start of the imaged unit.
type Region struct {
	Start, Size uint64
}

// End is the first sector past the region.
func (r Region) End() uint64 { return r.Start + r.Size }

// Reloc is a relocation record (§5): Sector in sectors, Offset and Size in bytes.
type Reloc struct {
	Type, Sector, Offset, Size uint32
}

// Header is the decoded header of one chunk (§2).
type Header struct {
	Version     int      // 1 to 4
	Index       int      // chunk number as the writer saw it; informational, never trusted for positions
	PayloadSize int      // bytes of the zlib stream after the header area
	First, Last uint64   // sectors described: [First, Last). For V1 the ends of the first and last region
	Described   bool     // false for V1, whose header does not say what is free around its regions
	Regions     []Region // ascending, apart, at least one
	Relocs      []Reloc  // types 0 and 6 only
	UUID        [16]byte // V4: the same in all chunks of an image
	Cipher      uint16   // V4: always 0, others are refused
	Checksum    uint16   // V4: 0 none, 1 SHA-1 (checked when the chunk is inflated)
}

// DataSize is the number of bytes the chunk inflates to.
func (h Header) DataSize() int64 {
	var n uint64
	for _, r := range h.Regions {
		n += r.Size
	}
	return int64(n) * SectorSize
}

// ShortTail returns how many bytes of the sector before Last are not part of the image: 0 for nearly all chunks, and
// 1 to 511 when a relocation of type 6 says that the last sector holds fewer valid bytes (§5).
func (h Header) ShortTail() int {
	for _, r := range h.Relocs {
		if r.Type == relocShort {
			return SectorSize - int(r.Size)
		}
	}
	return 0
}

// ParseHeader decodes and checks the header of a chunk. It needs at least the first [HeaderSize] bytes and never looks
// beyond them. The error wraps [ErrFormat] or [ErrUnsupported] and names the field that is wrong.
func ParseHeader(chunk []byte) (Header, error) {
	var h Header
	err := h.Parse(chunk)
	return h, err
}

// Parse is [ParseHeader] into an existing header, whose slices it uses again. After an error the header must not be
// used for anything but another Parse.
func (h *Header) Parse(chunk []byte) error {
	*h = Header{Regions: h.Regions[:0], Relocs: h.Relocs[:0]}
	if len(chunk) < HeaderSize {
		return fmt.Errorf("%w: %d bytes, a header has %d", ErrFormat, len(chunk), HeaderSize)
	}
	le := binary.LittleEndian
	version, err := magicVersion(chunk)
	if err != nil {
		return err
	}
	h.Version = version
	h.Described = version >= 2

	size := le.Uint32(chunk[4:])
	if size == 0 || size > MaxPayload {
		return fmt.Errorf("%w: payload size %d, must be 1 to %d", ErrFormat, size, MaxPayload)
	}
	h.PayloadSize = int(size)
	h.Index = int(int32(le.Uint32(chunk[8:])))
	if area := le.Uint32(chunk[16:]); area != HeaderSize {
		return fmt.Errorf("%w: header area of %d bytes, must be %d", ErrFormat, area, HeaderSize)
	}
	regions, relocs := le.Uint32(chunk[20:]), uint32(0)
	if h.Described {
		relocs = le.Uint32(chunk[32:])
	}
	if regions == 0 {
		return fmt.Errorf("%w: no regions", ErrFormat)
	}
	need := uint64(headerBytes[version]) + regionBytes*uint64(regions) + relocBytes*uint64(relocs)
	if need > HeaderSize {
		return fmt.Errorf("%w: %d regions and %d relocations do not fit the header area", ErrFormat, regions, relocs)
	}
	if version == 4 {
		if err := h.parseV4(chunk); err != nil {
			return err
		}
	}
	if err := h.parseRegions(chunk[headerBytes[version]:], int(regions)); err != nil {
		return err
	}
	h.First, h.Last = h.Regions[0].Start, h.Regions[regions-1].End()
	if h.Described {
		first, last := uint64(le.Uint32(chunk[24:])), uint64(le.Uint32(chunk[28:]))
		if first > h.First {
			return fmt.Errorf("%w: first sector %d lies behind region 0 at %d", ErrFormat, first, h.First)
		}
		if last < h.Last {
			return fmt.Errorf("%w: last sector %d lies before the end of the last region at %d", ErrFormat, last, h.Last)
		}
		h.First, h.Last = first, last
	}
	at := headerBytes[version] + regionBytes*int(regions)
	return h.parseRelocs(chunk[at:], int(relocs))
}

func magicVersion(chunk []byte) (int, error) {
	magic := binary.LittleEndian.Uint32(chunk)
	if magic >= magicBase && magic < magicBase+4 {
		return int(magic-magicBase) + 1, nil
	}
	if swapped := binary.BigEndian.Uint32(chunk); swapped >= magicBase && swapped < magicBase+4 {
		return 0, fmt.Errorf("%w: image of a big-endian machine (magic %#08x)", ErrUnsupported, magic)
	}
	return 0, fmt.Errorf("%w: magic %#08x, want %#08x to %#08x", ErrFormat, magic, magicBase, magicBase+3)
}

func (h *Header) parseV4(chunk []byte) error {
	h.Cipher = binary.LittleEndian.Uint16(chunk[36:])
	h.Checksum = binary.LittleEndian.Uint16(chunk[38:])
	copy(h.UUID[:], chunk[uuidOffset:])
	if h.Cipher != 0 {
		return fmt.Errorf("%w: encrypted image (cipher %d): decrypt it with the original tools first", ErrUnsupported, h.Cipher)
	}
	if h.Checksum&csumSigned != 0 {
		return fmt.Errorf("%w: signed image (checksum type %#x): the manifest of the image service replaces signatures", ErrUnsupported, h.Checksum)
	}
	if h.Checksum != csumNone && h.Checksum != csumSHA1 {
		return fmt.Errorf("%w: checksum type %#x", ErrUnsupported, h.Checksum)
	}
	return nil
}

func (h *Header) parseRegions(b []byte, n int) error {
	h.Regions = slices.Grow(h.Regions[:0], n)[:n]
	var end uint64
	for i := range h.Regions {
		r := Region{
			Start: uint64(binary.LittleEndian.Uint32(b[regionBytes*i:])),
			Size:  uint64(binary.LittleEndian.Uint32(b[regionBytes*i+4:])),
		}
		switch {
		case r.Size == 0:
			return fmt.Errorf("%w: region %d is empty", ErrFormat, i)
		case r.End() > MaxSector:
			return fmt.Errorf("%w: region %d ends at sector %d, beyond 32 bits", ErrFormat, i, r.End())
		case i > 0 && r.Start <= end:
			return fmt.Errorf("%w: region %d starts at sector %d, region %d ends at %d", ErrFormat, i, r.Start, i-1, end)
		}
		h.Regions[i], end = r, r.End()
	}
	return nil
}

// parseRelocs accepts types 0 and 6. Others patch what is written, so an image that has them and is written without
// is a wrong disk: refused, also those the format does not define.
func (h *Header) parseRelocs(b []byte, n int) error {
	if n == 0 {
		return nil
	}
	h.Relocs = slices.Grow(h.Relocs[:0], n)[:n]
	short := false
	for i := range h.Relocs {
		f := b[relocBytes*i:]
		r := Reloc{
			Type:   binary.LittleEndian.Uint32(f),
			Sector: binary.LittleEndian.Uint32(f[4:]),
			Offset: binary.LittleEndian.Uint32(f[8:]),
			Size:   binary.LittleEndian.Uint32(f[12:]),
		}
		h.Relocs[i] = r
		switch r.Type {
		case relocNone:
		case relocShort:
			if short || r.Offset != 0 || r.Size == 0 || r.Size >= SectorSize || uint64(r.Sector)+1 != h.Last ||
				h.Regions[len(h.Regions)-1].End() != h.Last {
				return fmt.Errorf("%w: relocation %d: short sector %d with %d bytes at offset %d, must be the last of the chunk and the only one",
					ErrFormat, i, r.Sector, r.Size, r.Offset)
			}
			short = true
		case 1, 2:
			return fmt.Errorf("%w: relocation %d has type %d (BSD disklabel): install this slice image with the original tools", ErrUnsupported, i, r.Type)
		case 3, 4, 5:
			return fmt.Errorf("%w: relocation %d has type %d (LILO): install this slice image with the original tools", ErrUnsupported, i, r.Type)
		default:
			return fmt.Errorf("%w: relocation %d has unknown type %d", ErrUnsupported, i, r.Type)
		}
	}
	return nil
}

// encode writes the header, as its Version says, into the first HeaderSize bytes of chunk, which must be zero (§2).
func (h *Header) encode(chunk []byte) {
	le := binary.LittleEndian
	le.PutUint32(chunk, magicBase+uint32(h.Version-1))
	le.PutUint32(chunk[4:], uint32(h.PayloadSize))
	le.PutUint32(chunk[8:], uint32(h.Index))
	le.PutUint32(chunk[16:], HeaderSize)
	le.PutUint32(chunk[20:], uint32(len(h.Regions)))
	if h.Version > 1 {
		le.PutUint32(chunk[24:], uint32(h.First))
		le.PutUint32(chunk[28:], uint32(h.Last))
		le.PutUint32(chunk[32:], uint32(len(h.Relocs)))
	}
	if h.Version == 4 {
		copy(chunk[uuidOffset:], h.UUID[:])
	}
	at := chunk[headerBytes[h.Version]:]
	for _, r := range h.Regions {
		le.PutUint32(at, uint32(r.Start))
		le.PutUint32(at[4:], uint32(r.Size))
		at = at[regionBytes:]
	}
	for _, r := range h.Relocs {
		le.PutUint32(at, r.Type)
		le.PutUint32(at[4:], r.Sector)
		le.PutUint32(at[8:], r.Offset)
		le.PutUint32(at[12:], r.Size)
		at = at[relocBytes:]
	}
}
