package xfs_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
	"loadnode/transfer/imagezip/xfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// same requires that the probe finds the free space that xfs_db tells, to the sector, and that a restored copy is whole.
func same(t *testing.T, path string, wantFiles int) {
	t.Helper()
	result := roundtrip.Check(t, path, xfs.Probe, repair)
	require.Equal(t, truth(t, path), result.Filesystem.Free.Spans())
	require.Equal(t, "xfs", result.Filesystem.Kind)
	require.Empty(t, result.Filesystem.Notes)
	if want, ok := roundtrip.Mounted(t, path, "xfs", "norecovery,nouuid"); ok {
		got, _ := roundtrip.Mounted(t, result.Path, "xfs", "norecovery,nouuid")
		require.Equal(t, want, got)
		require.GreaterOrEqual(t, len(got), wantFiles)
	}
	require.NoError(t, os.Remove(result.Path))
}

func TestVariants(t *testing.T) {
	files := t.TempDir()
	roundtrip.Fill(t, files, 1<<20, false)
	for _, c := range []struct {
		name string
		mb   int64
		args []string
	}{
		{"default", 64, nil},
		{"all features", 48, []string{"-m", "rmapbt=1,reflink=1,finobt=1,inobtcount=1,bigtime=1", "-i", "sparse=1,nrext64=1"}},
		{"no features", 48, []string{"-m", "rmapbt=0,reflink=0,finobt=0,inobtcount=0,bigtime=0", "-i", "sparse=0"}},
		{"version 4", 48, []string{"-m", "crc=0", "-n", "ftype=0"}},
		{"version 4, blocks of 512", 48, []string{"-m", "crc=0", "-b", "size=512"}},
		{"version 4, old", 48, []string{"-m", "crc=0", "-l", "version=1,lazy-count=0", "-i", "attr=1,projid32bit=0"}},
		{"blocks of 1k", 48, []string{"-b", "size=1024", "-m", "rmapbt=1"}},
		{"blocks of 64k", 110, []string{"-b", "size=65536", "-d", "agcount=2", "-l", "size=33m"}},
		{"sectors of 4k", 48, []string{"-s", "size=4096"}},
		{"one group", 40, []string{"-d", "agcount=1"}},
		{"odd groups, last one short", 61, []string{"-d", "agsize=17m"}},
		{"log in stripes", 48, []string{"-l", "su=32k", "-d", "su=64k,sw=2"}},
		{"log in large stripes", 96, []string{"-l", "su=256k", "-d", "agcount=2"}},
		{"label", 48, []string{"-L", "twelve bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := mkfs(t, c.mb, files, c.args...)
			require.NoError(t, os.Truncate(path, c.mb<<20+4096*3+512)) // the partition is a little larger
			aged := roundtrip.Mount(t, path, "xfs", "", func(dir string) {
				roundtrip.Fill(t, filepath.Join(dir, "d0"), 300000, true)
				roundtrip.Age(t, dir, 1<<20)
			})
			if aged {
				same(t, path, 150)
			} else {
				same(t, path, 20)
			}
			if c.name == "label" {
				require.Equal(t, "twelve bytes", roundtrip.Probe(t, path, xfs.Probe).Label)
			}
		})
	}
}

// Trees of several levels, in a group that is nothing but holes.
func TestDeepTree(t *testing.T) {
	path := mkfs(t, 64, "", "-b", "size=1024", "-d", "agcount=1", "-m", "reflink=0,rmapbt=0", "-l", "size=3m")
	mounted := roundtrip.Mount(t, path, "xfs", "", func(dir string) {
		f, err := os.Create(filepath.Join(dir, "holes"))
		require.NoError(t, err)
		defer f.Close()
		whole := make([]byte, 24<<20)
		for i := range whole {
			whole[i] = byte(i >> 10)
		}
		_, err = f.Write(whole)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		for i := 0; i < len(whole)/1024; i += 2 {
			punch(t, f, int64(i)*1024, 1024)
		}
	})
	if !mounted {
		t.Skip("needs a mounted filesystem")
	}
	require.GreaterOrEqual(t, number(t, path, "agf 0", "p bnolevel"), uint64(3))
	same(t, path, 1)
	require.Greater(t, len(roundtrip.Probe(t, path, xfs.Probe).Free.Spans()), 8000)
}

