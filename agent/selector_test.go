package agent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/transfer/disk"
)

// fakeDisk is a disk in a made-up sysfs.
type fakeDisk struct {
	name      string
	sectors   int64
	serial    string
	removable bool
	sector    int
}

func fakeGate(t testing.TB, mounts string, disks ...fakeDisk) disk.Gate {
	t.Helper()
	root := t.TempDir()
	write := func(text string, path ...string) {
		t.Helper()
		p := filepath.Join(append([]string{root}, path...)...)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o777))
		require.NoError(t, os.WriteFile(p, []byte(text+"\n"), 0o666))
	}
	nodes := map[string]disk.Node{}
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/block"), 0o777))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o777))
	for i, d := range disks {
		dir := filepath.Join("sys/devices", d.name)
		write(fmt.Sprint(d.sectors), dir, "size")
		write(fmt.Sprint(max(d.sector, 512)), dir, "queue/logical_block_size")
		write("0", dir, "ro")
		write(fmt.Sprintf("8:%d", i), dir, "dev")
		write(d.serial, dir, "device/serial")
		write(map[bool]string{true: "1", false: "0"}[d.removable], dir, "removable")
		require.NoError(t, os.Symlink(filepath.Join(root, dir), filepath.Join(root, "sys/block", d.name)))
		require.NoError(t, os.Symlink(filepath.Join(root, dir), filepath.Join(root, "sys/dev/block", fmt.Sprintf("8:%d", i))))
		nodes["/dev/"+d.name] = disk.Node{Mode: fs.ModeDevice, Major: 8, Minor: uint32(i)}
	}
	write(mounts, "proc/self/mountinfo")
	return disk.Gate{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Stat: func(path string) (disk.Node, error) {
		if n, ok := nodes[path]; ok {
			return n, nil
		}
		return disk.Node{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}}
}

func TestSelectDisk(t *testing.T) {
	const gb = 1_000_000_000 / 512
	gate := fakeGate(t, "",
		fakeDisk{name: "sda", sectors: 500 * gb, serial: "A1"},
		fakeDisk{name: "sdb", sectors: 500 * gb, serial: "B2"},
		fakeDisk{name: "nvme0n1", sectors: 1000 * gb, serial: "N0"},
		fakeDisk{name: "nvme1n1", sectors: 250 * gb, serial: "N1"},
		fakeDisk{name: "sdc", sectors: 4000 * gb, serial: "USB", removable: true},
	)
	for selector, want := range map[string]any{
		"/dev/sda":          "sda",
		"sdb":               "sdb",
		"serial=B2":         "sdb",
		"largest":           "nvme0n1", // not the USB disk
		"smallest":          "nvme1n1",
		"/dev/sdc":          "sdc", // what is named is meant
		"serial=USB":        "sdc",
		"first":             "nvme0n1",
		"second":            "nvme1n1",
		"third":             "sda",
		"fourth":            disk.ErrNotFound,
		"first-scsi":        "sda",
		"first-virtio":      disk.ErrNotFound,
		"first-floppy":      disk.ErrNotFound,
		"size>=600G":        "nvme0n1",
		"size>=4T":          disk.ErrNotFound,
		"size<=300G":        "nvme1n1",
		"size<=600G":        disk.ErrAmbiguous,
		"size=465Gi":        disk.ErrAmbiguous,
		"size=931Gi":        "nvme0n1",
		"size=250000000000": "nvme1n1",
		"size=250000000001": disk.ErrNotFound,
		"size>500G":         disk.ErrNotFound,
		"size=5 G":          disk.ErrNotFound,
		"colour=blue":       disk.ErrNotFound,
		"/dev/hda":          disk.ErrAmbiguous,
		"/dev/hdb":          disk.ErrNotFound,
		" sda":              disk.ErrNotFound,
		"../sda":            disk.ErrNotFound,
		"first-nvme":        "nvme0n1",
		"size=250G":         "nvme1n1",
		"size=1T":           "nvme0n1",
		"size=1000000K":     disk.ErrNotFound,
		"size=500G":         disk.ErrAmbiguous,
		"size=":             disk.ErrNotFound,
		"size=-1":           disk.ErrNotFound,
		"size=99999999T":    disk.ErrNotFound,
		"serial=":           disk.ErrNotFound,
		"serial=ZZ":         disk.ErrNotFound,
		"only":              disk.ErrAmbiguous,
		"":                  disk.ErrNotFound,
		"/dev/sdz":          disk.ErrNotFound,
	} {
		info, err := selectDisk(gate, selector)
		if wanted, ok := want.(error); ok {
			require.ErrorIs(t, err, wanted, selector)
			continue
		}
		require.NoError(t, err, selector)
		require.Equal(t, want, info.Name, selector)
	}
	twins := fakeGate(t, "", fakeDisk{name: "sda", sectors: 5}, fakeDisk{name: "sdb", sectors: 5})
	_, err := selectDisk(twins, "largest")
	require.ErrorIs(t, err, disk.ErrAmbiguous)
	_, err = selectDisk(twins, "first-nvme")
	require.ErrorIs(t, err, disk.ErrNotFound)
	_, err = selectDisk(fakeGate(t, ""), "largest")
	require.ErrorIs(t, err, disk.ErrNotFound)
}

