package wire

import (
	"encoding/binary"
	"math/bits"
)

// Bitmap is a set of block numbers of one chunk. Block b is bit b mod 8,
// counted from the least significant, of byte b / 8 (protocol §3, PREQUEST).
type Bitmap [BlocksPerChunk / 8]byte

// FullBitmap returns the set of all blocks of a chunk.
func FullBitmap() Bitmap {
	var m Bitmap
	for i := range m {
		m[i] = 0xff
	}
	return m
}

// RangeBitmap returns the set of count blocks starting with first; what lies
// outside a chunk is left out.
func RangeBitmap(first, count int) Bitmap {
	var m Bitmap
	for b := max(first, 0); b < BlocksPerChunk && b-first < count; b++ {
		m.Set(b)
	}
	return m
}

// Has says whether block b is in the set.
func (m *Bitmap) Has(b int) bool { return m[b>>3]&(1<<(b&7)) != 0 }

// Set puts block b into the set.
func (m *Bitmap) Set(b int) { m[b>>3] |= 1 << (b & 7) }

// Clear takes block b out of the set.
func (m *Bitmap) Clear(b int) { m[b>>3] &^= 1 << (b & 7) }

// Count is the number of blocks in the set.
func (m *Bitmap) Count() int {
	n := 0
	for i := 0; i < len(m); i += 8 {
		n += bits.OnesCount64(m.word(i))
	}
	return n
}

// Empty says whether the set holds no block.
func (m *Bitmap) Empty() bool {
	for i := 0; i < len(m); i += 8 {
		if m.word(i) != 0 {
			return false
		}
	}
	return true
}

// Or adds the blocks of o.
func (m *Bitmap) Or(o *Bitmap) {
	for i := range m {
		m[i] |= o[i]
	}
}

// AndNot takes the blocks of o out.
func (m *Bitmap) AndNot(o *Bitmap) {
	for i := range m {
		m[i] &^= o[i]
	}
}

// And keeps only the blocks that are also in o.
func (m *Bitmap) And(o *Bitmap) {
	for i := range m {
		m[i] &= o[i]
	}
}

// Covers says whether every block of o is in the set.
func (m *Bitmap) Covers(o *Bitmap) bool {
	for i := 0; i < len(m); i += 8 {
		if o.word(i)&^m.word(i) != 0 {
			return false
		}
	}
	return true
}

// Next returns the smallest block in the set that is not below from, or -1.
func (m *Bitmap) Next(from int) int {
	for b := max(from, 0); b < BlocksPerChunk; {
		w := m.word(b/64*8) >> (b & 63)
		if w != 0 {
			return b + bits.TrailingZeros64(w)
		}
		b = (b/64 + 1) * 64
	}
	return -1
}

// word reads the 64 blocks which start at byte i (a multiple of 8).
func (m *Bitmap) word(i int) uint64 { return binary.LittleEndian.Uint64(m[i:]) }
