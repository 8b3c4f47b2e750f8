package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// machine builds a /sys and /proc of a machine with these disks:
//
//	sda (8:0): SCSI, 1000000 sectors, partitions sda1 (8:1), sda2 (8:2)
//	sdb (8:16): SCSI, same model, no partitions
//	nvme0n1 (259:0): NVMe with sectors of 4096 bytes, partition nvme0n1p1 (259:1)
//	vda (252:0): virtio, read-only
//	sdc (8:32): removable, no medium
//	loop0 (7:0), dm-0 (253:0), sr0 (11:0): no disks
type machine struct {
	t    *testing.T
	root string
	gate Gate
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, root: t.TempDir()}
	devices := map[string]Node{}
	m.gate = Gate{Sys: filepath.Join(m.root, "sys"), Proc: filepath.Join(m.root, "proc"), Stat: func(path string) (Node, error) {
		n, ok := devices[path]
		if !ok {
			return Node{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
		}
		return n, nil
	}}
	add := func(dir, number string, major, minor uint32, files map[string]string) {
		name := filepath.Base(dir)
		base := filepath.Join("sys/devices", dir)
		m.write(filepath.Join(base, "dev"), number)
		m.write(filepath.Join(base, "ro"), "0")
		require.NoError(t, os.MkdirAll(m.path(base, "holders"), 0o755))
		for k, v := range files {
			m.write(filepath.Join(base, k), v)
		}
		m.link(filepath.Join("../../devices", dir), filepath.Join("sys/dev/block", number))
		if files["partition"] == "" {
			m.link(filepath.Join("../devices", dir), filepath.Join("sys/block", name))
		}
		devices["/dev/"+name] = Node{Mode: fs.ModeDevice | 0o660, Major: major, Minor: minor}
	}
	link := func(path, name string) { devices[path] = devices[name] }
	add("pci/ata1/block/sda", "8:0", 8, 0, map[string]string{"size": "1000000", "queue/logical_block_size": "512",
		"device/model": "ST1000  ", "device/vendor": "ATA     ", "device/wwid": "naa.5000c500a1b2c3d4", "device/vpd_pg80": "\x00\x80\x00\x08  Z4Y1  \n"})
	add("pci/ata1/block/sda/sda1", "8:1", 8, 1, map[string]string{"size": "500000", "partition": "1"})
	add("pci/ata1/block/sda/sda2", "8:2", 8, 2, map[string]string{"size": "499000", "partition": "2"})
	add("pci/ata2/block/sdb", "8:16", 8, 16, map[string]string{"size": "1000000", "queue/logical_block_size": "512",
		"device/model": "ST1000", "device/vendor": "ATA", "device/vpd_pg80": "\x00\x80\x00\x04Z4Y2"})
	add("pci/nvme/nvme0/nvme0n1", "259:0", 259, 0, map[string]string{"size": "8000000", "queue/logical_block_size": "4096",
		"device/model": "Fast", "device/serial": "S5", "wwid": "eui.0025385b"})
	add("pci/nvme/nvme0/nvme0n1/nvme0n1p1", "259:1", 259, 1, map[string]string{"size": "7000000", "partition": "1"})
	add("pci/virtio0/block/vda", "252:0", 252, 0, map[string]string{"size": "20480", "queue/logical_block_size": "512",
		"ro": "1", "serial": "disk-1", "device/vendor": "0x1af4"})
	add("pci/usb/block/sdc", "8:32", 8, 32, map[string]string{"size": "0", "queue/logical_block_size": "512", "removable": "1",
		"device/model": "Reader"})
	add("virtual/block/loop0", "7:0", 7, 0, map[string]string{"size": "100", "queue/logical_block_size": "512"})
	add("virtual/block/dm-0", "253:0", 253, 0, map[string]string{"size": "100", "queue/logical_block_size": "512"})
	add("pci/ata3/block/sr0", "11:0", 11, 0, map[string]string{"size": "100", "queue/logical_block_size": "2048", "device/model": "DVD"})
	devices["/dev/null"] = Node{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}
	devices["/srv"] = Node{Mode: fs.ModeDir | 0o755}
	devices["/srv/disk.img"] = Node{Mode: 0o644}
	devices["/dev/gone"] = Node{Mode: fs.ModeDevice, Major: 9, Minor: 99}
	link("/dev/disk/by-id/ata-ST1000_Z4Y1", "/dev/sda")
	link("/dev/my disk1", "/dev/sda1")
	m.write("proc/self/mountinfo", "22 1 0:20 / / rw,relatime - rootfs rootfs rw\n"+
		"23 22 0:21 / /sys rw shared:7 - sysfs sysfs rw\n")
	m.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	return m
}

