package events

// Disk is a disk as an agent sees it.
type Disk struct {
	Path       string `json:"path"`             // "/dev/sda"; a file in the simulator
	Serial     string `json:"serial,omitempty"` // as the device tells it
	WWN        string `json:"wwn,omitempty"`
	Model      string `json:"model,omitempty"`
	Size       int64  `json:"size"`                 // bytes
	SectorSize int    `json:"sector_size"`          // logical, bytes
	BusPath    string `json:"bus_path,omitempty"`   // where it hangs, as in /dev/disk/by-path; for the selector path=
	Rotational bool   `json:"rotational,omitempty"` // it turns
	Removable  bool   `json:"removable,omitempty"`  // it can be taken away, or hangs on USB: only its own name means it
}

// NIC is a network interface as an agent sees it.
type NIC struct {
	Name    string `json:"name"`
	MAC     string `json:"mac,omitempty"`
	Address string `json:"address,omitempty"` // IPv4 of the control network, if it has one
}

// Hardware is what an agent found on its machine.
type Hardware struct {
	Disks []Disk `json:"disks,omitempty"`
	NICs  []NIC  `json:"nics,omitempty"`
}

// Image names one content of an image: the name for people, the root digest
// of its manifest for everything else.
type Image struct {
	Name        string `json:"name"`
	Digest      string `json:"digest"`                 // root digest of the manifest, 64 hex digits
	Size        int64  `json:"size"`                   // bytes of the image file
	Chunks      int    `json:"chunks"`                 // of 1 MiB
	DiskBytes   int64  `json:"disk_bytes"`             // size of the described unit: what a disk must hold
	DataBytes   int64  `json:"data_bytes"`             // bytes that are written
	SectorSize  int    `json:"sector_size"`            // bytes
	Format      string `json:"format,omitempty"`       // "ndz"
	ManifestURL string `json:"manifest_url,omitempty"` // HTTP, pages of the manifest
}

// Session is one image on one multicast group.
type Session struct {
	ID     string `json:"id"`               // of the session; the same after a restart of the service
	Group  string `json:"group"`            // IPv4 multicast address
	Port   uint16 `json:"port"`             // UDP, both sides
	Server string `json:"server"`           // IPv4 address that sends the blocks
	Rate   int64  `json:"rate,omitempty"`   // cap, bit/s on the wire
	Weight int    `json:"weight,omitempty"` // beside other sessions, see LoadRequest; 0 is 1
	Local  bool   `json:"local,omitempty"`  // on the loopback interface, for simulated nodes
}
