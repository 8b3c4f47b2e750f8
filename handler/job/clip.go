package job

import (
	"sort"
	"strings"

	"loadnode/events"
)

// Bounds of what is kept of texts from nodes and requests. The control
// network is hostile (docs/trust.md): a fact has a size that we choose.
const (
	maxName     = 128  // bytes of a name, id or address
	maxMessage  = 512  // bytes of a message
	maxText     = 2048 // bytes of an evidence text
	maxRaw      = 1024 // bytes of an undecodable request
	maxCounters = 48   // counters of one event
	maxDevices  = 32   // disks, and NICs, of one node
	// maxResults is how many bytes of error texts and hints a job.finished
	// may hold in all: the bus takes messages of 1 MiB, names and numbers of
	// MaxNodes results need 400 KB of it.
	maxResults = 400_000
)

// clip cuts a text to at most limit bytes of valid UTF-8.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit-3] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

func clipCounters(c map[string]int64) map[string]int64 {
	if len(c) == 0 {
		return nil
	}
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	sort.Strings(names)
	out := make(map[string]int64, min(len(names), maxCounters))
	for _, name := range names[:min(len(names), maxCounters)] {
		out[clip(name, maxName)] = c[name]
	}
	return out
}

func clipDisk(d events.Disk) events.Disk {
	d.Path, d.Serial, d.WWN, d.Model = clip(d.Path, maxName), clip(d.Serial, maxName), clip(d.WWN, maxName), clip(d.Model, maxName)
	return d
}

func clipImage(i events.Image) events.Image {
	i.Name, i.Digest, i.Format, i.ManifestURL = clip(i.Name, maxName), clip(i.Digest, maxName), clip(i.Format, maxName), clip(i.ManifestURL, maxMessage)
	return i
}

func clipHardware(h events.Hardware) events.Hardware {
	var out events.Hardware
	for _, d := range h.Disks[:min(len(h.Disks), maxDevices)] {
		out.Disks = append(out.Disks, clipDisk(d))
	}
	for _, n := range h.NICs[:min(len(h.NICs), maxDevices)] {
		out.NICs = append(out.NICs, events.NIC{Name: clip(n.Name, maxName), MAC: clip(n.MAC, maxName), Address: clip(n.Address, maxName)})
	}
	return out
}
