package imagezip

import (
	"bufio"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"loadnode/transfer/ndz"
)

// Signature says what an image holds without its data (§9): the hashes of its runs of sectors. Those of the original
// tools, and ours, have SHA-1.
type Signature struct {
	MD5    bool // the hashes are MD5, in the first 16 bytes
	Ranges []Range
}

// Range is a hashed run of sectors of the unit.
type Range struct {
	Start, Sectors uint64
	Chunk          uint32 // that has its first sector; bit 31: the next chunk has its end
	Hash           [sha1.Size]byte
}

const (
	signatureMagic = ".ndzsig\x00"
	signatureV1    = 0x20031107
	signatureV2    = 0x20140618
	hashMD5        = 1
	hashSHA1       = 2
	hashSectors    = 128 // of each range, the last of a run of sectors has less
	spansChunks    = 1 << 31
)

// ErrSignature says that a file is no signature.
var ErrSignature = errors.New("not a valid signature file")

// ReadSignature reads a signature file. Memory is what the file really has, whatever it claims.
func ReadSignature(r io.Reader) (*Signature, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var head [32]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrSignature, err)
	}
	le := binary.LittleEndian
	if string(head[:8]) != signatureMagic {
		return nil, fmt.Errorf("%w: it begins with %q", ErrSignature, head[:8])
	}
	if v := le.Uint32(head[8:]); v != signatureV1 && v != signatureV2 {
		return nil, fmt.Errorf("%w: version %#x, want %#x or %#x", ErrSignature, v, signatureV1, signatureV2)
	}
	s := &Signature{}
	switch kind := le.Uint32(head[12:]); kind {
	case hashMD5:
		s.MD5 = true
	case hashSHA1:
	default:
		return nil, fmt.Errorf("%w: hash type %d, want 1 (MD5) or 2 (SHA-1)", ErrSignature, kind)
	}
	end := uint64(0)
	for i := range le.Uint32(head[16:]) {
		var b2 [32]byte
		if _, err := io.ReadFull(b, b2[:]); err != nil {
			return nil, fmt.Errorf("%w: record %d of %d: %w", ErrSignature, i, le.Uint32(head[16:]), err)
		}
		g := Range{Start: uint64(le.Uint32(b2[:])), Sectors: uint64(le.Uint32(b2[4:])), Chunk: le.Uint32(b2[8:]), Hash: [20]byte(b2[12:])}
		if g.Sectors == 0 || g.Start < end {
			return nil, fmt.Errorf("%w: record %d has %d sectors from %d, the one before ends at %d", ErrSignature, i, g.Sectors, g.Start, end)
		}
		end = g.Start + g.Sectors
		s.Ranges = append(s.Ranges, g)
	}
	return s, nil
}

// WriteTo writes the signature as a file (§9, V2).
func (s *Signature) WriteTo(w io.Writer) (int64, error) {
	le := binary.LittleEndian
	kind := uint32(hashSHA1)
	if s.MD5 {
		kind = hashMD5
	}
	b := bufio.NewWriterSize(w, 64<<10)
	head := le.AppendUint32([]byte(signatureMagic), signatureV2)
	head = le.AppendUint32(head, kind)
	head = le.AppendUint32(head, uint32(len(s.Ranges)))
	head = le.AppendUint32(head, hashSectors)
	head = append(head, make([]byte, 8)...)
	n, _ := b.Write(head) // Flush reports the error
	written := int64(n)
	for _, g := range s.Ranges {
		rec := le.AppendUint32(nil, uint32(g.Start))
		rec = le.AppendUint32(rec, uint32(g.Sectors))
		rec = append(le.AppendUint32(rec, g.Chunk), g.Hash[:]...)
		n, _ := b.Write(rec)
		written += int64(n)
	}
	return written, b.Flush()
}

// signer makes the ranges of a signature from sectors in their order.
type signer struct {
	ranges []Range
	start  uint64
	buf    []byte // less than a whole range
}

func (s *signer) add(at uint64, p []byte) {
	if at != s.start+uint64(len(s.buf)/ndz.SectorSize) {
		s.flush()
		s.start = at
	}
	for len(p) > 0 {
		n := min(len(p), hashSectors*ndz.SectorSize-len(s.buf))
		s.buf, p = append(s.buf, p[:n]...), p[n:]
		if len(s.buf) == hashSectors*ndz.SectorSize {
			s.flush()
		}
	}
}

func (s *signer) flush() {
	if len(s.buf) == 0 {
		return
	}
	n := uint64(len(s.buf) / ndz.SectorSize)
	s.ranges = append(s.ranges, Range{Start: s.start, Sectors: n, Hash: sha1.Sum(s.buf)})
	s.start, s.buf = s.start+n, s.buf[:0]
}

// signature enters the chunks, of which the sectors are known that they end at.
func (s *signer) signature(ends []uint64) *Signature {
	s.flush()
	for i := range s.ranges {
		g := &s.ranges[i]
		k := sort.Search(len(ends), func(k int) bool { return ends[k] > g.Start })
		g.Chunk = uint32(k)
		if k < len(ends) && g.Start+g.Sectors > ends[k] {
			g.Chunk |= spansChunks
		}
	}
	return &Signature{Ranges: s.ranges}
}
