package ntfs_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/ntfs"
	"loadnode/transfer/imagezip/roundtrip"
)

// mount gives f the files of an image, by the driver of ntfs-3g. It says false, with a line in the log, where that is not
// possible.
func mount(t testing.TB, image string, f func(dir string)) bool {
	return roundtrip.Mount(t, image, "ntfs-3g", "big_writes,streams_interface=none", f)
}

var (
	freeClusters = regexp.MustCompile(`(?m)^\s*Free Clusters: (\d+) `)
	sizeOf       = regexp.MustCompile(`(?m)^\s*Cluster Size: (\d+)$`)
)

// freeBytes is what ntfsinfo calls free.
func freeBytes(t testing.TB, path string) uint64 {
	out := tool.Run(t, "ntfsinfo", "-m", path)
	number := func(r *regexp.Regexp) uint64 {
		m := r.FindStringSubmatch(out)
		require.NotNil(t, m, out)
		n, err := strconv.ParseUint(m[1], 10, 64)
		require.NoError(t, err)
		return n
	}
	return number(freeClusters) * number(sizeOf)
}

// check requires that ntfsfix has nothing to do and that ntfsresize, which compares the runs of all files with $Bitmap,
// finds no fault.
func check(t testing.TB, path string) {
	out := tool.Run(t, "ntfsfix", "-n", path)
	require.Contains(t, out, "Checking the alternate boot sector... OK")
	require.Contains(t, out, "was processed successfully")
	if out, code := tool.Exit(t, "ntfsresize", "-i", "-f", path); code != 0 && !strings.Contains(out, "Volume is full") {
		require.Fail(t, "ntfsresize", out)
	}
}

func files(t testing.TB, image string) (list map[string]string) {
	require.True(t, mount(t, image, func(dir string) { list = roundtrip.Files(t, dir) }))
	return list
}

func TestRoundTrips(t *testing.T) {
	for _, c := range []struct {
		name string
		kib  int64
		args []string
	}{
		{"default", 12 << 10, nil},
		{"clusters of a sector", 9001, []string{"-c", "512", "-L", "klein"}},
		{"clusters of 64 KiB", 20 << 10, []string{"-c", "65536"}},
		{"sectors of 4 KiB", 16<<10 + 4, []string{"-s", "4096", "-c", "4096", "-L", "Ünïcødé"}},
		{"sectors of 1 KiB", 12001, []string{"-s", "1024", "-c", "2048"}},
		{"large clusters", 12 << 10, []string{"-c", "262144"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // there are many programs to wait for
			path := filepath.Join(roundtrip.Dir(t), "fs")
			roundtrip.Sparse(t, path, c.kib<<10)
			tool.Run(t, "mkntfs", append(append([]string{"-Q", "-F", "-q"}, c.args...), path)...)
			var want map[string]string
			canMount := mount(t, path, func(dir string) {
				if c.name == "large clusters" { // each file has at least one
					require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("content"), 150000), 0o644))
					require.NoError(t, os.WriteFile(filepath.Join(dir, "gone"), bytes.Repeat([]byte("deleted"), 150000), 0o644))
					require.NoError(t, os.WriteFile(filepath.Join(dir, "other"), bytes.Repeat([]byte("another"), 150000), 0o644))
					require.NoError(t, os.Remove(filepath.Join(dir, "gone")))
				} else {
					roundtrip.Fill(t, dir, 600<<10, true)
					roundtrip.Age(t, dir, 300<<10)
				}
				want = roundtrip.Files(t, dir)
			})
			if !canMount {
				copyIn(t, path)
			}
			result := roundtrip.Check(t, path, ntfs.Probe, check)
			fs := result.Filesystem
			require.Equal(t, "ntfs", fs.Kind)
			require.Empty(t, fs.Notes)
			require.Equal(t, freeBytes(t, path), fs.Free.Total()*free.SectorSize)
			sector := uint64(512)
			if len(c.args) > 0 {
				if c.args[0] == "-s" {
					sector, _ = strconv.ParseUint(c.args[1], 10, 64)
				}
				if c.args[len(c.args)-2] == "-L" {
					require.Equal(t, c.args[len(c.args)-1], fs.Label)
				}
			}
			require.EqualValues(t, uint64(c.kib<<10)/sector*sector/free.SectorSize, fs.Sectors)
			if canMount {
				require.Greater(t, len(fs.Free.Spans()), 2, "the filesystem should be fragmented")
				require.Equal(t, want, files(t, result.Path))
			} else {
				copyOut(t, result.Path)
			}
		})
	}
}

