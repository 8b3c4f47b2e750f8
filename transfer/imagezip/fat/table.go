package fat

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"loadnode/transfer/imagezip/free"
)

// chunkEntries is how many entries of each copy are read at once. It is even: two entries of FAT12 share a byte.
const chunkEntries = 8192

// maxSpans bounds the memory of the list. A filesystem in more pieces than that saves too much.
const maxSpans = 4 << 20

// table is what the copies of the file allocation table say.
type table struct {
	v    *volume
	r    io.ReaderAt
	used []uint64 // a bit for each cluster, from cluster 0 on

	listed   uint64 // clusters with an entry in any copy
	differ   uint64 // entries that are not the same in all copies
	outside  uint64 // entries that lead to clusters that do not exist
	unread   uint64 // entries that could not be read
	unclean  bool
	badEntry error
}

// read reads all copies. Clusters are in use if any of them says so.
func (t *table) read(ctx context.Context, o free.Options) error {
	v := t.v
	entries := v.clusters + 2
	t.used = make([]uint64, (entries+63)/64)
	copies := make([][]byte, v.fats)
	for i := range copies {
		copies[i] = make([]byte, chunkEntries*v.bits/8)
	}
	for first := uint64(0); first < entries; first += chunkEntries {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunkEntries, entries-first)
		size := (n*uint64(v.bits) + 7) / 8
		var failure error
		for i := range copies {
			copies[i] = copies[i][:size]
			at := (v.reserved+uint64(i)*v.fatSize)*v.sector + first*uint64(v.bits)/8
			if got, err := t.r.ReadAt(copies[i], int64(at)); got < len(copies[i]) && failure == nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				failure = fmt.Errorf("read copy %d of the FAT at byte %d: %w", i+1, at, err)
			}
		}
		switch {
		case failure == nil:
			t.chunk(copies, first, n)
		case !o.SkipBad || first == 0: // the first entries say what state it is in
			return failure
		default:
			for i := first; i < first+n; i++ {
				t.mark(i)
			}
			t.listed += n
			t.unread += n
		}
		if t.badEntry != nil {
			return t.badEntry
		}
	}
	return nil
}

// chunk takes n entries of each copy.
func (t *table) chunk(copies [][]byte, first, n uint64) {
	if first == 0 {
		t.head(copies)
	}
	equal := true
	for _, c := range copies[1:] {
		equal = equal && bytes.Equal(c, copies[0])
	}
	if equal {
		copies = copies[:1]
	}
	for i := range n {
		if first+i < 2 {
			t.mark(first + i) // no clusters
			continue
		}
		inUse, differs, value := false, false, t.v.entry(copies[0], i)
		for _, c := range copies {
			e := t.v.entry(c, i)
			differs = differs || e != value
			inUse = inUse || e != 0
			t.follow(e)
		}
		if differs {
			t.differ++
		}
		if inUse {
			t.listed++
			t.mark(first + i)
		}
	}
}

// head looks at the first two entries, which belong to no cluster: the first repeats the kind of medium, the second
// says whether the filesystem was unmounted, and whether there were errors.
func (t *table) head(copies [][]byte) {
	v := t.v
	for i, c := range copies {
		if v.active >= 0 && i != v.active {
			continue
		}
		if e, ones := v.entry(c, 0), uint32(1)<<min(v.bits, 28)-0x100; e&ones != ones || !isMedia(byte(e)) {
			t.badEntry = fmt.Errorf("%w: FAT%d: copy %d of the FAT starts with %#x: run fsck.fat", free.ErrFilesystem, v.bits, i+1, e)
			return
		}
		const ended = 3 // clean, and without errors
		if v.bits > 12 && v.entry(c, 1)>>(min(v.bits, 28)-2) != ended {
			t.unclean = true
		}
	}
}

// follow marks the cluster that an entry leads to.
func (t *table) follow(e uint32) {
	bad := uint32(1)<<min(t.v.bits, 28) - 9
	switch {
	case e < 2 || e >= bad: // free, reserved, bad, the last of a file
	case uint64(e) < t.v.clusters+2:
		t.mark(uint64(e))
	default:
		t.outside++
	}
}

func (t *table) mark(cluster uint64) { t.used[cluster/64] |= 1 << (cluster % 64) }

// entry is number i of a piece of the FAT. In FAT32 the upper four bits are not part of it.
func (v *volume) entry(b []byte, i uint64) uint32 {
	switch v.bits {
	case 12:
		pair := uint32(b[i*3/2]) | uint32(b[i*3/2+1])<<8
		if i%2 == 1 {
			return pair >> 4
		}
		return pair & 0xFFF
	case 16:
		return uint32(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return binary.LittleEndian.Uint32(b[4*i:]) & 0x0FFFFFFF
}

// free lists the clusters that are not used, and counts them all; spans beyond maxSpans are left out.
func (t *table) free() (list *free.List, clusters uint64) {
	list = &free.List{}
	v := t.v
	end := v.clusters + 2
	for i := uint64(2); i < end; {
		if w := t.used[i/64] >> (i % 64); w&1 == 1 {
			i += uint64(bits.TrailingZeros64(^w)) // at most to the end of the word: zeros are shifted in
			continue
		}
		start := i
		for i < end {
			if w := t.used[i/64] >> (i % 64); w != 0 {
				i += uint64(bits.TrailingZeros64(w))
				break
			}
			i = (i/64 + 1) * 64
		}
		i = min(i, end)
		clusters += i - start
		if len(list.Spans()) < maxSpans {
			list.Add(free.Span{Start: v.sectorOf(start), End: v.sectorOf(i)})
		}
	}
	return list, clusters
}

// sectorOf is where a cluster starts, in sectors of 512 bytes.
func (v *volume) sectorOf(cluster uint64) uint64 {
	return (v.data + (cluster-2)*v.cluster) * (v.sector / free.SectorSize)
}
