package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Ports of UDP.
const (
	ServerPort = 67
	ClientPort = 68
	BootPort   = 4011 // where firmware asks a proxy once more (PXE 2.1)
)

// Outcome says what became of a packet.
type Outcome string

// Outcomes.
const (
	Offered   Outcome = "offered"
	Acked     Outcome = "acknowledged"
	Refused   Outcome = "refused"   // another address than the reserved one was asked for
	Unknown   Outcome = "unknown"   // no machine has this MAC
	Ignored   Outcome = "ignored"   // not for us
	Declined  Outcome = "declined"  // the machine found its address in use
	Malformed Outcome = "malformed" // not a DHCP request of an Ethernet machine
)

// Ask is what a packet was and what is answered.
type Ask struct {
	Outcome Outcome
	MAC     string
	Host    Host
	Arch    string // of the firmware; empty if it does not say
	File    string // boot file that is answered; empty for none
	Reply   []byte // nil: no answer
	To      netip.AddrPort
}

// Server answers requests. It has no state.
type Server struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg}, nil
}

// client is what a request says about who asks.
type client struct {
	req  *dhcpv4.DHCPv4
	arch []iana.Arch
	pxe  bool // firmware that boots by TFTP
	http bool // firmware that boots by HTTP
	ipxe bool // iPXE runs already
}

// boots reports whether the client wants to boot from the network.
func (c client) boots() bool { return c.pxe || c.http || c.ipxe }

// optionIPXE is the encapsulated options of iPXE: nobody else sends them.
const optionIPXE = 175

func read(packet []byte) (client, bool) {
	m, err := dhcpv4.FromBytes(packet)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 || m.ClientHWAddr[0]&1 != 0 {
		return client{}, false
	}
	class := m.ClassIdentifier()
	c := client{req: m, arch: m.ClientArch(), pxe: strings.HasPrefix(class, "PXEClient"), http: strings.HasPrefix(class, "HTTPClient")}
	c.ipxe = m.Options.Has(dhcpv4.GenericOptionCode(optionIPXE)) || bytes.Contains(m.Options.Get(dhcpv4.OptionUserClassInformation), []byte("iPXE"))
	return c, true
}

// Answer decides about a packet that came from an address to one of our ports.
func (s *Server) Answer(packet []byte, from netip.AddrPort, port uint16) Ask {
	c, ok := read(packet)
	if !ok {
		return Ask{Outcome: Malformed}
	}
	a := Ask{Outcome: Ignored, MAC: c.req.ClientHWAddr.String(), Arch: archName(c.arch)}
	if a.Host, ok = s.cfg.Lookup(a.MAC); !ok {
		a.Outcome = Unknown
		return a
	}
	kind, outcome := s.kind(c, a.Host, port)
	a.Outcome = outcome
	if kind == dhcpv4.MessageTypeNone {
		return a
	}
	if kind != dhcpv4.MessageTypeNak && a.Host.Boot {
		a.File = s.file(c, a)
	}
	m := s.reply(c, kind, &a, port)
	if m == nil {
		a.Outcome = Malformed
		return a
	}
	a.Reply, a.To = m.ToBytes(), destination(c.req, kind, from, port)
	return a
}

// kind says which message is answered, MessageTypeNone for none.
func (s *Server) kind(c client, h Host, port uint16) (dhcpv4.MessageType, Outcome) {
	none := dhcpv4.MessageTypeNone
	server := c.req.ServerIdentifier()
	mine := server == nil || equal(server, s.cfg.Server)
	if s.cfg.Mode == Proxy || port == BootPort {
		relayed := c.req.GatewayIPAddr != nil && !c.req.GatewayIPAddr.IsUnspecified()
		switch kind := c.req.MessageType(); {
		case !h.Boot || !c.boots() || relayed:
		case port == ServerPort && kind == dhcpv4.MessageTypeDiscover:
			return dhcpv4.MessageTypeOffer, Offered
		case port == BootPort && mine && (kind == dhcpv4.MessageTypeRequest || kind == dhcpv4.MessageTypeInform):
			return dhcpv4.MessageTypeAck, Acked
		}
		return none, Ignored
	}
	if !h.IP.Is4() {
		return none, Ignored
	}
	switch c.req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer, Offered
	case dhcpv4.MessageTypeRequest:
		wanted := c.req.RequestedIPAddress()
		if wanted == nil {
			wanted = c.req.ClientIPAddr
		}
		switch {
		case !mine:
			return none, Ignored // it chose another server
		case equal(wanted, h.IP):
			return dhcpv4.MessageTypeAck, Acked
		}
		return dhcpv4.MessageTypeNak, Refused
	case dhcpv4.MessageTypeInform:
		if equal(c.req.ClientIPAddr, h.IP) {
			return dhcpv4.MessageTypeAck, Acked
		}
	case dhcpv4.MessageTypeDecline:
		return none, Declined
	}
	return none, Ignored
}

