package disk

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Gate answers questions about the disks of a machine: which there are, and whether one may be overwritten. The zero
// value is not useful; [NewGate] gives the one of this machine, tests fill in their own.
type Gate struct {
	Sys  string                          // where sysfs is mounted, normally /sys
	Proc string                          // where procfs is mounted, normally /proc
	Stat func(path string) (Node, error) // follows symbolic links
}

// Node is what the gate needs to know of a path.
type Node struct {
	Mode         fs.FileMode
	Major, Minor uint32 // of a block device
	Size         int64  // of a regular file
}

// NewGate returns the gate of this machine.
func NewGate() Gate { return Gate{Sys: "/sys", Proc: "/proc", Stat: statNode} }

func statNode(path string) (Node, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Node{}, err
	}
	n := Node{Mode: st.Mode(), Size: st.Size()}
	var raw unix.Stat_t
	if err := unix.Stat(path, &raw); err != nil {
		return Node{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	n.Major, n.Minor = unix.Major(raw.Rdev), unix.Minor(raw.Rdev)
	return n, nil
}

// Check says whether path may be overwritten with need bytes of an image made for sectors of sectorSize bytes (0: any).
// See [Gate.Check]. It asks /sys and /proc of this machine.
func Check(path string, need int64, sectorSize int, allowRegular bool) error {
	return NewGate().Check(path, need, sectorSize, allowRegular)
}

// Check is the safety gate: nil means that path is a block device, not mounted, not in use, writable, large enough and
// of the right sector size, it and all its partitions. With allowRegular a regular file, or a path where nothing is
// yet, passes as well. The error wraps one of the sentinels of this package and names what stands in the way. The
// answer is as old as the call: [Open] claims the device exclusively.
func (g Gate) Check(path string, need int64, sectorSize int, allowRegular bool) error {
	n, err := g.Stat(path)
	if os.IsNotExist(err) {
		if allowRegular {
			return nil
		}
		return fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if n.Mode.IsRegular() && allowRegular {
		return nil
	}
	if n.Mode.Type() != fs.ModeDevice {
		return fmt.Errorf("%s: %w (it is %s)", path, ErrNotBlockDevice, kindName(n.Mode))
	}
	d, err := g.device(n)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if err := g.checkUse(d); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if d.readOnly {
		return fmt.Errorf("%s: %w", path, ErrReadOnly)
	}
	if d.size < need {
		return fmt.Errorf("%s: %w: it has %d bytes, the image needs %d", path, ErrTooSmall, d.size, need)
	}
	if sectorSize != 0 && d.sectorSize != sectorSize {
		return fmt.Errorf("%s: %w: the disk has sectors of %d bytes, the image of %d", path, ErrSectorSize, d.sectorSize, sectorSize)
	}
	return nil
}

// node is a block device in sysfs, with everything that a write to it would hit.
type node struct {
	dir        string   // in sysfs
	name       string   // sda, nvme0n1p2
	parts      []string // directories of its partitions
	parent     string   // directory of the disk, if this is a partition
	size       int64
	sectorSize int
	readOnly   bool
}

func (g Gate) device(n Node) (node, error) {
	link := filepath.Join(g.Sys, "dev", "block", devNumber(n.Major, n.Minor))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return node{}, fmt.Errorf("no such device in sysfs: %w", err)
	}
	return g.deviceAt(dir)
}

func (g Gate) deviceAt(dir string) (node, error) {
	d := node{dir: dir, name: filepath.Base(dir)}
	sectors, err := readInt(dir, "size")
	if err != nil {
		return d, err
	}
	d.size = sectors * 512 // sysfs counts in 512 bytes, whatever the device has
	disk := dir
	if exists(dir, "partition") {
		d.parent = filepath.Dir(dir)
		disk = d.parent
	}
	size, err := readInt(disk, "queue/logical_block_size")
	if err != nil {
		return d, err
	}
	d.sectorSize = int(size)
	ro, err := readInt(dir, "ro")
	if err != nil {
		return d, err
	}
	d.readOnly = ro != 0
	entries, err := os.ReadDir(dir)
	if err != nil {
		return d, err
	}
	for _, e := range entries {
		if sub := filepath.Join(dir, e.Name()); exists(sub, "partition") {
			d.parts = append(d.parts, sub)
		}
	}
	return d, nil
}

// checkUse looks for mounts, swap and holders on the device, its partitions and, for a partition, its disk (a disk that
// is a member of a RAID is in use whatever partition is meant).
func (g Gate) checkUse(d node) error {
	numbers := map[string]string{}
	dirs := append([]string{d.dir}, d.parts...)
	for _, dir := range dirs {
		number, err := readText(dir, "dev")
		if err != nil {
			return err
		}
		numbers[number] = filepath.Base(dir)
	}
	if err := g.checkMounts(numbers); err != nil {
		return err
	}
	if err := g.checkSwaps(numbers); err != nil {
		return err
	}
	if d.parent != "" {
		dirs = append(dirs, d.parent)
	}
	for _, dir := range dirs {
		holders, err := os.ReadDir(filepath.Join(dir, "holders"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if len(holders) > 0 {
			return fmt.Errorf("%w: %s is held by %s (RAID, LVM or device mapper)", ErrInUse, filepath.Base(dir), holders[0].Name())
		}
	}
	return nil
}

// checkMounts reads mountinfo. The device number of a btrfs mount is not that of its disk, so the source is looked up
// as well.
func (g Gate) checkMounts(numbers map[string]string) error {
	return eachLine(filepath.Join(g.Proc, "self", "mountinfo"), func(line string) error {
		before, after, _ := strings.Cut(line, " - ")
		fields, source := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 {
			return nil
		}
		name, ok := numbers[fields[2]]
		if !ok && len(source) >= 2 && strings.HasPrefix(source[1], "/") {
			name, ok = numbers[g.numberOf(unescape(source[1]))]
		}
		if ok {
			return fmt.Errorf("%w: %s on %s", ErrMounted, name, unescape(fields[4]))
		}
		return nil
	})
}

func (g Gate) checkSwaps(numbers map[string]string) error {
	return eachLine(filepath.Join(g.Proc, "swaps"), func(line string) error {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != "partition" {
			return nil
		}
		if name, ok := numbers[g.numberOf(unescape(fields[0]))]; ok {
			return fmt.Errorf("%w: %s is swap space", ErrInUse, name)
		}
		return nil
	})
}

// numberOf is the device number of a path, or "" if it is not a block device.
func (g Gate) numberOf(path string) string {
	n, err := g.Stat(path)
	if err != nil || n.Mode.Type() != fs.ModeDevice {
		return ""
	}
	return devNumber(n.Major, n.Minor)
}

func devNumber(major, minor uint32) string { return fmt.Sprintf("%d:%d", major, minor) }

// eachLine calls f for each line of a file of procfs; a file that is not there has no lines (swaps, in a small kernel).
func eachLine(path string, f func(string) error) error {
	file, err := os.Open(path)
	if os.IsNotExist(err) && filepath.Base(path) == "swaps" {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if err := f(s.Text()); err != nil {
			return err
		}
	}
	return s.Err()
}

// unescape undoes the octal escapes of procfs: \040 is a space.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func readText(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b)), err
}

func readInt(dir, name string) (int64, error) {
	s, err := readText(dir, name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%s: %q is not a number", filepath.Join(dir, name), s)
	}
	return v, nil
}