// copyIn writes a few files without mounting, copyOut reads them.
func copyIn(t testing.TB, image string) {
	for i := range 5 {
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{byte('a' + i)}, 70000*i+100), 0o644))
		tool.Run(t, "ntfscp", image, path, fmt.Sprintf("/file%d", i))
	}
}

func copyOut(t testing.TB, image string) {
	for i := range 5 {
		out := tool.Run(t, "ntfscat", image, fmt.Sprintf("/file%d", i))
		require.Equal(t, strings.Repeat(string(rune('a'+i)), 70000*i+100), out)
	}
}

// The volume is filled to the last cluster, every other file deleted, and then records are made until nothing more fits:
// the MFT grows into the gaps, until its own runs need an attribute list.
func TestFragmentedMFT(t *testing.T) {
	path := filepath.Join(roundtrip.Dir(t), "fs")
	roundtrip.Sparse(t, path, 8<<20)
	tool.Run(t, "mkntfs", "-Q", "-F", "-q", "-c", "512", path)
	var want map[string]string
	if !mount(t, path, func(dir string) {
		name := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		n := 0
		for ; ; n++ {
			if os.WriteFile(name(n), bytes.Repeat([]byte{byte(n)}, 1000), 0o644) != nil {
				break
			}
		}
		for i := 0; i < n; i += 2 {
			require.NoError(t, os.Remove(name(i)))
		}
		for i := n + 1; os.WriteFile(name(i), []byte{1}, 0o644) == nil; i++ {
		}
		for i := 1; i < n; i += 8 { // so that something is free
			require.NoError(t, os.Remove(name(i)))
		}
		want = roundtrip.Files(t, dir)
	}) {
		t.Skip("this needs a mounted filesystem")
	}
	require.Contains(t, tool.Run(t, "ntfsinfo", "-i", "0", path), "$ATTRIBUTE_LIST", "the MFT should have many runs")
	result := roundtrip.Check(t, path, ntfs.Probe, check)
	require.Equal(t, freeBytes(t, path), result.Filesystem.Free.Total()*free.SectorSize)
	require.Greater(t, len(result.Filesystem.Free.Spans()), 100)
	require.Equal(t, want, files(t, result.Path))
}

// Page files as Windows makes them, found by what ntfs-3g writes.
func TestPageFilesOfWindows(t *testing.T) {
	path := filepath.Join(roundtrip.Dir(t), "fs")
	roundtrip.Sparse(t, path, 16<<20)
	tool.Run(t, "mkntfs", "-Q", "-F", "-q", path)
	write := func(content string) bool {
		return mount(t, path, func(dir string) {
			for name, head := range map[string]string{"pagefile.sys": "", "hiberfil.sys": content} {
				b := bytes.Repeat([]byte("pages"), 400000)
				copy(b, head+strings.Repeat("\x00", 4096-len(head)))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
				require.NoError(t, unix.Setxattr(filepath.Join(dir, name), "system.ntfs_attrib_be", []byte{0, 0, 0, 0x26}, 0))
			}
			for i := range 200 { // so that the root directory has index blocks
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("a file of Windows, number %d", i)), []byte("content"), 0o644))
			}
		})
	}
	if !write("wake") {
		t.Skip("this needs a mounted filesystem")
	}
	const each = (2000000+4095)/4096*4096 - 64<<10
	before := freeBytes(t, path)
	result := roundtrip.Check(t, path, ntfs.Probe, check)
	require.Equal(t, before+2*each, result.Filesystem.Free.Total()*free.SectorSize)
	require.Len(t, result.Filesystem.Notes, 2)
	want, got := files(t, path), files(t, result.Path)
	for _, name := range []string{"pagefile.sys", "hiberfil.sys"} {
		require.NotEqual(t, want[name], got[name])
		delete(want, name)
		delete(got, name)
	}
	require.True(t, maps.Equal(want, got))

	require.True(t, write("hibr"))
	fs := roundtrip.Probe(t, path, ntfs.Probe)
	require.True(t, fs.Unclean)
	require.Contains(t, fs.Notes[0], "hibernated")
	require.Equal(t, freeBytes(t, path), fs.Free.Total()*free.SectorSize)
}