func (m *machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.root}, parts...)...)
}

func (m *machine) write(name, text string) {
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.WriteFile(m.path(name), []byte(text), 0o644))
}

func (m *machine) link(to, name string) {
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.Symlink(to, m.path(name)))
}

func (m *machine) mounted(line string) {
	b, err := os.ReadFile(m.path("proc/self/mountinfo"))
	require.NoError(m.t, err)
	m.write("proc/self/mountinfo", string(b)+line+"\n")
}

func TestGate(t *testing.T) {
	const half = 256 << 20
	for _, c := range []struct {
		name    string
		prepare func(m *machine)
		path    string
		need    int64
		sector  int
		regular bool
		is      error // nil: may be overwritten
		says    string
	}{
		{name: "free disk", path: "/dev/sda", need: half, sector: 512},
		{name: "by id", path: "/dev/disk/by-id/ata-ST1000_Z4Y1", need: half, sector: 512},
		{name: "just fits", path: "/dev/sda", need: 512000000},
		{name: "one byte short", path: "/dev/sda", need: 512000001, is: ErrTooSmall, says: "it has 512000000 bytes, the image needs 512000001"},
		{name: "free partition", path: "/dev/sda1", need: half - 20<<20, sector: 512},
		{name: "partition too small", path: "/dev/sda1", need: half, is: ErrTooSmall},
		{name: "missing", path: "/dev/sdz", is: ErrNotFound},
		{name: "missing file", path: "/srv/new", regular: true},
		{name: "regular file", path: "/srv/disk.img", is: ErrNotBlockDevice, says: "a regular file"},
		{name: "regular file allowed", path: "/srv/disk.img", regular: true},
		{name: "directory", path: "/srv", regular: true, is: ErrNotBlockDevice, says: "a directory"},
		{name: "character device", path: "/dev/null", regular: true, is: ErrNotBlockDevice, says: "a character device"},
		{name: "unknown to sysfs", path: "/dev/gone", is: fs.ErrNotExist},
		{name: "4096-byte sectors", path: "/dev/nvme0n1", sector: 512, is: ErrSectorSize, says: "sectors of 4096 bytes"},
		{name: "4096-byte sectors of a partition", path: "/dev/nvme0n1p1", sector: 512, is: ErrSectorSize},
		{name: "any sectors", path: "/dev/nvme0n1"},
		{name: "read-only", path: "/dev/vda", is: ErrReadOnly},
		{name: "mounted", path: "/dev/sdb", is: ErrMounted, says: "sdb on /mnt/old data",
			prepare: func(m *machine) { m.mounted(`30 22 8:16 / /mnt/old\040data rw - ext4 /dev/sdb rw`) }},
		{name: "partition mounted", path: "/dev/sda", is: ErrMounted, says: "sda2 on /home",
			prepare: func(m *machine) { m.mounted("30 22 8:2 / /home rw,noatime master:1 - ext4 /dev/sda2 rw") }},
		{name: "mounted partition", path: "/dev/sda2", is: ErrMounted,
			prepare: func(m *machine) { m.mounted("30 22 8:2 / /home rw - ext4 /dev/sda2 rw") }},
		{name: "neighbour mounted", path: "/dev/sda1",
			prepare: func(m *machine) { m.mounted("30 22 8:2 / /home rw - ext4 /dev/sda2 rw") }},
		{name: "other disk mounted", path: "/dev/sdb",
			prepare: func(m *machine) { m.mounted("30 22 8:2 / /home rw - ext4 /dev/sda2 rw") }},
		{name: "btrfs has its own number", path: "/dev/sda", is: ErrMounted, says: "sda1 on /data",
			prepare: func(m *machine) { m.mounted(`30 22 0:45 /vol /data rw - btrfs /dev/my\040disk1 rw`) }},
		{name: "swap", path: "/dev/sda", is: ErrInUse, says: "sda2 is swap",
			prepare: func(m *machine) {
				m.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 499996 0 -2\n")
			}},
		{name: "swap file", path: "/dev/sda",
			prepare: func(m *machine) {
				m.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 file 499996 0 -2\n")
			}},
		{name: "kernel without swap", path: "/dev/sda",
			prepare: func(m *machine) { require.NoError(m.t, os.Remove(m.path("proc/swaps"))) }},
		{name: "LVM on a partition", path: "/dev/sda", is: ErrInUse, says: "sda1 is held by dm-0",
			prepare: func(m *machine) { m.link("../../../x", "sys/devices/pci/ata1/block/sda/sda1/holders/dm-0") }},
		{name: "RAID on the disk", path: "/dev/sdb", is: ErrInUse, says: "sdb is held by md127",
			prepare: func(m *machine) { m.link("../../x", "sys/devices/pci/ata2/block/sdb/holders/md127") }},
		{name: "partition of a RAID member", path: "/dev/sda1", is: ErrInUse, says: "sda is held by md127",
			prepare: func(m *machine) { m.link("../../x", "sys/devices/pci/ata1/block/sda/holders/md127") }},
		{name: "no mountinfo", path: "/dev/sda", is: fs.ErrNotExist, says: "mountinfo",
			prepare: func(m *machine) { require.NoError(m.t, os.Remove(m.path("proc/self/mountinfo"))) }},
		{name: "unreadable size", path: "/dev/sda", says: "is not a number", is: errAny,
			prepare: func(m *machine) { m.write("sys/devices/pci/ata1/block/sda/size", "many") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.prepare != nil {
				c.prepare(m)
			}
			err := m.gate.Check(c.path, c.need, c.sector, c.regular)
			switch c.is {
			case nil:
				require.NoError(t, err)
				return
			case errAny:
				require.Error(t, err)
			default:
				require.ErrorIs(t, err, c.is)
			}
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, c.path)
		})
	}
}

