package roundtrip

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"loadnode/internal/tool"

	"github.com/stretchr/testify/require"
)

// Fragmented makes an ext4 filesystem with blocks of 1 KiB in a sparse file, with so many ranges of run free blocks,
// each between blocks of one file. It takes a few seconds for 100,000 ranges. With runs of 32 blocks or more Capture leaves
// them all out by default.
func Fragmented(t testing.TB, path string, ranges, run int) { fragment(t, path, ranges, run, true) }

// Unfragmented makes a filesystem like Fragmented, with the same file in one piece.
func Unfragmented(t testing.TB, path string, ranges, run int) { fragment(t, path, ranges, run, false) }

func fragment(t testing.TB, path string, ranges, run int, apart bool) {
	t.Helper()
	const block = 1024
	// Room for the ranges, and more for metadata, and for runs that the end of a group of 8192 blocks would cut.
	size := int64(ranges)*int64(run+1)*block/8192*(8192+2*int64(run)) + 32<<20
	size += size / 50
	Sparse(t, path, size)
	tool.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "1024", "-J", "size=1", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", path)

	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	f, err := os.Create(data)
	require.NoError(t, err)
	for i := range ranges + ranges/64 + 64 { // half of each block can be compressed
		b := append(content(uint64(i%4096), block/2), bytes.Repeat([]byte{byte(i)}, block/2)...)
		_, err := f.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())

	// What shall stay free is marked as used while the file is written. The block before each run and the one behind it
	// are left to the file, which is a little larger than they are.
	var hold, release strings.Builder
	for _, left := range tool.FreeBlocks(t, tool.Run(t, "dumpe2fs", path)) {
		end := int(left[1]) + 1
		for at := int(left[0]) + 1; apart && at < end && ranges > 0; at += run + 1 {
			n := min(run, end-at)
			fmt.Fprintf(&hold, "setb %d %d\n", at, n)
			fmt.Fprintf(&release, "freeb %d %d\n", at, n)
			if n == run {
				ranges--
			}
		}
	}
	if apart {
		require.Zero(t, ranges, "the filesystem has no room for that many ranges")
	}
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte(hold.String()+"write "+data+" data\n"+release.String()), 0o644))
	tool.Run(t, "debugfs", "-w", "-f", script, path)
}
