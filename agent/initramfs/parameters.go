package initramfs

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Parameters are what the kernel's command line says to the imaging system:
// omf.NAME=VALUE, and BOOTIF as boot loaders write it. Others are not for it.
type Parameters struct {
	Servers []string         // omf.server: URLs of the bus, separated by commas
	Testbed string           // omf.testbed
	Node    string           // omf.node: name of this node
	Boot    *url.URL         // omf.boot: where the boot service answers, or nil
	MAC     net.HardwareAddr // omf.mac, or BOOTIF: of the control interface; nil: the first with an address
	Address netip.Prefix     // omf.ip: address and prefix of the control interface; DHCP if not valid
	Gateway netip.Addr       // omf.gateway, with omf.ip
	Console bool             // omf.console=1: a shell on the console
	Debug   bool             // omf.debug=1: more is said
}

// ReadParameters reads a command line of the kernel. A value may be in double
// quotes; of two parameters of one name the last one counts.
func ReadParameters(line string) (Parameters, error) {
	p := Parameters{Testbed: "default"}
	var bootif, mac string
	for _, word := range words(line) {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "omf.server":
			p.Servers = strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		case "omf.testbed":
			p.Testbed = value
		case "omf.node":
			p.Node = value
		case "omf.boot":
			p.Boot, err = bootURL(value)
		case "omf.mac":
			mac = value
		case "BOOTIF":
			bootif = value
		case "omf.ip":
			p.Address, err = netip.ParsePrefix(value)
			if err == nil && !p.Address.Addr().Is4() {
				err = fmt.Errorf("want an IPv4 address such as 10.0.0.7/24")
			}
		case "omf.gateway":
			p.Gateway, err = netip.ParseAddr(value)
			if err == nil && !p.Gateway.Is4() {
				err = fmt.Errorf("want an IPv4 address")
			}
		case "omf.console":
			p.Console = value == "1"
		case "omf.debug":
			p.Debug = value == "1"
		}
		if err != nil {
			return p, fmt.Errorf("kernel parameter %s: %w", name, err)
		}
	}
	var err error
	switch {
	case mac != "":
		if p.MAC, err = readMAC(mac); err != nil {
			return p, fmt.Errorf("kernel parameter omf.mac: %w", err)
		}
	case bootif != "":
		// The first byte is the kind of network: 01 is Ethernet.
		rest, ok := strings.CutPrefix(bootif, "01-")
		if !ok {
			return p, fmt.Errorf("kernel parameter BOOTIF: want 01-xx-xx-xx-xx-xx-xx")
		}
		if p.MAC, err = readMAC(rest); err != nil {
			return p, fmt.Errorf("kernel parameter BOOTIF: %w", err)
		}
	}
	return p, nil
}

func readMAC(text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err == nil && len(mac) != 6 {
		err = fmt.Errorf("want six bytes")
	}
	return mac, err
}

func bootURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("want http://HOST:PORT")
	}
	return u, nil
}

// words splits a command line as the kernel does: at white space that is not
// in double quotes, which are taken away.
func words(line string) []string {
	var out []string
	var word strings.Builder
	quoted, any := false, false
	end := func() {
		if any {
			out = append(out, word.String())
		}
		word.Reset()
		any = false
	}
	for _, c := range []byte(line) {
		switch {
		case c == '"':
			quoted, any = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			end()
		default:
			word.WriteByte(c)
			any = true
		}
	}
	end()
	return out
}
