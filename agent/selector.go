package agent

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"loadnode/transfer/disk"
)

// selector is a parsed disk selector.
//
//	/dev/sda, /dev/disk/by-path/…  a path, or a link to one
//	sda                            a name
//	serial=S  wwn=W  model=M       what the disk says about itself
//	path=P                         where it hangs, as in /dev/disk/by-path
//	size=500G  size>=1T  size<=2T  its size; K, M, G and T count in 1000, Ki … Ti in 1024
//	largest  smallest              if one is larger, or smaller, than all others
//	only                           the only disk
//	first  second  third           by the order of the buses
//	first-nvme  first-scsi  first-virtio   likewise, of one kind (scsi: SATA, SAS, USB)
//	/dev/hda                       where there is no such disk: the only disk
//
// Disks that can be taken away, hang on USB, or are where the system came from
// are meant only by a path, a name, serial= and wwn=. Several matches are
// refused with their names, and so is whatever is not in this list: to guess
// which disk to overwrite is not for a program.
type selector struct {
	text string
	find bool // what disk.Gate knows
	keep func(disk.Info) bool
	pick func([]disk.Info) []disk.Info // of what is kept, in bus order
	hint string                        // what to write instead, if several match
}

const maxSelector = 256 // bytes

var (
	// diskName is a name of the kernel, as sda, nvme0n1, mmcblk0, cciss!c0d0.
	diskName = regexp.MustCompile(`^[a-z][a-z0-9!_-]{0,31}$`)
	// legacyDisk is a name of the IDE drivers that kernels had until 2.6.
	legacyDisk = regexp.MustCompile(`^(?:/dev/)?hd[a-z]$`)
	sizeTerm   = regexp.MustCompile(`^size(>=|<=|=)([0-9]{1,18})((?:[KMGT]i?)?)B?$`)
	places     = map[string]int{"first": 0, "second": 1, "third": 2}
)

// parseSelector reads a selector. Every error is a disk.ErrNotFound.
func parseSelector(text string) (selector, error) {
	s := selector{text: text}
	bad := func(format string, args ...any) (selector, error) {
		return selector{}, fmt.Errorf("selector %q: %w: %s", clip(text, maxSelector), disk.ErrNotFound, fmt.Sprintf(format, args...))
	}
	if text == "" || len(text) > maxSelector || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("it is empty, longer than %d bytes, or has blanks around it or control characters", maxSelector)
	}
	key, value, keyed := strings.Cut(text, "=")
	kind, ofKind := strings.CutPrefix(text, "first-")
	switch {
	case strings.HasPrefix(text, "size"):
		var err error
		if s.keep, err = parseSize(text); err != nil {
			return bad("%v", err)
		}
	case strings.HasPrefix(text, "/"):
		s.find = true
	case keyed && slices.Contains([]string{"serial", "wwn", "model", "path"}, key):
		if value == "" {
			return bad("%s of what? write %s=VALUE", key, key)
		}
		s.find = true
	case keyed:
		return bad("there are serial=, wwn=, model=, path= and size=")
	case text == "largest":
		s.pick = func(all []disk.Info) []disk.Info { return extreme(all, func(a, b int64) bool { return a > b }) }
	case text == "smallest":
		s.pick = func(all []disk.Info) []disk.Info { return extreme(all, func(a, b int64) bool { return a < b }) }
	case text == "only":
	case ofKind:
		if s.keep = ofDriver(kind); s.keep == nil {
			return bad("there are first-nvme, first-scsi and first-virtio")
		}
		s.pick = nth(0)
	default:
		if n, ok := places[text]; ok {
			s.pick = nth(n)
			break
		}
		if !diskName.MatchString(text) {
			return bad("this is no name of a disk")
		}
		s.find = true
	}
	return s, nil
}

