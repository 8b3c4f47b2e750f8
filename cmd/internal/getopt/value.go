package getopt

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String is the option as it is written, with its argument.
func (f Found) String() string {
	dashes := "-"
	if len(f.Name) > 1 {
		dashes = "--"
	}
	return strings.TrimSuffix(dashes+f.Name+" "+f.Value, " ")
}

// Number is the argument as a decimal number from low to high.
func (f Found) Number(low, high int64) (int64, error) {
	n, err := strconv.ParseInt(f.Value, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("option %s: want a number from %d to %d", f, low, high)
	}
	return n, nil
}

// IPv4 is the argument as an address.
func (f Found) IPv4() (netip.Addr, error) {
	a, err := netip.ParseAddr(f.Value)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("option %s: want an IPv4 address", f)
	}
	return a, nil
}

// UUID is the argument as the UUID of an image: 32 hexadecimal digits, with or without hyphens.
func (f Found) UUID() (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(f.Value, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("option %s: want 32 hexadecimal digits", f)
	}
	return [16]byte(b), nil
}
