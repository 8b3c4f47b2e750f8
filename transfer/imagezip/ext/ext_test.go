package ext_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/roundtrip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// same requires that the probe finds the free space that dumpe2fs tells, to the sector, and nothing to remark.
func same(t testing.TB, path string) told {
	t.Helper()
	d := truth(t, path)
	fs := roundtrip.Probe(t, path, ext.Probe)
	require.Equal(t, d.free, fs.Free.Spans())
	require.Equal(t, d.blocks*d.blockSize/512, fs.Sectors)
	require.Empty(t, fs.Notes)
	require.False(t, fs.Unclean)
	return d
}

// variants of filesystems, each with a few files.
var variants = []struct {
	name string
	kb   int64
	args string
	kind string
}{
	{"default", 48 << 10, "-t ext4 -J size=4", "ext4"},
	{"default of large disks", 140 << 10, "-t ext4 -b 4096 -J size=4", "ext4"},
	{"ext2 1k", 24 << 10, "-t ext2 -b 1024", "ext2"},
	{"ext2 revision 0", 24 << 10, "-t ext2 -b 1024 -r 0 -O none", "ext2"},
	{"ext3 4k", 40 << 10, "-t ext3 -b 4096 -J size=4", "ext3"},
	{"2k without 64bit", 40 << 10, "-t ext4 -b 2048 -O ^64bit -J size=2", "ext4"},
	{"without flex_bg", 40 << 10, "-t ext4 -b 1024 -O ^64bit,^flex_bg -J size=1", "ext4"},
	{"uninit_bg", 60 << 10, "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -J size=1", "ext4"},
	{"uninit_bg without flex_bg and 64bit", 60 << 10, "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^flex_bg,^64bit -J size=1", "ext4"},
	{"checksums without 64bit", 60 << 10, "-t ext4 -b 1024 -O ^64bit -J size=1", "ext4"},
	{"seed of checksums", 40 << 10, "-t ext4 -b 1024 -O metadata_csum_seed -J size=1", "ext4"},
	{"no checksums", 60 << 10, "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg -J size=1", "ext4"},
	{"every group has a backup", 60 << 10, "-t ext4 -b 1024 -O ^sparse_super,^resize_inode -J size=1", "ext4"},
	{"sparse_super2", 60 << 10, "-t ext4 -b 1024 -O sparse_super2,^resize_inode -J size=1", "ext4"},
	{"sparse_super2 with one backup", 60 << 10, "-t ext4 -b 1024 -O sparse_super2,^resize_inode -E num_backup_sb=1 -J size=1", "ext4"},
	{"sparse_super2 with none, packed", 60 << 10, "-t ext4 -b 1024 -O sparse_super2,^resize_inode -E num_backup_sb=0,packed_meta_blocks=1 -J size=1", "ext4"},
	{"sparse_super2, uninitialised", 60 << 10, "-t ext4 -b 1024 -g 1024 -O sparse_super2,^resize_inode,^flex_bg -J size=1", "ext4"},
	{"meta_bg", 40 << 10, "-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode -N 2048 -J size=1", "ext4"},
	{"meta_bg without flex_bg", 40 << 10, "-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode,^flex_bg -N 2048 -J size=1", "ext4"},
	{"meta_bg, every group has a backup", 40 << 10, "-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode,^sparse_super -N 2048 -J size=1", "ext4"},
	{"meta_bg without 64bit", 40 << 10, "-t ext4 -b 1024 -g 256 -O meta_bg,^resize_inode,^64bit,^metadata_csum,uninit_bg -N 2048 -J size=1", "ext4"},
	{"bigalloc", 100 << 10, "-t ext4 -O bigalloc -C 65536 -J size=4", "ext4"},
	{"bigalloc 1k", 80 << 10, "-t ext4 -b 1024 -O bigalloc -C 16384 -g 8192 -J size=1", "ext4"},
	{"bigalloc without flex_bg", 80 << 10, "-t ext4 -b 1024 -O bigalloc,^flex_bg -C 8192 -g 8192 -J size=1", "ext4"},
	{"bigalloc, odd size", 40<<10 + 5, "-t ext4 -b 1024 -O bigalloc -C 16384 -g 8192 -J size=1", "ext4"},
	{"small groups", 33<<10 + 5, "-t ext4 -b 1024 -g 256 -G 4 -N 2048 -J size=1", "ext4"},
	{"one large flexible group", 40 << 10, "-t ext4 -b 1024 -g 1024 -G 64 -J size=1", "ext4"},
	{"room to grow", 30 << 10, "-t ext4 -b 1024 -g 4096 -E resize=2000000 -J size=1", "ext4"},
	{"odd size, last group short", 63<<10 + 1, "-t ext4 -b 1024 -N 5000 -I 128 -J size=1", "ext4"},
	{"large inodes", 30 << 10, "-t ext4 -I 1024 -G 4 -J size=4", "ext4"},
	{"file of orphans", 30 << 10, "-t ext4 -b 1024 -O orphan_file -J size=1", "ext4"},
	{"blocks of 64k", 70 << 10, "-t ext4 -b 65536 -J size=8 -N 64", "ext4"},
}