// copyOf copies the file under a filesystem, mounted or not.
func copyOf(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(roundtrip.Dir(t), "copy")
	tool.Run(t, "cp", "--sparse=always", path, to)
	return to
}

// unclean asks the probe and xfs_logprint, which must agree.
func unclean(t testing.TB, path string) bool {
	t.Helper()
	fs := roundtrip.Probe(t, path, xfs.Probe)
	out := tool.Run(t, "xfs_logprint", "-t", path)
	require.Equal(t, strings.Contains(out, "<DIRTY>"), fs.Unclean, out)
	require.Equal(t, !strings.Contains(out, "<CLEAN>"), fs.Unclean, out)
	return fs.Unclean
}

var logHead = regexp.MustCompile(`head: (\d+) `)

// A filesystem that is mounted with changes is found out at any time, also after the log began anew from its start; and
// it is clean again when it is unmounted.
func TestUncleanLog(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		dirs int // made in each half of each round
	}{
		{"small", []string{"-b", "size=1024", "-m", "reflink=0,rmapbt=0", "-l", "size=3m"}, 60},
		{"stripes", []string{"-m", "reflink=0,rmapbt=0", "-l", "size=4m,su=64k"}, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := mkfs(t, 48, "", c.args...)
			require.False(t, unclean(t, path))
			head, wrapped := 0, 0
			for round := range 3 {
				mounted := roundtrip.Mount(t, path, "xfs", "wsync", func(dir string) {
					for part := range 2 {
						for i := range c.dirs {
							name := filepath.Join(dir, strings.Repeat("n", 200)+string(rune('a'+part))+string(rune('A'+i)))
							require.NoError(t, os.Mkdir(name, 0o755))
							if i%3 > 0 || part == 1 {
								require.NoError(t, os.Remove(name))
							}
						}
						require.True(t, unclean(t, copyOf(t, path)), "round %d", round)
					}
					tool.Run(t, "find", dir, "-mindepth", "1", "-delete")
				})
				if !mounted {
					t.Skip("needs a mounted filesystem")
				}
				require.False(t, unclean(t, path), "round %d", round)
				m := logHead.FindStringSubmatch(tool.Run(t, "xfs_logprint", "-t", path))
				at, err := strconv.Atoi(m[1])
				require.NoError(t, err)
				if at < head {
					wrapped++
				}
				head = at
			}
			if c.name == "stripes" { // each change takes 64 KiB of the log
				require.Positive(t, wrapped, "the log should have begun anew")
			}
			repair(t, path)
		})
	}
}

// Another UUID is put into the superblock and the log, not into the other metadata; and the log is begun anew in a later
// round.
func TestChangedUUID(t *testing.T) {
	path := mkfs(t, 48, "")
	tool.Run(t, "xfs_db", "-x", "-f", "-c", "uuid 11111111-2222-3333-4444-555555555555", path)
	require.Contains(t, db(t, path, "version"), "META_UUID")
	require.False(t, unclean(t, path))
	same(t, path, 0)
}

func TestOtherDevices(t *testing.T) {
	dir := t.TempDir()
	log, rt := filepath.Join(dir, "log"), filepath.Join(dir, "rt")
	roundtrip.Sparse(t, log, 64<<20)
	roundtrip.Sparse(t, rt, 16<<20)
	path := mkfs(t, 48, "", "-l", "logdev="+log+",size=20m")
	fs := roundtrip.Probe(t, path, xfs.Probe)
	require.True(t, fs.Unclean)
	require.Contains(t, fs.Notes[0], "another device")

	path = mkfs(t, 48, "", "-r", "rtdev="+rt)
	refused(t, path, "realtime device")
}

func refused(t testing.TB, path, says string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	_, found, err := xfs.Probe(context.Background(), f, st.Size(), free.Options{})
	require.True(t, found)
	require.ErrorIs(t, err, free.ErrFilesystem)
	require.ErrorContains(t, err, says)
}

func TestIsNoXFS(t *testing.T) {
	for _, content := range []string{"", "XFSB", strings.Repeat("x", 4096)} {
		r := strings.NewReader(content)
		_, found, err := xfs.Probe(context.Background(), io.NewSectionReader(r, 0, r.Size()), r.Size(), free.Options{})
		require.NoError(t, err)
		require.False(t, found)
	}
}