// parseSize reads a condition on the size. A size with a unit means what is
// sold under it: "500G" has 500 107 862 016 bytes; it may be off by a hundredth.
func parseSize(term string) (func(disk.Info) bool, error) {
	m := sizeTerm.FindStringSubmatch(term)
	if m == nil {
		return nil, fmt.Errorf("a size is written size=500G, size>=1T or size<=2Ti")
	}
	unit, base := int64(1), int64(1000)
	if strings.HasSuffix(m[3], "i") {
		base = 1024
	}
	if m[3] != "" {
		for range strings.Index("KMGT", m[3][:1]) + 1 {
			unit *= base
		}
	}
	n, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil || n == 0 || n > (1<<62)/unit {
		return nil, fmt.Errorf("%s is not a size of a disk", m[2]+m[3])
	}
	n *= unit
	off := int64(0)
	if unit > 1 {
		off = n / 100
	}
	switch m[1] {
	case ">=":
		return func(d disk.Info) bool { return d.Size >= n-off }, nil
	case "<=":
		return func(d disk.Info) bool { return d.Size <= n+off }, nil
	}
	return func(d disk.Info) bool { return d.Size >= n-off && d.Size <= n+off }, nil
}

// ofDriver tells disks of a kind by the names which their drivers give them.
func ofDriver(kind string) func(disk.Info) bool {
	prefix, ok := map[string]string{"nvme": "nvme", "scsi": "sd", "virtio": "vd"}[kind]
	if !ok {
		return nil
	}
	return func(d disk.Info) bool { return strings.HasPrefix(d.Name, prefix) }
}

func extreme(all []disk.Info, better func(a, b int64) bool) []disk.Info {
	if len(all) == 0 {
		return nil
	}
	best := all[0].Size
	for _, d := range all {
		if better(d.Size, best) {
			best = d.Size
		}
	}
	return slices.DeleteFunc(all, func(d disk.Info) bool { return d.Size != best })
}

func nth(n int) func([]disk.Info) []disk.Info {
	return func(all []disk.Info) []disk.Info {
		if n >= len(all) {
			return nil
		}
		return all[n : n+1]
	}
}

// selectDisk finds the one disk that a selector means.
func selectDisk(gate disk.Gate, text string) (disk.Info, error) {
	s, err := parseSelector(text)
	if err != nil {
		return disk.Info{}, err
	}
	all, err := gate.List()
	if err != nil {
		return disk.Info{}, err
	}
	if s.find {
		found, err := gate.Find(text)
		if err == nil && found.Spare() && !named(text) {
			return disk.Info{}, fmt.Errorf("selector %q: %w: %s can be taken away, hangs on USB or holds the system; name it by its path, serial= or wwn=", text, disk.ErrNotFound, found.Path)
		}
		if err == nil || !legacyDisk.MatchString(text) {
			return found, err
		}
		// There is no /dev/hda since kernel 2.6; who still says so means a machine with one disk.
		s.hint = "; say which one is meant with first, serial= or path= as the disk of the node in the inventory"
		if !strings.HasSuffix(text, "a") {
			return found, fmt.Errorf("%w; only hda has a meaning on a machine without such disks", err)
		}
	}
	spare := slices.DeleteFunc(slices.Clone(all), func(d disk.Info) bool { return !d.Spare() })
	found := slices.DeleteFunc(all, func(d disk.Info) bool { return d.Spare() || s.keep != nil && !s.keep(d) })
	slices.SortFunc(found, disk.ByBus)
	if s.pick != nil {
		found = s.pick(found)
	}
	switch len(found) {
	case 0:
		return disk.Info{}, fmt.Errorf("selector %q: %w%s", text, disk.ErrNotFound, passedOver(spare))
	case 1:
		return found[0], nil
	}
	return disk.Info{}, fmt.Errorf("selector %q: %w: %s%s", text, disk.ErrAmbiguous, candidates(found), s.hint)
}

// named says that a selector names a disk so exactly that it may be one that
// no rule chooses.
func named(text string) bool {
	key, _, _ := strings.Cut(text, "=")
	return key != "model" && text != "only"
}

func passedOver(spare []disk.Info) string {
	if len(spare) == 0 {
		return ""
	}
	return "; passed over, because they can be taken away, hang on USB or hold the system: " + candidates(spare)
}

// candidates lists disks with what tells them apart.
func candidates(list []disk.Info) string {
	const most = 8
	var s []string
	for _, d := range list[:min(len(list), most)] {
		s = append(s, fmt.Sprintf("%s (%d bytes, serial %s, path %s)", d.Path, d.Size, cmp.Or(d.Serial, "unknown"), cmp.Or(d.PathID, "unknown")))
	}
	if len(list) > most {
		s = append(s, fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(s, ", ")
}
