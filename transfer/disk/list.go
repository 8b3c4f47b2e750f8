package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Info is the identity of a disk.
type Info struct {
	Name       string `json:"name"`             // sda, nvme0n1
	Path       string `json:"path"`             // /dev/sda
	Size       int64  `json:"size"`             // bytes
	SectorSize int    `json:"sectorSize"`       // logical, bytes
	Serial     string `json:"serial,omitempty"` // as the disk reports it
	WWN        string `json:"wwn,omitempty"`    // naa.…, eui.…, or what the system has
	Model      string `json:"model,omitempty"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
	Removable  bool   `json:"removable,omitempty"`
	Rotational bool   `json:"rotational,omitempty"`
	USB        bool   `json:"usb,omitempty"`
	Boot       bool   `json:"boot,omitempty"`   // the kernel was told that its system is on it
	Bus        string `json:"bus,omitempty"`    // where it hangs, below /sys/devices
	PathID     string `json:"pathID,omitempty"` // the same as /dev/disk/by-path has it
}

// Spare says that a disk is one that only its own name means: it can be taken away, or the system came from it.
func (d Info) Spare() bool { return d.Removable || d.USB || d.Boot }

// List returns the disks in the order of their names: whole disks with a device behind them and a medium inside, so no
// loop devices, RAM disks, RAID or LVM volumes, and no optical or floppy drives.
func (g Gate) List() ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(g.Sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	booted := g.booted()
	var list []Info
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "sr") || strings.HasPrefix(name, "fd") {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(g.Sys, "block", name))
		if err != nil || !exists(dir, "device") {
			continue
		}
		d, err := g.deviceAt(dir)
		if err != nil || d.size == 0 { // gone meanwhile, or an empty card reader
			continue
		}
		info := Info{Name: name, Path: "/dev/" + name, Size: d.size, SectorSize: d.sectorSize, ReadOnly: d.readOnly}
		info.Serial = serial(dir)
		info.WWN = firstText(dir, "wwid", "device/wwid")
		info.Model = model(dir)
		removable, _ := readInt(dir, "removable")
		info.Removable = removable == 1
		rotational, _ := readInt(dir, "queue/rotational")
		info.Rotational = rotational == 1
		info.Bus = g.busOf(dir, name)
		info.PathID = g.pathID(info.Bus, name)
		info.USB = onUSB(info.Bus)
		number, err := readText(dir, "dev")
		info.Boot = err == nil && number == booted
		list = append(list, info)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// model is vendor and model as SCSI has them, or the model alone. The vendor of virtio is a PCI number and says nothing.
func model(dir string) string {
	vendor := firstText(dir, "device/vendor")
	if strings.HasPrefix(vendor, "0x") {
		vendor = ""
	}
	return strings.Join(strings.Fields(vendor+" "+firstText(dir, "device/model")), " ")
}

// serial looks where NVMe, virtio and SCSI (vital product data page 80h: four bytes of header) keep it.
func serial(dir string) string {
	if s := firstText(dir, "serial", "device/serial"); s != "" {
		return s
	}
	b, err := os.ReadFile(filepath.Join(dir, "device", "vpd_pg80"))
	if err != nil || len(b) < 4 {
		return ""
	}
	return printable(string(b[4:]))
}

func firstText(dir string, names ...string) string {
	for _, name := range names {
		if s, err := readText(dir, name); err == nil && s != "" {
			return printable(s)
		}
	}
	return ""
}

// printable keeps what a disk says about itself fit for logs and messages.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), 256)])
}

// Find returns the one disk that a selector means: a path, a name, "serial=S", "wwn=W", "model=M", "path=P" for a place
// as /dev/disk/by-path has it, or "only" for the only disk of the machine that is not [Info.Spare]. No match is ErrNotFound, several are ErrAmbiguous; both list what there is.
func (g Gate) Find(selector string) (Info, error) {
	list, err := g.List()
	if err != nil {
		return Info{}, err
	}
	var match []Info
	for _, d := range list {
		if g.selects(selector, d) {
			match = append(match, d)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		return Info{}, fmt.Errorf("%q: %w; there are: %s", selector, ErrNotFound, describeAll(list))
	}
	return Info{}, fmt.Errorf("%q: %w: %s", selector, ErrAmbiguous, describeAll(match))
}

func (g Gate) selects(selector string, d Info) bool {
	key, value, ok := strings.Cut(selector, "=")
	switch {
	case ok && key == "serial":
		return value != "" && d.Serial == value
	case ok && key == "wwn":
		return value != "" && d.WWN == value
	case ok && key == "model":
		return value != "" && d.Model == value
	case ok && key == "path":
		return isPlace(value, d)
	case selector == "only":
		return !d.Spare()
	case strings.HasPrefix(selector, "/"):
		if place, ok := strings.CutPrefix(selector, byPath); selector == d.Path || ok && isPlace(place, d) {
			return true
		}
		dev, err := readText(filepath.Join(g.Sys, "block", d.Name), "dev")
		return err == nil && dev == g.numberOf(selector) // /dev/disk/by-id/…
	}
	return selector == d.Name
}

// byPath is where links by places are, where there are any.
const byPath = "/dev/disk/by-path/"

// isPlace says whether a disk hangs where a name of /dev/disk/by-path says. Older systems call virtio by its own name.
func isPlace(place string, d Info) bool {
	return place != "" && d.PathID != "" && (place == d.PathID || place == "virtio-"+d.PathID)
}

func describeAll(list []Info) string {
	if len(list) == 0 {
		return "none"
	}
	var s []string
	for _, d := range list {
		s = append(s, fmt.Sprintf("%s (%s, %d bytes, serial %q)", d.Path, d.Model, d.Size, d.Serial))
	}
	return strings.Join(s, ", ")
}
