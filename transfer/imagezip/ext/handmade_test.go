package ext

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/free"
)

// blocks is a filesystem of which each block is made when it is read.
type blocks struct {
	size uint64
	make func(n uint64, b []byte)
}

func (m blocks) ReadAt(p []byte, off int64) (int, error) {
	b := make([]byte, m.size)
	for n := 0; n < len(p); {
		at := uint64(off) + uint64(n)
		clear(b)
		m.make(at/m.size, b)
		n += copy(p[n:], b[at%m.size:])
	}
	return len(p), nil
}

// Beyond 2^32 blocks: the number of blocks, the places of bitmaps and inode tables, and counts of free blocks beyond
// 2^16 all have high words. No filesystem as large can be made for a test, so it is made of what the layout says: the
// last three groups have all of their metadata in the first of them, as flex_bg allows, a cluster each.
func TestHighWords(t *testing.T) {
	const (
		size     = 65536
		cluster  = 16
		group    = 8 * size * cluster
		groups   = 1<<32/group + 3
		total    = 1<<32 + 2*group + 1000
		descs    = size / 64
		meta     = uint64(1<<32) + 17*cluster // in the last group but two
		inTable  = 4                          // blocks of an inode table
		perGroup = inTable * size / 256
	)
	le := binary.LittleEndian
	bitmap := func(g uint64) uint64 { return meta + 10*cluster*(g-(groups-3)) }
	source := func(break_ func(sb []byte)) blocks {
		return blocks{size, func(n uint64, b []byte) {
			switch {
			case n == 0:
				sb := b[1024:]
				le.PutUint32(sb[0x00:], perGroup*groups)
				le.PutUint32(sb[0x04:], total&0xFFFFFFFF)
				le.PutUint32(sb[0x150:], total>>32)
				le.PutUint32(sb[0x18:], 6)
				le.PutUint32(sb[0x1C:], 10)
				le.PutUint32(sb[0x20:], group)
				le.PutUint32(sb[0x24:], group/cluster)
				le.PutUint32(sb[0x28:], perGroup)
				le.PutUint16(sb[0x38:], extMagic)
				le.PutUint16(sb[0x3A:], 1)
				le.PutUint32(sb[0x4C:], 1)
				le.PutUint16(sb[0x58:], 256)
				le.PutUint32(sb[0x60:], 0x2|0x40|incompat64bit|0x200)
				le.PutUint32(sb[0x64:], roSparseSuper|roBigalloc)
				le.PutUint16(sb[0xFE:], 64)
				break_(sb)
			case n >= 1 && n <= (groups+descs-1)/descs:
				for i := range uint64(descs) {
					g, d := (n-1)*descs+i, b[i*64:]
					at, in, left := uint64(100), uint64(101), uint64(0) // the others share a full bitmap
					if g >= groups-3 {
						at, in = bitmap(g), bitmap(g)+2
						left = map[uint64]uint64{groups - 3: group/cluster - 3, groups - 2: group / cluster, groups - 1: (1000 + cluster - 1) / cluster}[g]
					}
					if g == 0 {
						at, left = 102, 3
					}
					le.PutUint32(d, uint32(at))
					le.PutUint32(d[4:], uint32(at+1))
					le.PutUint32(d[8:], uint32(in))
					le.PutUint16(d[0xC:], uint16(left))
					le.PutUint32(d[0x20:], uint32(at>>32))
					le.PutUint32(d[0x24:], uint32((at+1)>>32))
					le.PutUint32(d[0x28:], uint32(in>>32))
					le.PutUint16(d[0x2C:], uint16(left>>16))
				}
			case n >= bitmap(groups-3) && n < bitmap(groups) && (n-meta)%(10*cluster) == 0:
				if n != meta {
					return // nothing in use
				}
				for g := uint64(groups - 3); g < groups; g++ {
					bit := (bitmap(g) - 1<<32) / cluster
					b[bit/8] |= 1 << (bit % 8)
				}
			case n == 100 || n == 102:
				for i := range b {
					b[i] = 0xFF
				}
				if n == 102 { // free are the places that the metadata beyond 2^32 has without its high words
					b[17/8] &^= 1 << (17 % 8)
					b[27/8] &^= 1 << (27 % 8)
					b[37/8] &^= 1 << (37 % 8)
				}
			}
		}}
	}
	r := source(func([]byte) {})
	fs, found, err := Probe(context.Background(), r, total*size, free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	require.Empty(t, fs.Notes)
	require.EqualValues(t, uint64(total)*size/512, fs.Sectors)
	want := &free.List{}
	for _, c := range []uint64{17, 27, 37} {
		want.Add(free.Span{Start: c * cluster * 128, End: (c + 1) * cluster * 128})
	}
	want.Add(free.Span{Start: (1 << 32) * 128, End: total * 128})
	var used []free.Span
	for g := uint64(groups - 3); g < groups; g++ {
		used = append(used, free.Span{Start: bitmap(g) * 128, End: (bitmap(g) + cluster) * 128})
	}
	want.Subtract(used)
	require.Equal(t, want.Spans(), fs.Free.Spans())

	// Without the feature the high words have no meaning.
	fs, _, err = Probe(context.Background(), source(func(sb []byte) { sb[0x60] &^= incompat64bit }), total*size, free.Options{})
	require.NoError(t, err)
	require.EqualValues(t, (2*group+1000)*128, fs.Sectors)
}

// The end of the filesystem cuts its last cluster: that cluster is free or used as a whole, and ends with the filesystem.
func TestLastClusterCut(t *testing.T) {
	for _, c := range []struct {
		name string
		used []uint64 // clusters of the group
		hide bool     // the bitmap does not show the inode table, which is the last block of its cluster
		want []free.Span
	}{
		{"free", []uint64{0, 1, 2, 5}, false, []free.Span{{Start: 24 * 8, End: 40 * 8}, {Start: 48 * 8, End: 85 * 8}}},
		{"used", []uint64{0, 1, 2, 5, 10}, false, []free.Span{{Start: 24 * 8, End: 40 * 8}, {Start: 48 * 8, End: 80 * 8}}},
		{"the one before it used", []uint64{0, 1, 2, 9}, false, []free.Span{{Start: 24 * 8, End: 72 * 8}, {Start: 80 * 8, End: 85 * 8}}},
		{"partly metadata", []uint64{0, 2, 5}, true, []free.Span{{Start: 8 * 8, End: 16 * 8}, {Start: 24 * 8, End: 40 * 8}, {Start: 48 * 8, End: 85 * 8}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const size, cluster, total = 4096, 8, 85
			le := binary.LittleEndian
			r := blocks{size, func(n uint64, b []byte) {
				switch n {
				case 0:
					sb := b[1024:]
					le.PutUint32(sb[0x04:], total)
					le.PutUint32(sb[0x18:], 2)
					le.PutUint32(sb[0x1C:], 5)
					le.PutUint32(sb[0x20:], size*8*cluster)
					le.PutUint32(sb[0x24:], size*8)
					le.PutUint32(sb[0x28:], 32)
					le.PutUint16(sb[0x38:], extMagic)
					le.PutUint16(sb[0x3A:], 1)
					le.PutUint32(sb[0x4C:], 1)
					le.PutUint16(sb[0x58:], 128)
					le.PutUint32(sb[0x60:], 0x2|0x40)
					le.PutUint32(sb[0x64:], roBigalloc|roSparseSuper)
				case 1:
					le.PutUint32(b, 2)
					le.PutUint32(b[4:], 3)
					le.PutUint32(b[8:], 23) // in the third cluster
					le.PutUint16(b[0xC:], uint16(11-len(c.used)))
				case 2:
					for _, i := range c.used {
						if c.hide && i == 2 {
							continue
						}
						b[i/8] |= 1 << (i % 8)
					}
				}
			}}
			fs, _, err := Probe(context.Background(), r, total*size+1000, free.Options{})
			require.NoError(t, err)
			require.Empty(t, fs.Notes)
			require.Equal(t, c.want, fs.Free.Spans())
			require.EqualValues(t, total*8, fs.Sectors)
		})
	}
}

// Which groups have a backup of the superblock.
func TestHasSuper(t *testing.T) {
	for _, c := range []struct {
		fs   filesystem
		want []uint64
	}{
		{filesystem{}, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27}},
		{filesystem{roCompat: roSparseSuper}, []uint64{0, 1, 3, 5, 7, 9, 25, 27}},
		{filesystem{roCompat: roSparseSuper, compat: compatSparseSuper2, backups: [2]uint64{1, 20}}, []uint64{0, 1, 20}},
		{filesystem{compat: compatSparseSuper2, backups: [2]uint64{2, 0}}, []uint64{0, 2}},
	} {
		var got []uint64
		for g := range uint64(28) {
			if c.fs.hasSuper(g) {
				got = append(got, g)
			}
		}
		require.Equal(t, c.want, got)
	}
	for _, g := range []uint64{49, 81, 125, 243, 343, 625, 3125, 117649} {
		require.True(t, (&filesystem{roCompat: roSparseSuper}).hasSuper(g))
	}
}

