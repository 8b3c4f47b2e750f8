package grow

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/disk/ptable"
)

// A real device with sectors of 4096 bytes: sgdisk makes the table, and finds it clean after the device became larger.
func TestSectorsOf4096(t *testing.T) {
	needRoot(t)
	fs, _ := makeFS(t, "ext4", 4*mib)
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 8*mib))
	attachBy := func() string {
		return strings.TrimSpace(tool.Run(t, "losetup", "--find", "--show", "--sector-size", "4096", path))
	}
	dev := attachBy()
	tool.Run(t, "sgdisk", "-n", "1:256:+4M", "-t", "1:8300", dev)
	tool.Run(t, "losetup", "--detach", dev)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	sparse(t, f, mib, fs)
	require.NoError(t, f.Truncate(20*mib))

	dev = attachBy()
	defer tool.Run(t, "losetup", "--detach", dev)
	res, err := Disk(context.Background(), dev, Options{})
	require.NoError(t, err)
	require.True(t, res.BackupMoved)
	require.True(t, res.FilesystemGrown, "%+v", res)
	require.EqualValues(t, 18*mib, res.After)
	require.Contains(t, tool.Run(t, "sgdisk", "-v", dev), "No problems found")
	tool.Run(t, "blockdev", "--flushbufs", dev)
	table, err := ptable.Read(f, 20*mib)
	require.NoError(t, err)
	require.Empty(t, table.Notes)
	require.Equal(t, 4096, table.SectorSize)
	alone, err := os.Create(filepath.Join(t.TempDir(), "part"))
	require.NoError(t, err)
	defer alone.Close()
	require.NoError(t, alone.Truncate(res.After))
	copySection(t, alone, f, mib, res.After)
	tool.Run(t, "e2fsck", "-fn", alone.Name())
}
