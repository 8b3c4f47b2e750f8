package disk

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// busOf is where a disk hangs: the directory of its device below /sys/devices, without the disk itself, such as
// "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0".
func (g Gate) busOf(dir, name string) string {
	root, err := filepath.EvalSymlinks(filepath.Join(g.Sys, "devices"))
	if err != nil {
		return ""
	}
	below, ok := strings.CutPrefix(dir, root+"/")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(below, "/"+name), "/block")
}

var (
	pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	ataPort    = regexp.MustCompile(`^ata([0-9]+)$`)
	usbPort    = regexp.MustCompile(`^[0-9]+-([0-9.]+):([0-9]+\.[0-9]+)$`)
	usbHost    = regexp.MustCompile(`^usb[0-9]+$`)
	scsiDevice = regexp.MustCompile(`^[0-9]+:([0-9]+):([0-9]+):([0-9]+)$`)
	nvmeDisk   = regexp.MustCompile(`^nvme[0-9]+(?:c[0-9]+)?n([0-9]+)$`)
)

// pathID names the place of a disk as the links in /dev/disk/by-path do, which an imaging system does not have:
// "pci-0000:00:1f.2-ata-1", "pci-0000:01:00.0-nvme-1", "pci-0000:00:04.0" (virtio),
// "pci-0000:02:00.0-scsi-0:0:1:0", "pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0". "" where the place has no such name.
func (g Gate) pathID(bus, name string) string {
	var pci, rest string
	walked := filepath.Join(g.Sys, "devices")
	for part := range strings.SplitSeq(bus, "/") {
		walked = filepath.Join(walked, part)
		switch {
		case pciAddress.MatchString(part):
			pci, rest = "pci-"+part, ""
		case ataPort.MatchString(part):
			// The kernel counts the ports of all controllers, the name those of one.
			port, err := readText(filepath.Join(walked, "ata_port", part), "port_no")
			if err != nil {
				port = ataPort.FindStringSubmatch(part)[1]
			}
			rest = "-ata-" + port
		case usbPort.MatchString(part):
			m := usbPort.FindStringSubmatch(part)
			rest = "-usb-0:" + m[1] + ":" + m[2]
		case scsiDevice.MatchString(part) && !strings.HasPrefix(rest, "-ata"):
			m := scsiDevice.FindStringSubmatch(part)
			rest += "-scsi-0:" + m[1] + ":" + m[2] + ":" + m[3]
		}
	}
	if m := nvmeDisk.FindStringSubmatch(name); m != nil {
		rest = "-nvme-" + m[1]
	}
	if pci == "" {
		return ""
	}
	return pci + rest
}

// onUSB says whether a disk hangs on USB.
func onUSB(bus string) bool {
	for part := range strings.SplitSeq(bus, "/") {
		if usbHost.MatchString(part) {
			return true
		}
	}
	return false
}

// booted is the device number of the disk which the kernel was told to take its system from (root=/dev/…), "" if it
// was told none, or by another form.
func (g Gate) booted() string {
	line, err := readText(g.Proc, "cmdline")
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(line) {
		path, ok := strings.CutPrefix(word, "root=")
		if !ok || !strings.HasPrefix(path, "/dev/") {
			continue
		}
		n, err := g.Stat(path)
		if err != nil || g.numberOf(path) == "" {
			continue
		}
		if d, err := g.device(n); err == nil {
			dir := d.dir
			if d.parent != "" {
				dir = d.parent
			}
			number, _ := readText(dir, "dev")
			return number
		}
	}
	return ""
}

// ByBus orders disks by where they hang: numbers in the places count as numbers, so that ata10 comes behind ata2;
// addresses of PCI have as many digits and are hexadecimal.
func ByBus(a, b Info) int {
	x, y := strings.Split(a.Bus, "/"), strings.Split(b.Bus, "/")
	for i := range min(len(x), len(y)) {
		c := natural(x[i], y[i])
		if pciAddress.MatchString(x[i]) && pciAddress.MatchString(y[i]) {
			c = strings.Compare(x[i], y[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Or(len(x)-len(y), natural(a.Name, b.Name))
}

// natural compares texts in which runs of decimal digits are numbers.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, errA := strconv.ParseUint(a[:x], 10, 64)
			n, errB := strconv.ParseUint(b[:y], 10, 64)
			if errA == nil && errB == nil && m != n {
				if m < n {
					return -1
				}
				return 1
			}
			if c := strings.Compare(a[:x], b[:y]); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return strings.Compare(a[:1], b[:1])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
