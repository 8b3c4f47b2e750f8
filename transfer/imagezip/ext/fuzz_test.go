package ext_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
)

// FuzzExt: no superblock, descriptor or bitmap may panic; free space stays inside the filesystem, and its superblock is
// never in it.
func FuzzExt(f *testing.F) {
	const size = 512 << 10
	for _, args := range []string{
		"-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg",
		"-t ext4 -b 1024 -O bigalloc,^metadata_csum -C 16384",
		"-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode,^metadata_csum,uninit_bg",
		"-t ext4 -b 1024 -g 256 -O sparse_super2,^resize_inode",
		"-t ext2 -b 1024 -r 0 -O none",
	} {
		f.Add(image(f, size>>10, args+" -N 64")[1024:8192])
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		data := make([]byte, size)
		copy(data[1024:], head)
		for _, o := range []free.Options{{}, {SkipBad: true}} {
			fs, found, err := ext.Probe(context.Background(), bytes.NewReader(sign(data)), size, o)
			require.True(t, found || err == nil)
			if err != nil || !found {
				require.Nil(t, fs)
				continue
			}
			require.LessOrEqual(t, fs.Sectors, uint64(size/512))
			var at uint64
			for _, s := range fs.Free.Spans() {
				require.True(t, s.Start >= at && s.End > s.Start && s.Start >= 4)
				at = s.End
			}
			require.LessOrEqual(t, at, fs.Sectors)
		}
	})
}
