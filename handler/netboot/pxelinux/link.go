package pxelinux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Link is the boot flag of a node.
type Link struct {
	Testbed string
	Node    string
	IP      netip.Addr // of the control network; only IPv4 has a link
	MAC     string     // of the control interface
	Image   string     // boot configuration: a file in the directory
	Job     string     // that wants it; empty: by hand
	Until   time.Time  // when it ends at the latest
}

// What is wrong with a link.
var (
	// ErrImage is for a boot configuration that cannot be one, or is not there.
	ErrImage = errors.New("no such boot configuration")
	// ErrAddress is for a node of which neither MAC nor IPv4 address is known.
	ErrAddress = errors.New("the inventory knows neither mac nor ip of the node")
	// ErrForeign is for a name at which something stands that is not ours.
	ErrForeign = errors.New("something else has the name of the link")
)

var (
	imageName = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z._-]{0,127}$`)
	linkName  = regexp.MustCompile(`^([0-9A-F]{8}|01(-[0-9a-f]{2}){6})$`)
)

// CheckImage refuses what cannot be the name of a boot configuration: 1 to 128
// letters, digits, . _ - that begin with no dot, and no name of a link.
func CheckImage(name string) error {
	if !imageName.MatchString(name) || linkName.MatchString(name) {
		return fmt.Errorf("%w: %q cannot be the name of one", ErrImage, clip(name))
	}
	return nil
}

// Hex is the name of the link for an IPv4 address, empty for any other.
func Hex(ip netip.Addr) string {
	if !ip.Unmap().Is4() {
		return ""
	}
	return fmt.Sprintf("%X", ip.Unmap().AsSlice())
}

// names are those of the links of a node.
func (l Link) names() []string {
	var names []string
	if hex := Hex(l.IP); hex != "" {
		names = append(names, hex)
	}
	if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == 6 {
		names = append(names, "01-"+strings.ReplaceAll(mac.String(), ":", "-"))
	}
	return names
}

func clip(text string) string {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