// TestLegacyDisk: /dev/hda is the only disk of a machine that has no IDE driver, and only that.
func TestLegacyDisk(t *testing.T) {
	one := fakeGate(t, "", fakeDisk{name: "sda", sectors: 5}, fakeDisk{name: "sdb", sectors: 9, removable: true, serial: "STICK"})
	for _, text := range []string{"/dev/hda", "hda", "only"} {
		d, err := selectDisk(one, text)
		require.NoError(t, err)
		require.Equal(t, "sda", d.Name)
	}
	old := fakeGate(t, "", fakeDisk{name: "hda", sectors: 5}, fakeDisk{name: "sda", sectors: 5})
	d, err := selectDisk(old, "/dev/hda")
	require.NoError(t, err)
	require.Equal(t, "hda", d.Name, "where there is one it is meant")
	two := fakeGate(t, "", fakeDisk{name: "sda", sectors: 5, serial: "A"}, fakeDisk{name: "sdb", sectors: 9, serial: "B"})
	_, err = selectDisk(two, "/dev/hda")
	require.ErrorIs(t, err, disk.ErrAmbiguous)
	require.ErrorContains(t, err, "/dev/sda (2560 bytes, serial A, path unknown), /dev/sdb (4608 bytes, serial B, path unknown)")
	require.ErrorContains(t, err, "in the inventory")
	stick := fakeGate(t, "", fakeDisk{name: "sdb", sectors: 9, removable: true, serial: "STICK"})
	for _, text := range []string{"/dev/hda", "largest", "only", "first", "size>=1"} {
		_, err = selectDisk(stick, text)
		require.ErrorIs(t, err, disk.ErrNotFound, text)
	}
	_, err = selectDisk(stick, "largest")
	require.ErrorContains(t, err, "passed over")
	require.ErrorContains(t, err, "STICK")
}

// FuzzSelector: whatever a selector says, it means one disk that is there, or the error says why not; what can be taken
// away is meant by its name only.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{"/dev/sda", "sda", "serial=A1", "size>=500Gi", "size=1T", "largest", "first-nvme", "/dev/hda", "path=pci-0000:00:04.0", "only", "size=99999999999999999999T"} {
		f.Add(s)
	}
	gate := fakeGate(f, "", fakeDisk{name: "sda", sectors: 1 << 21, serial: "A1"}, fakeDisk{name: "nvme0n1", sectors: 1 << 22},
		fakeDisk{name: "sdz", sectors: 1 << 23, removable: true, serial: "U"})
	f.Fuzz(func(t *testing.T, text string) {
		d, err := selectDisk(gate, text)
		if err != nil {
			require.True(t, refusedDisk(err), "%v", err)
			return
		}
		require.Contains(t, []string{"sda", "nvme0n1", "sdz"}, d.Name)
		if d.Removable {
			require.Contains(t, []string{"sdz", "/dev/sdz", "serial=U"}, text)
		}
	})
}