// file is what the machine is to start from.
func (s *Server) file(c client, a Ask) string {
	arch := iana.INTEL_X86PC
	if len(c.arch) > 0 {
		arch = c.arch[0]
	}
	f := s.cfg.Files
	if s.cfg.Loader == Pxelinux && arch == iana.INTEL_X86PC && c.boots() && !c.http {
		return f.Pxelinux
	}
	if c.ipxe && !a.Host.Chain {
		return s.cfg.Base + "/boot/ipxe?mac=" + a.MAC
	}
	var name string
	switch arch {
	case iana.INTEL_X86PC:
		name = f.BIOS
	case iana.EFI_X86_64, iana.EFI_BC, iana.EFI_X86_HTTP, iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP:
		name = f.EFI
	case iana.EFI_ARM64, iana.EFI_ARM64_HTTP:
		name = f.EFIARM
	}
	switch {
	case name == "":
		return "" // an architecture that there is no loader for
	case c.http:
		return s.cfg.Base + "/boot/files/" + name
	case c.pxe, c.ipxe:
		return name
	}
	return ""
}

// reply makes the message; nil if it cannot be made.
func (s *Server) reply(c client, kind dhcpv4.MessageType, a *Ask, port uint16) *dhcpv4.DHCPv4 {
	server := net.IP(s.cfg.Server.AsSlice())
	mods := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
		// RFC 4578 section 2.3: firmware takes no answer without its own id.
		dhcpv4.WithOptionCopied(c.req, dhcpv4.OptionClientMachineIdentifier),
	}
	if kind == dhcpv4.MessageTypeNak {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptMessage("the address of "+a.Host.Name+" is "+a.Host.IP.String())))
		return made(c.req, mods)
	}
	proxied := s.cfg.Mode == Proxy || port == BootPort
	if !proxied {
		mods = append(mods, s.network(c.req, a.Host)...)
	}
	file := a.File
	if proxied {
		class := "PXEClient"
		if c.http {
			class = "HTTPClient"
		}
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)))
		bios := len(c.arch) == 0 || c.arch[0] == iana.INTEL_X86PC
		switch {
		case c.http:
		case bios || c.ipxe:
			// PXE 2.1, option 43, tag 6: no discovery of boot servers, start the
			// file that is named here.
			mods = append(mods, dhcpv4.WithGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
		case kind == dhcpv4.MessageTypeOffer:
			// Some EFI firmware ignores that tag; all of it asks at BootPort when
			// there is neither option 43 nor a file.
			file = ""
		}
	} else if c.http {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("HTTPClient")))
	} else if c.ipxe {
		// Option no-pxedhcp of iPXE: it need not wait for a proxy.
		mods = append(mods, dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optionIPXE), []byte{176, 1, 1}))
	}
	if a.File = file; file != "" {
		mods = append(mods, named(c, file, server)...)
	}
	return made(c.req, mods)
}

// named puts the name of the boot file where firmware looks for it.
func named(c client, file string, server net.IP) []dhcpv4.Modifier {
	mods := []dhcpv4.Modifier{dhcpv4.WithServerIP(server)}
	if len(file) <= maxFile {
		mods = append(mods, func(d *dhcpv4.DHCPv4) { d.BootFileName = file })
	}
	if c.ipxe || c.http || asked(c.req, dhcpv4.OptionBootfileName) {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptBootFileName(file)))
	}
	if asked(c.req, dhcpv4.OptionTFTPServerName) {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptTFTPServerName(server.String())))
	}
	return mods
}

// network is what a machine is told about its place in the network.
func (s *Server) network(req *dhcpv4.DHCPv4, h Host) []dhcpv4.Modifier {
	mods := []dhcpv4.Modifier{
		dhcpv4.WithNetmask(s.cfg.Netmask),
		dhcpv4.WithOption(dhcpv4.OptHostName(h.Name)),
	}
	if req.MessageType() != dhcpv4.MessageTypeInform { // RFC 2131 section 4.3.5
		mods = append(mods, dhcpv4.WithYourIP(h.IP.AsSlice()), dhcpv4.WithLeaseTime(uint32(s.cfg.Lease.Seconds())))
	}
	if s.cfg.Gateway.IsValid() {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptRouter(s.cfg.Gateway.AsSlice())))
	}
	if len(s.cfg.DNS) > 0 {
		var ips []net.IP
		for _, a := range s.cfg.DNS {
			ips = append(ips, a.AsSlice())
		}
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptDNS(ips...)))
	}
	return mods
}

func made(req *dhcpv4.DHCPv4, mods []dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.NewReplyFromRequest(req, mods...)
	if err != nil {
		return nil
	}
	return m
}

func asked(req *dhcpv4.DHCPv4, code dhcpv4.OptionCode) bool {
	for _, c := range req.ParameterRequestList() {
		if c.Code() == code.Code() {
			return true
		}
	}
	return false
}

// destination is RFC 2131 section 4.1, with a broadcast in place of a unicast
// to an address that the client cannot answer ARP for yet.
func destination(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, from netip.AddrPort, port uint16) netip.AddrPort {
	relay, own := address(req.GatewayIPAddr), address(req.ClientIPAddr)
	switch {
	case relay.IsValid():
		return netip.AddrPortFrom(relay, ServerPort)
	case port == BootPort && from.IsValid() && !from.Addr().IsUnspecified():
		return from
	case own.IsValid() && kind != dhcpv4.MessageTypeNak:
		return netip.AddrPortFrom(own, ClientPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), ClientPort)
}

// address is an address of a packet, invalid for none and for those that
// nobody has.
func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}
	}
	return a
}

func equal(ip net.IP, a netip.Addr) bool {
	b, ok := netip.AddrFromSlice(ip.To4())
	return ok && b == a
}
