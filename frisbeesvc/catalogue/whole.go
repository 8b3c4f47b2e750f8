package catalogue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// ErrTruncated says that an image ends too early, or may do so.
var ErrTruncated = errors.New("the image seems to be cut off between two chunks")

const (
	// fullPayload is the least payload of a chunk that was closed because it
	// was full: the writers of the format go on until less than 8 KiB are left
	// (specs/ndz-format.md §3), ours until 4 KiB are.
	fullPayload = ndz.ChunkSize - ndz.HeaderSize - 16<<10
	// fullTable is the least number of regions and relocations of a chunk that
	// was closed because its table was full.
	fullTable = (ndz.HeaderSize-64)/8 - 16
	// totalOffset is where a V1 header has the number of chunks (§2).
	totalOffset = 12
)

// Truncated says whether the chunks of an image, all of them good, are all
// that there were. The format has no end mark, and a program that dies between
// two chunks leaves an image that is well-formed; so this judges by what the
// image shows, in this order:
//
//   - V1 counts its chunks in every header.
//   - Writers close a chunk when it is full, or at the end. A last chunk that
//     is not full was closed at the end: whole. About one image in a hundred
//     has a full last chunk; for those the disk in it is asked.
//   - The image reaches the end of the last partition, or of the filesystem
//     without partitions: whole.
//   - It does not, as with images of the OMF era, which do not describe the free
//     space behind the last used block (§4): whole if the last partition is an ext
//     filesystem that has no used block beyond.
//
// Everything else is ErrTruncated: a partition is missing, used blocks are, or
// nothing tells. What cannot be recognised is an image whose writer ended early
// without filling its last chunk, and yet closed it properly; none is known to
// do that.
func Truncated(ctx context.Context, r io.ReaderAt, m *ndz.Manifest) error {
	last := len(m.Chunks) - 1
	head := make([]byte, ndz.HeaderSize)
	if n, err := r.ReadAt(head, int64(last)*ndz.ChunkSize); n < len(head) {
		return fmt.Errorf("read chunk %d: %w", last, err)
	}
	h, err := ndz.ParseHeader(head)
	if err != nil {
		return ndz.Corrupt(last, err)
	}
	if total := binary.LittleEndian.Uint32(head[totalOffset:]); h.Version == 1 && total != 0 {
		if int64(total) != int64(len(m.Chunks)) {
			return fmt.Errorf("%w: its headers say that it has %d chunks, %d have come", ErrTruncated, total, len(m.Chunks))
		}
		return nil
	}
	if h.PayloadSize < fullPayload && len(h.Regions)+len(h.Relocs) < fullTable {
		return nil
	}
	return missing(ctx, &unit{r: r, m: m}, m.Sectors)
}

// missing says what of a disk lies behind the sectors that an image describes.
func missing(ctx context.Context, u *unit, sectors uint64) error {
	// Partitions may lie beyond what is described: that is the question.
	table, err := ptable.Read(u, int64(ndz.MaxSector)*ndz.SectorSize)
	part := ptable.Partition{Sectors: ndz.MaxSector}
	switch {
	case errors.Is(err, ptable.ErrNone):
	case err != nil:
		return fmt.Errorf("%w: its last chunk is full, and its partition table does not tell where the disk ends: %w", ErrTruncated, err)
	default:
		part = ptable.Partition{}
		for _, p := range table.Partitions {
			if p.Start >= sectors {
				return fmt.Errorf("%w: partition %d begins at sector %d, the image ends at %d", ErrTruncated, p.Number, p.Start, sectors)
			}
			if !p.Extended() && p.Start+p.Sectors > part.Start+part.Sectors {
				part = p
			}
		}
		if part.Start+part.Sectors <= sectors {
			return nil
		}
	}
	fs, found, err := ext.Probe(ctx, section{u, part.Start}, int64(part.Sectors)*ndz.SectorSize, free.Options{SkipBad: true})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: its last chunk is full, and the filesystem at sector %d does not tell where it ends: %w", ErrTruncated, part.Start, err)
	case !found:
		return fmt.Errorf("%w: its last chunk is full, and nothing in it says that the disk ends at sector %d", ErrTruncated, sectors)
	}
	end := uint64(0)
	for _, used := range fs.Free.Used(fs.Sectors) {
		end = used.End
	}
	if part.Start+end > sectors {
		return fmt.Errorf("%w: the filesystem at sector %d is in use up to sector %d, the image ends at %d", ErrTruncated, part.Start, part.Start+end, sectors)
	}
	return nil
}

// unit reads what an image holds of its unit. What it does not hold is zero.
type unit struct {
	r      io.ReaderAt
	m      *ndz.Manifest
	order  []int // chunks by their first sector
	header ndz.Header
	data   []byte // of the chunk that was read last
	have   int    // that chunk plus one
}

// maxInflated is how much data of a chunk is looked at, in bytes: a chunk of
// zeros can hold a thousand times its size. What is beyond is taken for zeros,
// which makes a filesystem look used rather than free.
const maxInflated = 16 << 20

// ReadAt implements io.ReaderAt.
func (u *unit) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if u.order == nil {
		u.order = make([]int, len(u.m.Chunks))
		for i := range u.order {
			u.order[i] = i
		}
		sort.Slice(u.order, func(a, b int) bool { return u.m.Chunks[u.order[a]].First < u.m.Chunks[u.order[b]].First })
	}
	first, last := uint64(off)/ndz.SectorSize, (uint64(off)+uint64(len(p))+ndz.SectorSize-1)/ndz.SectorSize
	at := sort.Search(len(u.order), func(k int) bool { return u.m.Chunks[u.order[k]].Last > first })
	for ; at < len(u.order) && u.m.Chunks[u.order[at]].First < last; at++ {
		if err := u.copy(p, off, u.order[at]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// copy copies what a chunk has of the bytes from off on.
func (u *unit) copy(p []byte, off int64, index int) error {
	if u.have != index+1 {
		chunk := make([]byte, ndz.ChunkSize)
		if n, err := u.r.ReadAt(chunk, int64(index)*ndz.ChunkSize); n < len(chunk) {
			return fmt.Errorf("read chunk %d: %w", index, err)
		}
		if err := u.header.Parse(chunk); err != nil {
			return ndz.Corrupt(index, err)
		}
		s, err := ndz.NewStream(chunk, u.header)
		if err != nil {
			return ndz.Corrupt(index, err)
		}
		defer s.Close()
		u.data, u.have = make([]byte, min(u.header.DataSize(), maxInflated)), index+1
		if _, err := io.ReadFull(s, u.data); err != nil {
			return ndz.Corrupt(index, err)
		}
	}
	data := u.data
	for _, r := range u.header.Regions {
		from, n := int64(r.Start)*ndz.SectorSize, int64(r.Size)*ndz.SectorSize
		have := data[:min(n, int64(len(data)))]
		data = data[len(have):]
		if from >= off+int64(len(p)) {
			break
		}
		lo, hi := max(from, off), min(from+int64(len(have)), off+int64(len(p)))
		if lo < hi {
			copy(p[lo-off:hi-off], have[lo-from:hi-from])
		}
	}
	return nil
}

// section is what lies from a sector of a unit on.
type section struct {
	u     *unit
	start uint64
}

// ReadAt implements io.ReaderAt.
func (s section) ReadAt(p []byte, off int64) (int, error) {
	return s.u.ReadAt(p, int64(s.start)*ndz.SectorSize+off)
}