// TestGateOfLinuxMachine: every reason for which a disk must not be touched is
// a refusal, and nothing is opened.
func TestGateOfLinuxMachine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o666))
	sda := fakeDisk{name: "sda", sectors: 2048, serial: "A1"}
	for name, c := range map[string]struct {
		gate     disk.Gate
		selector string
		need     int64
		sector   int
		want     error
	}{
		"mounted":          {fakeGate(t, "22 1 8:0 / / rw - ext4 /dev/sda rw", sda), "/dev/sda", 512, 512, disk.ErrMounted},
		"too small":        {fakeGate(t, "", sda), "/dev/sda", 2049 * 512, 512, disk.ErrTooSmall},
		"other sectors":    {fakeGate(t, "", fakeDisk{name: "sda", sectors: 2048, sector: 4096}), "sda", 512, 512, disk.ErrSectorSize},
		"not there":        {fakeGate(t, "", sda), "/dev/sdb", 512, 512, disk.ErrNotFound},
		"ambiguous":        {fakeGate(t, "", sda, fakeDisk{name: "sdb", sectors: 2048}), "largest", 512, 512, disk.ErrAmbiguous},
		"a regular file":   {disk.NewGate(), file, 512, 512, disk.ErrNotFound},
		"a new file":       {disk.NewGate(), filepath.Join(dir, "new"), 512, 512, disk.ErrNotFound},
		"a directory":      {disk.NewGate(), dir, 512, 512, disk.ErrNotFound},
		"a character file": {disk.NewGate(), "/dev/null", 512, 512, disk.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			m := &LinuxMachine{RAMSystem: true, Gate: c.gate}
			_, _, err := m.OpenDisk(t.Context(), c.selector, c.need, c.sector)
			require.ErrorIs(t, err, c.want)
			f := failure(err, stepDisk, nil)
			require.Equal(t, events.ClassRefused, f.Class)
			require.False(t, f.Retryable)
		})
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
	require.NoFileExists(t, filepath.Join(dir, "new"))

	allowed := &LinuxMachine{AllowRegular: true}
	for _, path := range []string{file, filepath.Join(dir, "new")} {
		target, d, err := allowed.OpenDisk(t.Context(), path, 512, 512)
		require.NoError(t, err)
		require.Equal(t, path, d.Path)
		require.NoError(t, target.Close())
	}
	for _, path := range []string{dir, "/dev/null", "file"} {
		_, _, err := allowed.OpenDisk(t.Context(), path, 512, 512)
		require.Error(t, err, path)
	}
}

func TestLinuxMachine(t *testing.T) {
	m := &LinuxMachine{RAMSystem: true, Gate: fakeGate(t, "", fakeDisk{name: "sda", sectors: 2048, serial: "A1"})}
	hw, err := m.Hardware(t.Context())
	require.NoError(t, err)
	require.Equal(t, []events.Disk{{Path: "/dev/sda", Serial: "A1", Size: 1 << 20, SectorSize: 512}}, hw.Disks)
	require.True(t, m.Imaging())

	conn, err := m.Join(events.Session{Group: "239.192.200.1", Port: 23456, Server: "127.0.0.1", Local: true})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", conn.Addr().Addr().String())
	require.NoError(t, conn.Close())
	_, err = m.Join(events.Session{Group: "everybody", Port: 1, Server: "127.0.0.1", Local: true})
	require.ErrorContains(t, err, "group")

	local, err := routeTo("127.0.0.1")
	require.NoError(t, err)
	require.True(t, local.IsLoopback())
}

// TestDocumentedSelectors: what docs/disks.md shows is understood.
func TestDocumentedSelectors(t *testing.T) {
	text, err := os.ReadFile("../docs/disks.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "\n| selector | means |\n|---|---|\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	seen := 0
	for line := range strings.Lines(table) {
		first := strings.Split(line, "|")[1]
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			_, err := parseSelector(strings.ReplaceAll(m[1], "…", "x"))
			require.NoError(t, err, m[1])
			seen++
		}
	}
	require.Greater(t, seen, 15)
}
