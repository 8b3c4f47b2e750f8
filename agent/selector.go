package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"loadnode/transfer/disk"
)

// selectDisk finds the one disk that a selector means. Beside what disk.Gate
// knows (a path or a link to it, a name, serial=S, wwn=W, model=M, only) these
// are:
//
//	largest      the largest disk, if one is larger than all others
//	first-nvme   the first NVMe disk by name
//	size=BYTES   the only disk of that size; K, M, G and T count in 1000
//
// Removable disks are never meant by these. An empty selector is refused: to
// guess which disk to overwrite is not for a program.
func selectDisk(gate disk.Gate, selector string) (disk.Info, error) {
	var pick func([]disk.Info) []disk.Info
	switch size, bySize := strings.CutPrefix(selector, "size="); {
	case selector == "":
		return disk.Info{}, fmt.Errorf("no disk selector: %w", disk.ErrNotFound)
	case selector == "largest":
		pick = largest
	case selector == "first-nvme":
		pick = firstNVMe
	case bySize:
		want, err := parseSize(size)
		if err != nil {
			return disk.Info{}, fmt.Errorf("selector %q: %w: %w", selector, disk.ErrNotFound, err)
		}
		pick = func(all []disk.Info) []disk.Info {
			return slices.DeleteFunc(all, func(d disk.Info) bool { return d.Size != want })
		}
	default:
		return gate.Find(selector)
	}
	all, err := gate.List()
	if err != nil {
		return disk.Info{}, err
	}
	found := pick(slices.DeleteFunc(all, func(d disk.Info) bool { return d.Removable }))
	switch len(found) {
	case 0:
		return disk.Info{}, fmt.Errorf("selector %q: %w", selector, disk.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return disk.Info{}, fmt.Errorf("selector %q: %w: %s and %s", selector, disk.ErrAmbiguous, found[0].Path, found[1].Path)
}

func largest(all []disk.Info) []disk.Info {
	if len(all) == 0 {
		return nil
	}
	most := slices.MaxFunc(all, func(a, b disk.Info) int { return cmp.Compare(a.Size, b.Size) }).Size
	return slices.DeleteFunc(all, func(d disk.Info) bool { return d.Size != most })
}

func firstNVMe(all []disk.Info) []disk.Info {
	all = slices.DeleteFunc(all, func(d disk.Info) bool { return !strings.HasPrefix(d.Name, "nvme") })
	return all[:min(1, len(all))]
}

func parseSize(s string) (int64, error) {
	unit := int64(1)
	if i := strings.IndexAny("KMGT", s[max(0, len(s)-1):]); i >= 0 && s != "" {
		for range i + 1 {
			unit *= 1000
		}
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size in bytes", s)
	}
	return n * unit, nil
}
