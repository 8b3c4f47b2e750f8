package initramfs

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func ack(t *testing.T, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	a, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 7)), dhcpv4.WithNetmask(net.CIDRMask(22, 32))}, with...)...)
	require.NoError(t, err)
	return a
}

func TestReadLease(t *testing.T) {
	n, err := readLease(ack(t, dhcpv4.WithRouter(net.IPv4(192, 168, 0, 1), net.IPv4(10, 0, 1, 254), net.IPv4(10, 0, 1, 253)),
		dhcpv4.WithDNS(net.IPv4(10, 0, 0, 1)), dhcpv4.WithOption(dhcpv4.OptHostName("n1-2")), dhcpv4.WithOption(dhcpv4.OptDomainName("lab.example")),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78})))
	require.NoError(t, err)
	require.Equal(t, netip.MustParsePrefix("10.0.0.7/22"), n.address)
	require.Equal(t, netip.MustParseAddr("10.0.1.254"), n.gateway, "the first that can be reached")
	require.Equal(t, "n1-2", n.hostname)
	require.Equal(t, 1400, n.mtu)
	require.Equal(t, "search lab.example\nnameserver 10.0.0.1\n", string(n.resolver()))

	n, err = readLease(ack(t, dhcpv4.WithOption(dhcpv4.OptHostName("n1;reboot")), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 9})))
	require.NoError(t, err)
	require.Empty(t, n.hostname)
	require.False(t, n.gateway.IsValid())
	require.Zero(t, n.mtu)

	for _, bad := range []dhcpv4.Modifier{
		dhcpv4.WithYourIP(net.IPv4zero), dhcpv4.WithYourIP(net.IPv4(239, 1, 1, 1)), dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1)),
		dhcpv4.WithNetmask(net.IPMask{0, 0, 0, 0}), dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0}),
	} {
		_, err := readLease(ack(t, bad))
		require.ErrorContains(t, err, "DHCP")
	}
}

// FuzzLease: whatever a server says, nothing but a sound address comes out.
func FuzzLease(f *testing.F) {
	a, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 7)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 0, 0, 1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.ToBytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := dhcpv4.FromBytes(raw)
		if err != nil {
			return
		}
		n, err := readLease(a)
		if err == nil {
			require.True(t, n.address.IsValid() && n.address.Addr().Is4())
			require.NotContains(t, n.hostname, " ")
			require.LessOrEqual(t, len(n.dns), 3)
		}
	})
}

func TestNetlinkAnswer(t *testing.T) {
	packet := func(kind uint16, code int32) []byte {
		p := make([]byte, unix.NLMSG_HDRLEN+4)
		binary.NativeEndian.PutUint16(p[4:], kind)
		binary.NativeEndian.PutUint32(p[unix.NLMSG_HDRLEN:], uint32(code))
		return p
	}
	require.NoError(t, answer(packet(unix.NLMSG_ERROR, 0)))
	require.ErrorIs(t, answer(packet(unix.NLMSG_ERROR, -int32(unix.EEXIST))), unix.EEXIST)
	require.Error(t, answer(packet(unix.NLMSG_DONE, 0)))
	require.Error(t, answer(nil))
}

func TestAwaitCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		require.True(t, awaitCarrier(t.Context(), func() bool { return true }))
		require.Zero(t, time.Since(begin), "a link that is up costs nothing")
		require.True(t, awaitCarrier(t.Context(), func() bool { return time.Since(begin) >= 3*time.Second }))
		require.Equal(t, 3*time.Second, time.Since(begin), "it ends with the carrier")

		begin = time.Now()
		require.False(t, awaitCarrier(t.Context(), func() bool { return false }))
		require.Equal(t, carrierWait, time.Since(begin), "some drivers never tell")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin = time.Now()
		require.False(t, awaitCarrier(ctx, func() bool { return false }))
		require.Zero(t, time.Since(begin))
	})
}

func TestCarrier(t *testing.T) {
	class := t.TempDir()
	require.False(t, carrier(class, "eth0"), "the kernel refuses to say while the interface is off")
	require.NoError(t, os.Mkdir(filepath.Join(class, "eth0"), 0o755))
	for text, want := range map[string]bool{"0\n": false, "1\n": true} {
		require.NoError(t, os.WriteFile(filepath.Join(class, "eth0", "carrier"), []byte(text), 0o644))
		require.Equal(t, want, carrier(class, "eth0"))
	}
}