// errAny stands for an error without a sentinel.
var errAny = fs.ErrInvalid

func TestList(t *testing.T) {
	list, err := newMachine(t).gate.List()
	require.NoError(t, err)
	require.Equal(t, []Info{
		{Name: "nvme0n1", Path: "/dev/nvme0n1", Size: 4096000000, SectorSize: 4096, Serial: "S5", WWN: "eui.0025385b", Model: "Fast", Bus: "pci/nvme/nvme0"},
		{Name: "sda", Path: "/dev/sda", Size: 512000000, SectorSize: 512, Serial: "Z4Y1", WWN: "naa.5000c500a1b2c3d4", Model: "ATA ST1000", Bus: "pci/ata1"},
		{Name: "sdb", Path: "/dev/sdb", Size: 512000000, SectorSize: 512, Serial: "Z4Y2", Model: "ATA ST1000", Bus: "pci/ata2"},
		{Name: "vda", Path: "/dev/vda", Size: 10485760, SectorSize: 512, Serial: "disk-1", ReadOnly: true, Bus: "pci/virtio0"},
	}, list)
}

func TestFind(t *testing.T) {
	g := newMachine(t).gate
	for _, c := range []struct {
		selector, want string
		is             error
	}{
		{"/dev/sda", "sda", nil},
		{"/dev/disk/by-id/ata-ST1000_Z4Y1", "sda", nil},
		{"sdb", "sdb", nil},
		{"serial=Z4Y2", "sdb", nil},
		{"wwn=eui.0025385b", "nvme0n1", nil},
		{"model=Fast", "nvme0n1", nil},
		{"model=ATA ST1000", "", ErrAmbiguous},
		{"only", "", ErrAmbiguous},
		{"serial=", "", ErrNotFound},
		{"wwn=", "", ErrNotFound},
		{"", "", ErrNotFound},
		{"/dev/sda1", "", ErrNotFound},
		{"loop0", "", ErrNotFound},
	} {
		d, err := g.Find(c.selector)
		if c.is == nil {
			require.NoError(t, err, c.selector)
			require.Equal(t, c.want, d.Name)
			continue
		}
		require.ErrorIs(t, err, c.is, c.selector)
		require.ErrorContains(t, err, "/dev/sda", "the message lists what there is")
	}
}

// The gate of the machine that runs the test must at least protect the disk this test runs from.
func TestGateOfThisMachine(t *testing.T) {
	list, err := NewGate().List()
	if os.IsNotExist(err) {
		t.Skip("no /sys/block here")
	}
	require.NoError(t, err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skip("no /proc here")
	}
	for _, d := range list {
		n, err := os.ReadFile(filepath.Join("/sys/block", d.Name, "dev"))
		require.NoError(t, err)
		if _, err := os.Stat(d.Path); err != nil || !strings.Contains(string(mounts), " "+strings.TrimSpace(string(n))+" ") {
			continue
		}
		require.ErrorIs(t, Check(d.Path, 0, 0, false), ErrMounted)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\`: `/a\`, `\134\0`: `\\0`, `\999x`: `\999x`, "": ""} {
		require.Equal(t, want, unescape(in))
	}
}
