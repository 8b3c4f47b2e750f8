package dhcp_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"loadnode/handler/netboot/dhcp"
)

const (
	ours   = "52:54:00:00:01:01" // led from here
	guest  = "52:54:00:00:01:02" // an address, and nothing to boot
	foreig = "52:54:00:00:09:09"
)

var (
	server  = netip.MustParseAddr("10.18.0.1")
	own     = net.IPv4(10, 18, 1, 1).To4()
	nowhere = netip.MustParseAddrPort("0.0.0.0:68")
)

func config(mode dhcp.Mode) dhcp.Config {
	return dhcp.Config{
		Mode: mode, Server: server, Base: "http://10.18.0.1:5012", Netmask: net.CIDRMask(16, 32),
		Gateway: netip.MustParseAddr("10.18.0.254"), DNS: []netip.Addr{netip.MustParseAddr("10.18.0.53")},
		Lookup: func(mac string) (dhcp.Host, bool) {
			switch mac {
			case ours:
				return dhcp.Host{Name: "n1-1", IP: netip.MustParseAddr("10.18.1.1"), Boot: true}, true
			case guest:
				return dhcp.Host{Name: "n1-2", IP: netip.MustParseAddr("10.18.1.2")}, true
			}
			return dhcp.Host{}, false
		},
	}
}

func newServer(t testing.TB, cfg dhcp.Config) *dhcp.Server {
	s, err := dhcp.New(cfg)
	require.NoError(t, err)
	return s
}

// request is a packet as firmware sends it.
func request(t testing.TB, mac string, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) []byte {
	hw, err := net.ParseMAC(mac)
	require.NoError(t, err)
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}), dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
	}, mods...)...)
	require.NoError(t, err)
	return m.ToBytes()
}

func class(name string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(name)) }

func arch(a iana.Arch) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientArch(a)) }

// The firmwares that there are, as they introduce themselves.
func firmwares() map[string][]dhcpv4.Modifier {
	guid := dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, "0123456789abcdef"...))
	ndi := dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 2, 1})
	list := dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName)
	return map[string][]dhcpv4.Modifier{
		"bios rom": {class("PXEClient:Arch:00000:UNDI:002001"), arch(iana.INTEL_X86PC), guid, ndi, list},
		"ovmf":     {class("PXEClient:Arch:00007:UNDI:003016"), arch(iana.EFI_X86_64), guid, ndi, list},
		"efi bc":   {class("PXEClient:Arch:00009:UNDI:003016"), arch(iana.EFI_BC), guid, ndi, list},
		"arm":      {class("PXEClient:Arch:00011:UNDI:003016"), arch(iana.EFI_ARM64), guid, ndi, list},
		"ipxe":     {class("PXEClient:Arch:00000:UNDI:002001"), arch(iana.INTEL_X86PC), guid, dhcpv4.WithUserClass("iPXE", false), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e})},
		"ipxe efi": {class("PXEClient:Arch:00007:UNDI:003010"), arch(iana.EFI_X86_64), guid, dhcpv4.WithUserClass("iPXE", true)},
		"http":     {class("HTTPClient:Arch:00016:UNDI:003001"), arch(iana.EFI_X86_64_HTTP), guid, list},
		"http arm": {class("HTTPClient:Arch:00019:UNDI:003001"), arch(iana.EFI_ARM64_HTTP), guid, list},
		"linux":    {dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask)},
		"riscv":    {class("PXEClient:Arch:00027:UNDI:003016"), arch(iana.EFI_RISCV64), guid},
	}
}

func parsed(t *testing.T, a dhcp.Ask) *dhcpv4.DHCPv4 {
	t.Helper()
	require.NotNil(t, a.Reply, a.Outcome)
	m, err := dhcpv4.FromBytes(a.Reply)
	require.NoError(t, err)
	require.Equal(t, dhcpv4.TransactionID{1, 2, 3, 4}, m.TransactionID)
	require.True(t, m.ServerIdentifier().Equal(server.AsSlice()))
	return m
}