func TestRoundTrips(t *testing.T) {
	files := t.TempDir()
	roundtrip.Fill(t, files, 1<<20, true)
	for _, c := range variants {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // there are many programs to wait for
			path := mke2fs(t, c.kb, files, strings.Fields(c.args)...)
			require.NoError(t, os.Truncate(path, c.kb<<10+70<<10)) // the partition is a little larger
			if !strings.Contains(c.args, "65536 -J size=8") {
				roundtrip.Mount(t, path, c.kind, "", func(dir string) { roundtrip.Age(t, dir, 600<<10) })
			}
			for _, name := range []string{"d1/e1/f1", "d3/e0/f3", "d5/e2/f5", "d2/e0/f9"} { // without a kernel, a few holes at least
				tool.Run(t, "debugfs", "-w", "-R", "rm /"+name, path)
			}
			d := same(t, path)
			result := roundtrip.Check(t, path, ext.Probe, e2fsck)
			require.Equal(t, c.kind, result.Filesystem.Kind)
			for _, at := range d.backups {
				bs := strconv.FormatUint(d.blockSize, 10)
				want, wantCode := tool.Exit(t, "e2fsck", "-fn", "-b", at, "-B", bs, path)
				got, code := tool.Exit(t, "e2fsck", "-fn", "-b", at, "-B", bs, result.Path)
				require.NotContains(t, got, "Bad magic")
				require.Equal(t, wantCode, code)
				require.Equal(t, strings.ReplaceAll(want, path, "X"), strings.ReplaceAll(got, result.Path, "X"))
			}
			if !strings.Contains(c.args, "num_backup_sb=0") && !strings.Contains(c.args, "65536") && c.name != "default" && c.name != "large inodes" {
				require.True(t, len(d.backups) > 0 || d.number(t, "Block count")*d.blockSize < 128<<20)
			}
			want, got := filepath.Join(t.TempDir(), "want"), filepath.Join(t.TempDir(), "got")
			for dir, from := range map[string]string{want: path, got: result.Path} {
				require.NoError(t, os.Mkdir(dir, 0o755))
				tool.Exit(t, "debugfs", "-R", "rdump / "+dir, from)
			}
			there := roundtrip.Files(t, want)
			require.Greater(t, len(there), 25)
			require.Equal(t, there, roundtrip.Files(t, got))
		})
	}
}