// What is kept at the start of groups: superblock, descriptors and room for them. Bitmaps usually say so as well; of
// groups whose bitmap was never written this is all that is known.
func TestHeadSpan(t *testing.T) {
	base := filesystem{blockSize: 1024, blocks: 1 << 20, superBlock: 1, firstData: 1, blocksPerGroup: 8192, descsPerBlock: 4, roCompat: roSparseSuper}
	plain, meta, mixed, big := base, base, base, base
	plain.firstMeta, plain.reservedGDT = 32, 100
	mixed.firstMeta, mixed.incompat = 2, incompatMetaBG
	meta.incompat = incompatMetaBG
	big.firstData, big.firstMeta, big.reservedGDT = 0, 32, 100
	for _, c := range []struct {
		name   string
		fs     filesystem
		group  uint64
		blocks uint64
	}{
		{"first", plain, 0, 133},
		{"with a backup", plain, 3, 133},
		{"without", plain, 2, 0},
		{"bigalloc with 1k: the superblock is the second block", big, 0, 134},
		{"bigalloc with 1k, with a backup", big, 1, 133},
		{"meta_bg, first of all", meta, 0, 2},
		{"meta_bg, second with a backup", meta, 1, 2},
		{"meta_bg, neither", meta, 2, 0},
		{"meta_bg, last of four, with a backup", meta, 3, 2},
		{"meta_bg, first of four", meta, 4, 1},
		{"meta_bg, last of four, with a backup further on", meta, 27, 2},
		{"meta_bg, third with no backup", meta, 6, 0},
		{"below the first meta group", mixed, 7, 3},
		{"below the first meta group, without", mixed, 6, 0},
		{"first meta group", mixed, 8, 1},
		{"second of the first meta group, with a backup", mixed, 9, 2},
		{"last of the first meta group", mixed, 11, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := c.fs.groupStart(c.group) * 2
			s := c.fs.headSpan(c.group)
			require.Equal(t, c.blocks*2, s.Sectors())
			require.True(t, s.Start == start || s.Sectors() == 0)
		})
	}
}