func TestReservations(t *testing.T) {
	s := newServer(t, config(dhcp.Reservations))
	script := "http://10.18.0.1:5012/boot/ipxe?mac=" + ours
	for name, want := range map[string]struct{ file, arch string }{
		"bios rom": {"undionly.kpxe", "bios"},
		"ovmf":     {"snponly.efi", "efi-x64"},
		"efi bc":   {"snponly.efi", "efi-x64"},
		"arm":      {"ipxe-arm64.efi", "efi-arm64"},
		"ipxe":     {script, "bios"},
		"ipxe efi": {script, "efi-x64"},
		"http":     {"http://10.18.0.1:5012/boot/files/snponly.efi", "http-x64"},
		"http arm": {"http://10.18.0.1:5012/boot/files/ipxe-arm64.efi", "http-arm64"},
		"linux":    {"", ""},
		"riscv":    {"", "arch-27"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.Answer(request(t, ours, dhcpv4.MessageTypeDiscover, firmwares()[name]...), nowhere, dhcp.ServerPort)
			require.Equal(t, dhcp.Offered, a.Outcome)
			require.Equal(t, want.arch, a.Arch)
			require.Equal(t, want.file, a.File)
			require.Equal(t, "255.255.255.255:68", a.To.String())
			m := parsed(t, a)
			require.Equal(t, dhcpv4.MessageTypeOffer, m.MessageType())
			require.True(t, m.YourIPAddr.Equal(own))
			require.Equal(t, want.file, m.BootFileName)
			require.Equal(t, "255.255.0.0", net.IP(m.SubnetMask()).String())
			require.Equal(t, "10.18.0.254", m.Router()[0].String())
			require.Equal(t, "10.18.0.53", m.DNS()[0].String())
			require.Equal(t, dhcp.DefaultLease, m.IPAddressLeaseTime(0))
			require.GreaterOrEqual(t, len(a.Reply), 300, "BOOTP's least")
			if strings.HasPrefix(name, "http") {
				require.Equal(t, "HTTPClient", m.ClassIdentifier())
				require.Equal(t, want.file, m.BootFileNameOption())
			} else {
				require.Empty(t, m.ClassIdentifier(), "with PXEClient some firmware looks for a boot server")
			}
			require.Equal(t, strings.HasPrefix(name, "ipxe"), m.Options.Has(dhcpv4.GenericOptionCode(175)), "iPXE waits for no proxy")
			if name != "linux" {
				require.Len(t, m.Options.Get(dhcpv4.OptionClientMachineIdentifier), 17)
			}

			b := s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, append(firmwares()[name],
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(own)))...), nowhere, dhcp.ServerPort)
			require.Equal(t, dhcp.Acked, b.Outcome)
			ack := parsed(t, b)
			require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
			require.True(t, ack.YourIPAddr.Equal(own))
			require.Equal(t, want.file, ack.BootFileName)
		})
	}
}

// TestGolden holds one packet byte by byte, so that a change of the library
// is seen.
func TestGolden(t *testing.T) {
	a := newServer(t, config(dhcp.Reservations)).Answer(request(t, ours, dhcpv4.MessageTypeDiscover, firmwares()["bios rom"]...), nowhere, dhcp.ServerPort)
	require.Equal(t, []byte{2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0, 0, 0, 0, 0, 10, 18, 1, 1, 10, 18, 0, 1, 0, 0, 0, 0, 0x52, 0x54, 0, 0, 1, 1}, a.Reply[:34])
	require.Equal(t, "undionly.kpxe\x00", string(a.Reply[108:122]))
	require.Equal(t, []byte{99, 130, 83, 99}, a.Reply[236:240])
	options := string(a.Reply[240:])
	for _, want := range []string{
		"\x35\x01\x02", "\x36\x04\x0a\x12\x00\x01", "\x01\x04\xff\xff\x00\x00", "\x03\x04\x0a\x12\x00\xfe", "\x06\x04\x0a\x12\x00\x35",
		"\x33\x04\x00\x00\x0e\x10", "\x43\x0dundionly.kpxe", "\x42\x0910.18.0.1", "\x0c\x04n1-1", "\x61\x11\x000123456789abcdef",
	} {
		require.Contains(t, options, want)
	}
}

