package ext_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
)

// image makes an empty filesystem and reads it into memory.
func image(t testing.TB, kb int64, args string) []byte {
	t.Helper()
	b, err := os.ReadFile(mke2fs(t, kb, "", strings.Fields(args)...))
	require.NoError(t, err)
	return b
}

func probe(b []byte, o free.Options) (*free.Filesystem, bool, error) {
	return ext.Probe(context.Background(), bytes.NewReader(b), int64(len(b)), o)
}

// sign gives a changed superblock its checksum.
func sign(b []byte) []byte {
	sb := b[1024:2048]
	if binary.LittleEndian.Uint32(sb[0x64:])&0x400 != 0 {
		binary.LittleEndian.PutUint32(sb[0x3FC:], ^crc32.Checksum(sb[:0x3FC], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// A group with a fault is saved whole, and nothing else changes.
func TestUntrustedGroups(t *testing.T) {
	const group, groups = 1024, 16 // blocks
	descAt := func(g int) int { return 2048 + 64*g }
	for _, c := range []struct {
		name   string
		args   string
		change func(b []byte)
		group  int // the one with the fault
	}{
		{"count of free blocks", "-O ^metadata_csum,^uninit_bg", func(b []byte) { b[descAt(5)+0xC]++ }, 5},
		{"high count of free blocks", "-O ^metadata_csum,^uninit_bg", func(b []byte) { b[descAt(5)+0x2C]++ }, 5},
		{"bit of the bitmap", "-O ^metadata_csum,^uninit_bg", func(b []byte) { b[bitmapAt(b, 12)+50] ^= 4 }, 12},
		{"two bits of the bitmap", "", func(b []byte) { // of which one is set, so that the count is right
			at := 8 * bitmapAt(b, 0)
			for b[at/8]>>(at%8)&1 == 1 {
				at++
			}
			b[at/8] |= 1 << (at % 8)
			at-- // the last block of lost+found
			b[at/8] &^= 1 << (at % 8)
		}, 0},
		{"checksum of a descriptor", "", func(b []byte) { b[descAt(7)+0x1E]++ }, 7},
		{"crc16 of a descriptor", "-O ^metadata_csum,uninit_bg", func(b []byte) { b[descAt(7)+0x1F]++ }, 7},
		{"flags of a descriptor", "", func(b []byte) { b[descAt(9)+0x12] ^= 2 }, 9},
		{"flags under a crc16", "-O ^metadata_csum,uninit_bg", func(b []byte) { b[descAt(9)+0x12] ^= 2 }, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := image(t, group*groups, "-t ext4 -b 1024 -g 1024 -N 256 -J size=1 "+c.args)
			whole, found, err := probe(b, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			require.Empty(t, whole.Notes)
			c.change(b)
			got, _, err := probe(b, free.Options{})
			require.NoError(t, err)
			require.Equal(t, []string{"1 block groups contradict themselves about free space and were saved whole; run e2fsck"}, got.Notes)
			bad := free.Span{Start: uint64(1+c.group*group) * 2, End: uint64(1+(c.group+1)*group) * 2}
			require.NotEmpty(t, free.Within(whole.Free.Spans(), bad))
			whole.Free.Subtract([]free.Span{bad})
			require.Equal(t, whole.Free.Spans(), got.Free.Spans())
		})
	}
}

// bitmapAt is the byte where the block bitmap of a group lies.
func bitmapAt(b []byte, g int) int { return 1024 * int(binary.LittleEndian.Uint32(b[2048+64*g:])) }

func TestRefused(t *testing.T) {
	good := image(t, 4096, "-t ext4 -b 1024 -g 1024 -L label -J size=1 -O mmp")
	plain := image(t, 4096, "-t ext4 -b 1024 -g 1024 -J size=1 -O ^metadata_csum,bigalloc -C 4096")
	le := binary.LittleEndian
	fs, found, err := probe(good, free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "label", fs.Label)
	for _, c := range []struct {
		name   string
		change func(b []byte)
		says   string
	}{
		{"external journal", func(b []byte) { b[1024+0x60] |= 8 }, "journal_dev"},
		{"incompatible", func(b []byte) { b[1024+0x63] |= 0x80 }, "0x80000000"},
		{"compression", func(b []byte) { b[1024+0x60] |= 1 }, "0x1"},
		{"snapshot", func(b []byte) { b[1024+0x64] |= 0x80 }, "snapshot"},
		{"read-only compatible", func(b []byte) { b[1024+0x67] |= 0x40 }, "0x40000000"},
		{"block size", func(b []byte) { b[1024+0x18] = 7 }, "block size"},
		{"descriptor size", func(b []byte) { b[1024+0xFE] = 65 }, "65 bytes"},
		{"descriptor size of 32", func(b []byte) { b[1024+0xFE] = 32 }, "32 bytes"},
		{"descriptor size of 2048", func(b []byte) { le.PutUint16(b[1024+0xFE:], 2048) }, "2048 bytes"},
		{"bitmap size", func(b []byte) { b[1024+0x20] = 1 }, "bits in the bitmap"},
		{"no bitmap", func(b []byte) { le.PutUint32(b[1024+0x20:], 0) }, "bits in the bitmap"},
		{"bitmap of more than a block", func(b []byte) { le.PutUint32(b[1024+0x20:], 8200) }, "bits in the bitmap"},
		{"inodes", func(b []byte) { b[1024+0x2B] = 1 }, "inodes"},
		{"inode size", func(b []byte) { le.PutUint16(b[1024+0x58:], 2048) }, "of 2048 bytes"},
		{"first block", func(b []byte) { b[1024+0x14] = 2 }, "from block 2"},
		{"no blocks", func(b []byte) { le.PutUint32(b[1024+0x04:], 1) }, "1 blocks from block 1"},
		{"truncated", func(b []byte) { le.PutUint32(b[1024+0x04:], 4097) }, "truncated"},
		{"too many blocks", func(b []byte) { le.PutUint32(b[1024+0x150:], 1<<16) }, "blocks from block"},
		{"too many groups", func(b []byte) { le.PutUint32(b[1024+0x20:], 8); le.PutUint32(b[1024+0x150:], 1) }, "block groups, at most"},
		{"superblock changed", func(b []byte) { b[1024+0x79]++ }, "checksum of the superblock"},
		{"bitmap outside", func(b []byte) { b[2048+3] = 0x7f }, "group 0 has metadata at block"},
		{"bitmap outside, 64bit", func(b []byte) { b[2048+64+0x20] = 1 }, "group 1 has metadata at block"},
		{"inode bitmap outside", func(b []byte) { b[2048+7] = 0x7f }, "group 0 has metadata at block"},
		{"inode table outside", func(b []byte) { b[2048+11] = 0x7f }, "group 0 has metadata at block"},
		{"inode table over the end", func(b []byte) { le.PutUint32(b[2048+8:], 4095) }, "inode table of group 0"},
		{"mmp outside", func(b []byte) { le.PutUint64(b[1024+0x168:], 4096) }, "multiple mount protection"},
		{"mmp in the superblock", func(b []byte) { le.PutUint64(b[1024+0x168:], 1) }, "multiple mount protection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.change(b)
			if c.name != "superblock changed" {
				sign(b)
			}
			_, found, err := probe(b, free.Options{})
			require.True(t, found)
			require.ErrorIs(t, err, free.ErrFilesystem)
			require.ErrorContains(t, err, c.says)
		})
	}
	for _, c := range []struct {
		name   string
		change func(b []byte)
		says   string
	}{
		{"small clusters", func(b []byte) { le.PutUint32(b[1024+0x18:], 1); le.PutUint32(b[1024+0x1C:], 0) }, "cluster size"},
		{"huge clusters", func(b []byte) { b[1024+0x1C] = 21 }, "cluster size"},
		{"clusters in a group", func(b []byte) { b[1024+0x24] += 8 }, "(feature bigalloc)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(plain)
			c.change(b)
			_, _, err := probe(b, free.Options{})
			require.ErrorIs(t, err, free.ErrFilesystem)
			require.ErrorContains(t, err, c.says)
		})
	}
	for _, c := range []struct {
		name   string
		change func(b []byte)
		note   string
	}{
		{"needs recovery", func(b []byte) { b[1024+0x60] |= 4 }, ""},
		{"needs recovery, checksum not in step", func(b []byte) { b[1024+0x60] |= 4; b[1024+0x79]++ }, ""},
		{"not clean", func(b []byte) { b[1024+0x3A] = 0 }, ""},
		{"with errors", func(b []byte) { b[1024+0x3A] = 3 }, ""},
		{"orphans", func(b []byte) { b[1024+0x3A] = 5 }, ""},
		{"mmp", func(b []byte) { b[le.Uint64(b[1024+0x168:])*1024+7] = 0 }, "multiple mount protection"},
		{"no mmp block", func(b []byte) { b[le.Uint64(b[1024+0x168:])*1024]++ }, "multiple mount protection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.change(b)
			if !strings.Contains(c.name, "step") {
				sign(b)
			}
			fs, _, err := probe(b, free.Options{})
			require.NoError(t, err)
			require.True(t, fs.Unclean)
			require.Contains(t, strings.Join(fs.Notes, "\n"), c.note)
		})
	}
	b := bytes.Clone(good)
	le.PutUint32(b[1024+0xE0:], 0)
	fs, _, err = probe(sign(b), free.Options{})
	require.NoError(t, err)
	require.False(t, fs.Unclean)
	require.Equal(t, []string{"its journal is on another device and is not part of the image"}, fs.Notes)
	for _, content := range [][]byte{nil, good[:1023], good[:2047], make([]byte, 1<<16)} {
		_, found, err := probe(content, free.Options{})
		require.NoError(t, err)
		require.False(t, found)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err = ext.Probe(canceled, bytes.NewReader(good), int64(len(good)), free.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// Without checksums the flags of a group mean nothing.
func TestFlagsWithoutChecksums(t *testing.T) {
	b := image(t, 16<<10, "-t ext4 -b 1024 -g 1024 -N 256 -J size=1 -O ^metadata_csum,^uninit_bg")
	want, _, err := probe(b, free.Options{})
	require.NoError(t, err)
	require.Empty(t, want.Notes)
	for g := range 16 {
		b[2048+64*g+0x12] |= 2
	}
	got, _, err := probe(b, free.Options{})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Revision 0 has no features, and inodes of 128 bytes, whatever the superblock holds where later ones say so.
func TestRevision0(t *testing.T) {
	b := image(t, 4096, "-t ext2 -b 1024 -r 0 -O none")
	want, _, err := probe(b, free.Options{})
	require.NoError(t, err)
	copy(b[1024+0x58:], "\x00\x00")
	copy(b[1024+0x5C:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	got, _, err := probe(b, free.Options{})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestSkipBad(t *testing.T) {
	b := image(t, 16<<10, "-t ext4 -b 1024 -g 1024 -N 256 -J size=1")
	whole, _, err := probe(b, free.Options{})
	require.NoError(t, err)
	group := func(g uint64) free.Span { return free.Span{Start: (1 + 1024*g) * 2, End: (1 + 1024*(g+1)) * 2} }
	for _, c := range []struct {
		at   int64
		bad  free.Span
		note string
	}{
		{int64(bitmapAt(b, 0)), group(0), "1 block groups cannot be read and were saved whole"},
		{2048, free.Span{End: 1 << 20}, "16 block groups cannot be read and were saved whole"},
	} {
		r := roundtrip.Broken(bytes.NewReader(b), c.at)
		_, _, err := ext.Probe(context.Background(), r, int64(len(b)), free.Options{})
		require.ErrorIs(t, err, roundtrip.ErrMedium)
		require.NotErrorIs(t, err, free.ErrFilesystem)
		got, _, err := ext.Probe(context.Background(), r, int64(len(b)), free.Options{SkipBad: true})
		require.NoError(t, err)
		require.Equal(t, []string{c.note}, got.Notes)
		want := &free.List{}
		for _, s := range whole.Free.Spans() {
			want.Add(s)
		}
		want.Subtract([]free.Span{c.bad})
		require.Equal(t, len(want.Spans()), len(got.Free.Spans()))
		require.Equal(t, want.Total(), got.Free.Total())
	}
	_, _, err = ext.Probe(context.Background(), roundtrip.Broken(bytes.NewReader(b), 1500), int64(len(b)), free.Options{SkipBad: true})
	require.ErrorIs(t, err, roundtrip.ErrMedium, "nothing can be said without a superblock")
}
