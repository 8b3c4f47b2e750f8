package personalise

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/disk/loop"
)

const mib = 1 << 20

// mountable skips where nothing can be mounted.
func mountable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	probe := filepath.Join(t.TempDir(), "probe")
	require.NoError(t, os.WriteFile(probe, make([]byte, mib), 0o600))
	l, err := loop.Attach(probe, 0, mib, true)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	require.NoError(t, l.Close())
}

// makeDisk is an MBR disk whose partitions hold ext4 with the content of these trees; nil is none.
func makeDisk(t *testing.T, trees ...map[string]string) string {
	path := filepath.Join(t.TempDir(), "disk")
	const each = 16
	mbr := make([]byte, 512)
	for i, files := range trees {
		start := int64(1+i*each) * mib
		entry := mbr[446+16*i:]
		entry[4] = 0x83
		binary.LittleEndian.PutUint32(entry[8:], uint32(start/sector))
		binary.LittleEndian.PutUint32(entry[12:], each*mib/sector)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		if files == nil {
			continue
		}
		dir, _ := system(t, files)
		fsys := filepath.Join(t.TempDir(), "fs")
		tool.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, fsys, "16M")
		defer func() {
			b, err := os.ReadFile(fsys)
			require.NoError(t, err)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			require.NoError(t, err)
			defer f.Close()
			_, err = f.WriteAt(b, start)
			require.NoError(t, err)
		}()
	}
	mbr[510], mbr[511] = 0x55, 0xaa
	require.NoError(t, os.WriteFile(path, mbr, 0o600))
	require.NoError(t, os.Truncate(path, int64(1+len(trees)*each)*mib))
	return path
}

// content reads a file of the first ext4 at an offset, by another program than ours.
func content(t *testing.T, disk string, partition int, name string) string {
	part := filepath.Join(t.TempDir(), "part")
	b, err := os.ReadFile(disk)
	require.NoError(t, err)
	off := (1 + partition*16) * mib
	require.NoError(t, os.WriteFile(part, b[off:off+16*mib], 0o600))
	tool.Run(t, "e2fsck", "-fn", part)
	out, err := exec.Command(tool.Path(t, "debugfs"), "-R", "cat "+name, part).Output() // without what it says of itself
	require.NoError(t, err)
	return string(out)
}

var root = map[string]string{"etc/os-release": "ID=test\n", "etc/hostname": "template\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "root/.profile": ""}

func TestDisk(t *testing.T) {
	mountable(t)
	path := makeDisk(t, map[string]string{"vmlinuz": "boot"}, root, nil)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, Disk(t.Context(), path, Config{Hostname: "n1-2", AuthorizedKeys: []string{key}}))
	require.Equal(t, "n1-2\n", content(t, path, 1, "/etc/hostname"))
	require.Equal(t, key+"\n", content(t, path, 1, "/root/.ssh/authorized_keys"))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before[:17*mib], after[:17*mib], "other partitions are as they were")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	require.NotContains(t, string(mounts), "personalise", "nothing stays mounted, and nobody saw it")
}

func TestDisksWithoutOneSystem(t *testing.T) {
	mountable(t)
	for name, c := range map[string]struct {
		disk string
		is   error
		says string
	}{
		"none":    {makeDisk(t, map[string]string{"data": "x"}), ErrNoRoot, ""},
		"empty":   {makeDisk(t, nil), ErrNoRoot, ""},
		"several": {makeDisk(t, root, root), ErrSeveral, "1 and 2"},
	} {
		before, err := os.ReadFile(c.disk)
		require.NoError(t, err)
		err = Disk(t.Context(), c.disk, Config{Hostname: "x"})
		require.ErrorIs(t, err, c.is, name)
		require.ErrorContains(t, err, c.says)
		after, err := os.ReadFile(c.disk)
		require.NoError(t, err)
		require.Equal(t, before, after, "%s: nothing is changed", name)
	}
	damaged := makeDisk(t, root)
	f, err := os.OpenFile(damaged, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("\xff", 40)), mib+1024)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.ErrorIs(t, Disk(t.Context(), damaged, Config{Hostname: "x"}), ErrNoRoot)
}