func TestProxy(t *testing.T) {
	s := newServer(t, config(dhcp.Proxy))
	discover := func(name string) dhcp.Ask {
		return s.Answer(request(t, ours, dhcpv4.MessageTypeDiscover, firmwares()[name]...), nowhere, dhcp.ServerPort)
	}
	for _, name := range []string{"bios rom", "ipxe"} {
		m := parsed(t, discover(name))
		require.True(t, m.YourIPAddr.IsUnspecified(), "addresses are another server's")
		require.Nil(t, m.SubnetMask())
		require.Equal(t, "PXEClient", m.ClassIdentifier())
		require.Equal(t, []byte{6, 1, 8, 255}, m.Options.Get(dhcpv4.OptionVendorSpecificInformation))
		require.NotEmpty(t, m.BootFileName)
	}
	m := parsed(t, discover("ovmf"))
	require.Empty(t, m.BootFileName, "EFI asks at the boot port")
	require.Nil(t, m.Options.Get(dhcpv4.OptionVendorSpecificInformation))
	require.Equal(t, "HTTPClient", parsed(t, discover("http")).ClassIdentifier())
	require.Equal(t, dhcp.Ignored, discover("linux").Outcome)

	peer := netip.MustParseAddrPort("10.18.1.1:4011")
	a := s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, append(firmwares()["ovmf"], dhcpv4.WithClientIP(own))...), peer, dhcp.BootPort)
	require.Equal(t, dhcp.Acked, a.Outcome)
	require.Equal(t, peer, a.To)
	require.Equal(t, "snponly.efi", parsed(t, a).BootFileName)
	a = s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, firmwares()["ovmf"]...), nowhere, dhcp.ServerPort)
	require.Equal(t, dhcp.Ignored, a.Outcome, "the address is asked of the other server")
}

func TestPxelinux(t *testing.T) {
	cfg := config(dhcp.Reservations)
	cfg.Loader = dhcp.Pxelinux
	s := newServer(t, cfg)
	for name, want := range map[string]string{"bios rom": "lpxelinux.0", "ipxe": "lpxelinux.0", "ovmf": "snponly.efi"} {
		require.Equal(t, want, s.Answer(request(t, ours, dhcpv4.MessageTypeDiscover, firmwares()[name]...), nowhere, dhcp.ServerPort).File, name)
	}
}

// TestChain: iPXE in a network card is given the loader that others get, too.
func TestChain(t *testing.T) {
	for loader, bios := range map[dhcp.Loader]string{dhcp.IPXE: "undionly.kpxe", dhcp.Pxelinux: "lpxelinux.0"} {
		cfg := config(dhcp.Reservations)
		known := cfg.Lookup
		cfg.Lookup = func(mac string) (dhcp.Host, bool) { h, ok := known(mac); h.Chain = true; return h, ok }
		cfg.Loader = loader
		s := newServer(t, cfg)
		for name, want := range map[string]string{"bios rom": bios, "ipxe": bios, "ipxe efi": "snponly.efi", "ovmf": "snponly.efi", "linux": ""} {
			require.Equal(t, want, s.Answer(request(t, ours, dhcpv4.MessageTypeDiscover, firmwares()[name]...), nowhere, dhcp.ServerPort).File, name)
		}
	}
}

func TestNotAnswered(t *testing.T) {
	s := newServer(t, config(dhcp.Reservations))
	bios := firmwares()["bios rom"]
	a := s.Answer(request(t, foreig, dhcpv4.MessageTypeDiscover, bios...), nowhere, dhcp.ServerPort)
	require.Equal(t, dhcp.Ask{Outcome: dhcp.Unknown, MAC: foreig, Arch: "bios"}, a)

	a = s.Answer(request(t, guest, dhcpv4.MessageTypeDiscover, bios...), nowhere, dhcp.ServerPort)
	require.Equal(t, dhcp.Offered, a.Outcome)
	require.Empty(t, parsed(t, a).BootFileName, "others boot what they boot")

	other := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 18, 0, 9)))
	require.Nil(t, s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, other, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(own))), nowhere, dhcp.ServerPort).Reply)

	a = s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 18, 7, 7)))), nowhere, dhcp.ServerPort)
	require.Equal(t, dhcp.Refused, a.Outcome)
	nak := parsed(t, a)
	require.Equal(t, dhcpv4.MessageTypeNak, nak.MessageType())
	require.True(t, nak.YourIPAddr.IsUnspecified())

	require.Equal(t, dhcp.Declined, s.Answer(request(t, ours, dhcpv4.MessageTypeDecline), nowhere, dhcp.ServerPort).Outcome)
	require.Equal(t, dhcp.Ignored, s.Answer(request(t, ours, dhcpv4.MessageTypeRelease), nowhere, dhcp.ServerPort).Outcome)
	require.Equal(t, dhcp.Malformed, s.Answer([]byte("hello"), nowhere, dhcp.ServerPort).Outcome)
	require.Equal(t, dhcp.Malformed, s.Answer(a.Reply, nowhere, dhcp.ServerPort).Outcome, "an answer is no request")
}

