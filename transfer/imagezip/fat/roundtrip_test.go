package fat_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/fat"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
)

var (
	usage       = regexp.MustCompile(`(?m): \d+ files, (\d+)/(\d+) clusters$`)
	clusterSize = regexp.MustCompile(`(?m)^ +(\d+) bytes per cluster$`)
)

// fsck requires that a filesystem is in order.
func fsck(t testing.TB, path string) { freeBytes(t, path) }

// freeBytes is what fsck.fat calls free.
func freeBytes(t testing.TB, path string) uint64 {
	out := tool.Run(t, "fsck.fat", "-nv", path)
	require.NotContains(t, out, "ifferences between boot sector and its backup", out)
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return n
	}
	m := usage.FindStringSubmatch(out)
	require.NotNil(t, m, out)
	return (number(m[2]) - number(m[1])) * number(clusterSize.FindStringSubmatch(out)[1])
}

// age writes files with mtools, deletes and replaces some, and returns what is there at the end.
func age(t testing.TB, image string, size int) map[string]string {
	dir := t.TempDir()
	roundtrip.Fill(t, dir, size, false)
	copyIn := []string{"-sQ", "-i", image}
	for _, name := range []string{"d0", "d1", "d2", "d3", "holes", "d4", "d5", "d6"} {
		copyIn = append(copyIn, filepath.Join(dir, name))
	}
	tool.Run(t, "mcopy", append(copyIn, "::")...)
	tool.Run(t, "mdel", "-i", image, "::d0/e0/f0", "::d0/e1/f7", "::d1/e1/f1", "::d1/e2/f8")
	tool.Run(t, "mdeltree", "-i", image, "::d2/e2")
	for i, grown := range []string{"d0/e2/f14", "d1/e0/f15", "d2/e1/f16"} { // longer ones in the gaps, others shorter
		path := filepath.Join(dir, grown)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b = append(b, b...)
		b = append(b, strings.Repeat("grown", 3000*i)...)
		require.NoError(t, os.WriteFile(path, b, 0o644))
		tool.Run(t, "mcopy", "-oQ", "-i", image, path, "::"+grown)
	}
	return contents(t, image)
}

// contents describes the files of an image.
func contents(t testing.TB, image string) map[string]string {
	dir := t.TempDir()
	tool.Run(t, "mcopy", "-snQ", "-i", image, "::*", dir)
	return roundtrip.Files(t, dir)
}

func TestRoundTrips(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad") // in units of 1 KiB
	require.NoError(t, os.WriteFile(bad, []byte("3000\n3001\n3777\n"), 0o644))
	for _, c := range []struct {
		name  string
		kind  string
		kib   int64
		files int
		args  []string
	}{
		{"fat12 of a floppy", "fat12", 2880, 1000 << 10, []string{"-F", "12", "-n", "FLOPPY"}},
		{"fat12 with one copy", "fat12", 5 << 10, 1500 << 10, []string{"-F", "12", "-f", "1", "-s", "8"}},
		{"fat12 with sectors of 2 KiB", "fat12", 4777, 1500 << 10, []string{"-F", "12", "-S", "2048", "-s", "2", "-r", "64"}},
		{"fat12 not aligned", "fat12", 3333, 1 << 20, []string{"-F", "12", "-a", "-s", "2", "-R", "3"}},
		{"fat12 with bad blocks", "fat12", 6 << 10, 1500 << 10, []string{"-F", "12", "-s", "4", "-l", bad}},
		{"fat16", "fat16", 10 << 10, 1500 << 10, []string{"-F", "16"}},
		{"fat16 with one copy", "fat16", 9 << 10, 1500 << 10, []string{"-F", "16", "-f", "1", "-s", "1", "-R", "37"}},
		{"fat16 with sectors of 4 KiB", "fat16", 18001, 1500 << 10, []string{"-F", "16", "-S", "4096", "-s", "1"}},
		{"fat16 with few root entries", "fat16", 10 << 10, 1500 << 10, []string{"-F", "16", "-r", "48", "-a", "-s", "2"}},
		{"fat16 with a partition table", "fat16", 10 << 10, 1500 << 10, []string{"-F", "16", "--mbr=y"}},
		{"fat32", "fat32", 34 << 10, 1500 << 10, []string{"-F", "32", "-s", "1", "-n", "A LABEL"}},
		{"fat32 with one copy and bad blocks", "fat32", 34567, 1500 << 10, []string{"-F", "32", "-f", "1", "-s", "1", "-a", "-R", "11", "-l", bad}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // there are many programs to wait for
			path := filepath.Join(roundtrip.Dir(t), "fs")
			roundtrip.Sparse(t, path, c.kib<<10)
			tool.Run(t, "mkfs.fat", append(c.args, path)...)
			want := age(t, path, c.files)
			if slices.Contains(c.args, bad) { // mkfs.fat counts bad clusters as free
				tool.Exit(t, "fsck.fat", "-a", path)
			}
			require.Greater(t, len(want), 15)

			if slices.Contains(c.args, "--mbr=y") {
				// The boot sector also is a partition table, of one partition that starts with the table itself. What a
				// source with both is taken for is not for this package to say.
				fs := roundtrip.Probe(t, path, fat.Probe)
				require.Equal(t, c.kind, fs.Kind)
				require.Equal(t, freeBytes(t, path), fs.Free.Total()*free.SectorSize)
				return
			}
			result := roundtrip.Check(t, path, fat.Probe, fsck)
			fs := result.Filesystem
			require.Equal(t, c.kind, fs.Kind)
			require.Empty(t, fs.Notes)
			require.Equal(t, freeBytes(t, path), fs.Free.Total()*free.SectorSize)
			require.Equal(t, want, contents(t, result.Path))
			if i := slices.Index(c.args, "-n"); i >= 0 {
				require.Equal(t, c.args[i+1], fs.Label)
			} else {
				require.Empty(t, fs.Label)
			}
			require.Greater(t, len(fs.Free.Spans()), 3, "the filesystem should be fragmented")
		})
	}
}
