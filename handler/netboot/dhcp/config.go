package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/iana"
)

// Mode says what is answered.
type Mode string

// Modes.
const (
	Off          Mode = "off"
	Proxy        Mode = "proxy"        // boot files only; another server gives addresses
	Reservations Mode = "reservations" // addresses and boot files
)

// Loader is what firmware is given to start from.
type Loader string

// Loaders. Machines with EFI get iPXE in both cases.
const (
	IPXE     Loader = "ipxe"
	Pxelinux Loader = "pxelinux"
)

// Host is a machine that is known.
type Host struct {
	Name string
	IP   netip.Addr // its own; a server of reservations does not answer without it
	Boot bool       // it is led by us: it gets a boot file
	// Chain has iPXE fetch the loader too, as other firmware does, in place of
	// its script.
	Chain bool
}

// Files are the names of loaders in the boot directory, as firmware asks for
// them by TFTP or, under /boot/files/, by HTTP.
type Files struct {
	BIOS     string // iPXE; Debian: undionly.kpxe
	EFI      string // iPXE for x86-64; Debian: snponly.efi; its ipxe.efi does not hand over to the next boot option
	EFIARM   string // iPXE for arm64; Debian: ipxe-arm64.efi
	Pxelinux string // lpxelinux.0
}

// DefaultFiles are the names in Debian's packages.
func DefaultFiles() Files {
	return Files{BIOS: "undionly.kpxe", EFI: "snponly.efi", EFIARM: "ipxe-arm64.efi", Pxelinux: "lpxelinux.0"}
}

// Config says what to answer.
type Config struct {
	Mode   Mode
	Server netip.Addr // ours on the machines' network: DHCP and TFTP
	Base   string     // of our HTTP routes: "http://10.18.0.1:5012"
	// Lookup finds a machine by its MAC, lower case with colons.
	Lookup func(mac string) (Host, bool)
	Loader Loader // "": IPXE
	Files  Files  // empty names: the defaults

	// What a server of reservations tells about the network.
	Netmask net.IPMask
	Gateway netip.Addr // invalid: none
	DNS     []netip.Addr
	Lease   time.Duration // 0: DefaultLease
}

// DefaultLease is how long a machine may keep its reserved address before it
// has to ask again.
const DefaultLease = time.Hour

// maxFile is the room for a name in the fixed part of a packet.
const maxFile = 127

// ErrConfig is wrapped by every error of New.
var ErrConfig = errors.New("dhcp configuration")

func (c *Config) fill() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	d := DefaultFiles()
	for _, f := range []struct {
		name *string
		def  string
	}{{&c.Files.BIOS, d.BIOS}, {&c.Files.EFI, d.EFI}, {&c.Files.EFIARM, d.EFIARM}, {&c.Files.Pxelinux, d.Pxelinux}} {
		if *f.name == "" {
			*f.name = f.def
		}
		if len(*f.name) > 64 || strings.ContainsAny(*f.name, "\x00 \r\n") {
			return bad("loader %q is not the name of a file", *f.name)
		}
	}
	if c.Loader == "" {
		c.Loader = IPXE
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	ones, bits := c.Netmask.Size()
	switch {
	case c.Mode != Proxy && c.Mode != Reservations:
		return bad("mode %q; want %s or %s", c.Mode, Proxy, Reservations)
	case c.Loader != IPXE && c.Loader != Pxelinux:
		return bad("loader %q; want %s or %s", c.Loader, IPXE, Pxelinux)
	case !c.Server.Is4():
		return bad("the server has no IPv4 address")
	case c.Lookup == nil:
		return bad("no look-up")
	case !strings.HasPrefix(c.Base, "http://") || len(c.Base) > 64:
		return bad("base %q; want an address such as http://10.18.0.1:5012, 64 bytes at most: boot ROMs have little room", c.Base)
	case c.Mode == Reservations && (bits != 32 || ones == 0):
		return bad("reservations need a netmask")
	case c.Lease < time.Minute || c.Lease > 30*24*time.Hour:
		return bad("lease of %s; want 1m to 720h", c.Lease)
	case c.Gateway.IsValid() && !c.Gateway.Is4():
		return bad("gateway %s is not IPv4", c.Gateway)
	case len(c.DNS) > 8:
		return bad("%d name servers; want 8 at most", len(c.DNS))
	}
	for _, a := range c.DNS {
		if !a.Is4() {
			return bad("name server %s is not IPv4", a)
		}
	}
	return nil
}

// archName names the architecture of a machine's firmware (option 93) for
// people and for telemetry.
func archName(archs []iana.Arch) string {
	if len(archs) == 0 {
		return ""
	}
	switch archs[0] {
	case iana.INTEL_X86PC:
		return "bios"
	case iana.EFI_X86_64, iana.EFI_BC:
		return "efi-x64"
	case iana.EFI_ARM64:
		return "efi-arm64"
	case iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP, iana.EFI_X86_HTTP:
		return "http-x64"
	case iana.EFI_ARM64_HTTP:
		return "http-arm64"
	}
	return fmt.Sprintf("arch-%d", uint16(archs[0]))
}