func TestRelayAndRenewal(t *testing.T) {
	s := newServer(t, config(dhcp.Reservations))
	circuit := dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(1), []byte("port 7"))))
	a := s.Answer(request(t, ours, dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(net.IPv4(10, 19, 0, 1)), circuit), netip.MustParseAddrPort("10.19.0.1:67"), dhcp.ServerPort)
	require.Equal(t, "10.19.0.1:67", a.To.String())
	m := parsed(t, a)
	require.True(t, m.GatewayIPAddr.Equal(net.IPv4(10, 19, 0, 1)))
	require.Equal(t, "\x01\x06port 7", string(m.Options.Get(dhcpv4.OptionRelayAgentInformation)))

	a = s.Answer(request(t, ours, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(own)), netip.MustParseAddrPort("10.18.1.1:68"), dhcp.ServerPort)
	require.Equal(t, dhcp.Acked, a.Outcome)
	require.Equal(t, "10.18.1.1:68", a.To.String())

	a = s.Answer(request(t, ours, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(own)), netip.MustParseAddrPort("10.18.1.1:68"), dhcp.ServerPort)
	m = parsed(t, a)
	require.True(t, m.YourIPAddr.IsUnspecified())
	require.Zero(t, m.IPAddressLeaseTime(0))
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*dhcp.Config){
		"mode":           func(c *dhcp.Config) { c.Mode = dhcp.Off },
		"loader":         func(c *dhcp.Config) { c.Loader = "grub" },
		"server":         func(c *dhcp.Config) { c.Server = netip.Addr{} },
		"look-up":        func(c *dhcp.Config) { c.Lookup = nil },
		"base":           func(c *dhcp.Config) { c.Base = "https://a" },
		"netmask":        func(c *dhcp.Config) { c.Netmask = nil },
		"lease":          func(c *dhcp.Config) { c.Lease = 1 },
		"gateway":        func(c *dhcp.Config) { c.Gateway = netip.IPv6Loopback() },
		"name server":    func(c *dhcp.Config) { c.DNS = []netip.Addr{netip.IPv6Loopback()} },
		"name of a file": func(c *dhcp.Config) { c.Files.BIOS = "a b" },
	} {
		cfg := config(dhcp.Reservations)
		change(&cfg)
		_, err := dhcp.New(cfg)
		require.ErrorIs(t, err, dhcp.ErrConfig, name)
		require.ErrorContains(t, err, name)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, mods := range firmwares() {
		f.Add(request(f, ours, dhcpv4.MessageTypeDiscover, mods...), false)
	}
	f.Add(request(f, ours, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(own))), true)
	f.Add([]byte{}, false)
	reserve, proxy := newServer(f, config(dhcp.Reservations)), newServer(f, config(dhcp.Proxy))
	f.Fuzz(func(t *testing.T, packet []byte, boot bool) {
		port := uint16(dhcp.ServerPort)
		if boot {
			port = dhcp.BootPort
		}
		for _, s := range []*dhcp.Server{reserve, proxy} {
			a := s.Answer(packet, nowhere, port)
			if a.Reply == nil {
				continue
			}
			if a.MAC != ours && a.MAC != guest {
				t.Fatalf("an answer to a stranger: %+v", a)
			}
			m, err := dhcpv4.FromBytes(a.Reply)
			if err != nil || !a.To.IsValid() {
				t.Fatalf("answer to %s: %v", a.To, err)
			}
			if y := m.YourIPAddr; !y.IsUnspecified() && (s == proxy || y.String() != a.Host.IP.String()) {
				t.Fatalf("the address %s for %s", y, a.Host.Name)
			}
		}
	})
}