// Layouts that need large filesystems, or many groups: the free space is that of dumpe2fs.
func TestLargeFilesystems(t *testing.T) {
	for _, c := range []struct {
		name string
		mb   int64
		args string
		has  string // must be in what dumpe2fs says, so that the test is about what it says
	}{
		{"blocks of 64k", 40 << 10, "-t ext4 -b 65536 -N 1024 -O ^has_journal", "Backup superblock at 589752"},
		{"many groups", 8 << 10, "-t ext4 -b 1024 -N 8192 -J size=1", "Group 1023:"},
		{"many groups with meta_bg", 2 << 10, "-t ext4 -b 1024 -N 8192 -O meta_bg,^resize_inode,^flex_bg -J size=1", "Group 255:"},
		{"many groups with a backup each", 2 << 10, "-t ext2 -b 1024 -N 8192 -O ^sparse_super,^resize_inode", "Backup superblock at 16385"},
		{"large clusters", 40 << 10, "-t ext4 -O bigalloc -C 1048576 -N 4096 -J size=4", "Cluster size: +1048576"},
		{"last cluster behind the end of the last group", 4<<10 + 3, "-t ext4 -b 1024 -O bigalloc -C 65536 -N 4096 -J size=1", "Group 3:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := mke2fs(t, c.mb<<10, "", append(strings.Fields(c.args), "-E", "nodiscard,lazy_itable_init=1")...)
			require.Regexp(t, c.has, same(t, path).out)
		})
	}
}

// A filesystem that was grown beyond the room its descriptors had, keeps the old ones in one place and has the new ones
// in meta groups.
func TestGrownToMetaGroups(t *testing.T) {
	path := mke2fs(t, 8<<10, "", strings.Fields("-t ext4 -b 1024 -g 256 -O ^resize_inode -N 1024 -J size=1")...)
	tool.Run(t, "debugfs", "-w", "-R", "ssv first_meta_bg 2", path)
	tool.Run(t, "debugfs", "-w", "-R", "feature meta_bg", path)
	tool.Exit(t, "e2fsck", "-fy", path)
	require.NoError(t, os.Truncate(path, 40<<20))
	tool.Run(t, "resize2fs", path)
	roundtrip.Mount(t, path, "ext4", "", func(dir string) {
		roundtrip.Fill(t, dir, 1<<20, true)
		roundtrip.Age(t, dir, 1<<20)
	})
	require.Equal(t, uint64(2), truth(t, path).number(t, "First meta block group"))
	same(t, path)
	result := roundtrip.Check(t, path, ext.Probe, e2fsck)
	if want, ok := roundtrip.Mounted(t, path, "ext4", "noload"); ok {
		got, _ := roundtrip.Mounted(t, result.Path, "ext4", "noload")
		require.Equal(t, want, got)
		require.Greater(t, len(got), 100)
	}
}

// With the feature metadata_csum_seed checksums do not depend on the UUID, which may have changed.
func TestChangedUUID(t *testing.T) {
	path := mke2fs(t, 20<<10, "", strings.Fields("-t ext4 -b 1024 -O metadata_csum_seed -J size=1")...)
	tool.Run(t, "tune2fs", "-U", "11111111-2222-3333-4444-555555555555", path)
	same(t, path)
}

// As long as it is mounted and changes, a filesystem is unclean, with and without a journal.
func TestUnclean(t *testing.T) {
	for _, args := range []string{"-t ext4 -b 1024 -J size=1", "-t ext4 -b 1024 -O ^has_journal", "-t ext2 -b 1024"} {
		t.Run(args, func(t *testing.T) {
			path := mke2fs(t, 8<<10, "", strings.Fields(args)...)
			require.False(t, roundtrip.Probe(t, path, ext.Probe).Unclean)
			mounted := roundtrip.Mount(t, path, args[3:7], "", func(dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
				tool.Run(t, "sync", "-f", dir)
				require.True(t, roundtrip.Probe(t, path, ext.Probe).Unclean)
			})
			if !mounted {
				t.Skip("needs a mounted filesystem")
			}
			require.False(t, roundtrip.Probe(t, path, ext.Probe).Unclean)
		})
	}
}
