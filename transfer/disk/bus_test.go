package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// hung builds a machine with disks at these places below /sys/devices.
func hung(t *testing.T, cmdline string, places map[string]string) Gate {
	root := t.TempDir()
	write := func(text string, path ...string) {
		p := filepath.Join(append([]string{root}, path...)...)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, []byte(text), 0o644))
	}
	nodes := map[string]Node{}
	for _, dir := range []string{"sys/block", "sys/dev/block"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	minor := uint32(0)
	for name, place := range places {
		minor++
		dir := filepath.Join("sys/devices", place, "block", name)
		number := devNumber(8, minor)
		for file, text := range map[string]string{"size": "2048", "queue/logical_block_size": "512", "queue/rotational": "1", "ro": "0", "dev": number} {
			write(text, dir, file)
		}
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir, "device"), 0o755))
		require.NoError(t, os.Symlink(filepath.Join(root, dir), filepath.Join(root, "sys/block", name)))
		require.NoError(t, os.Symlink(filepath.Join(root, dir), filepath.Join(root, "sys/dev/block", number)))
		nodes["/dev/"+name] = Node{Mode: fs.ModeDevice, Major: 8, Minor: minor}
	}
	write("2", "sys/devices/pci0000:00/0000:00:1f.2/ata7/ata_port/ata7", "port_no")
	write(cmdline, "proc/cmdline")
	return Gate{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Stat: func(path string) (Node, error) {
		if n, ok := nodes[path]; ok {
			return n, nil
		}
		return Node{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}}
}

func TestPlaces(t *testing.T) {
	g := hung(t, "quiet root=/dev/vda ro", map[string]string{
		"sda":     "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0",
		"sdb":     "pci0000:00/0000:00:1f.2/ata7/host6/target6:0:0/6:0:0:0",
		"sdc":     "pci0000:00/0000:00:1f.2/ata10/host9/target9:0:0/9:0:0:0",
		"sdd":     "pci0000:00/0000:00:14.0/usb2/2-1/2-1.3/2-1.3:1.0/host11/target11:0:0/11:0:0:0",
		"sde":     "pci0000:00/0000:00:01.0/0000:02:00.0/host12/target12:0:1/12:0:1:0",
		"nvme0n1": "pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0",
		"vda":     "pci0000:00/0000:00:04.0/virtio1",
		"odd":     "platform/somewhere",
	})
	list, err := g.List()
	require.NoError(t, err)
	places := map[string]string{}
	for _, d := range list {
		places[d.Name] = d.PathID
		require.Equal(t, d.Name == "sdd", d.USB, d.Name)
		require.Equal(t, d.Name == "vda", d.Boot, d.Name)
		require.Equal(t, d.Name == "sdd" || d.Name == "vda", d.Spare(), d.Name)
		require.True(t, d.Rotational)
	}
	require.Equal(t, map[string]string{
		"sda": "pci-0000:00:1f.2-ata-1", "sdb": "pci-0000:00:1f.2-ata-2", "sdc": "pci-0000:00:1f.2-ata-10",
		"sdd": "pci-0000:00:14.0-usb-0:1.3:1.0-scsi-0:0:0:0", "sde": "pci-0000:02:00.0-scsi-0:0:1:0",
		"nvme0n1": "pci-0000:03:00.0-nvme-1", "vda": "pci-0000:00:04.0", "odd": "",
	}, places)
	for selector, want := range map[string]string{
		"path=pci-0000:03:00.0-nvme-1": "nvme0n1", "/dev/disk/by-path/pci-0000:00:1f.2-ata-2": "sdb", "path=virtio-pci-0000:00:04.0": "vda",
	} {
		d, err := g.Find(selector)
		require.NoError(t, err, selector)
		require.Equal(t, want, d.Name)
	}
	for _, none := range []string{"path=", "path=pci", "/dev/disk/by-path/"} {
		_, err := g.Find(none)
		require.ErrorIs(t, err, ErrNotFound, none)
	}
	slices.SortFunc(list, ByBus)
	var order []string
	for _, d := range list {
		order = append(order, d.Name)
	}
	require.Equal(t, []string{"sde", "vda", "sdd", "nvme0n1", "sda", "sdb", "sdc", "odd"}, order)
}

func TestNatural(t *testing.T) {
	for _, c := range [][2]string{{"", "a"}, {"ata2", "ata10"}, {"a1b", "a1c"}, {"a01", "a1"}, {"a99999999999999999999999", "b"}} {
		require.Negative(t, natural(c[0], c[1]), c)
		require.Positive(t, natural(c[1], c[0]), c)
		require.Zero(t, natural(c[0], c[0]))
	}
}
