package bridge

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"

	"loadnode/events"
)

// identity is what an agent's node turned out to be.
type identity struct {
	boot   string // the kernel's, or made up for the connection
	system string // what the imaging system or the saved disk calls itself; "" unknown
	disks  []events.Disk
	listed bool // disks are known, also if there are none
}

// imaging reports whether the node runs the network-booted system: its image calls itself "pxe:<version>" (§a.6).
func (i identity) imaging() bool { return strings.HasPrefix(i.system, "pxe") }

// systemFiles are where the systems of OMF 4 and 5 say what they are (§d).
var systemFiles = []string{"/.orbit_image", "/.omf_imageid"}

// identify asks a node what it is. What it does not say stays unknown; only a lost connection is an error.
func identify(ctx context.Context, l *link) (identity, error) {
	var id identity
	cat := func(file string) ([]string, error) {
		lines, code, err := l.ask(ctx, "cat", file)
		if err != nil {
			select {
			case <-l.over:
				return nil, l.lost()
			default:
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		if err != nil || code != 0 {
			return nil, nil
		}
		return lines, nil
	}
	for _, file := range systemFiles {
		lines, err := cat(file)
		if err != nil {
			return id, err
		}
		if len(lines) > 0 && id.system == "" {
			id.system = strings.TrimSpace(lines[0])
		}
		if id.system != "" {
			break
		}
	}
	if id.system == "" {
		l.mu.Lock()
		id.system = l.image
		l.mu.Unlock()
	}
	lines, err := cat("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	if len(lines) == 1 && events.CheckName(strings.TrimSpace(lines[0])) == nil {
		id.boot = strings.TrimSpace(lines[0])
	} else {
		id.boot = "connection-" + strings.ToLower(rand.Text())
	}
	if lines, err = cat("/proc/partitions"); err != nil {
		return id, err
	}
	id.disks, id.listed = partitions(lines)
	return id, nil
}

// partitions reads /proc/partitions: major, minor, blocks of 1 KiB, name.
func partitions(lines []string) (disks []events.Disk, ok bool) {
	for _, line := range lines {
		w := strings.Fields(line)
		if len(w) != 4 {
			continue
		}
		if w[0] == "major" {
			ok = true
			continue
		}
		kib, err := strconv.ParseInt(w[2], 10, 52)
		if err != nil || kib < 0 || len(disks) >= 256 || events.CheckName(w[3]) != nil {
			continue
		}
		ok = true
		disks = append(disks, events.Disk{Path: "/dev/" + w[3], Size: kib << 10, SectorSize: 512})
	}
	return disks, ok
}
