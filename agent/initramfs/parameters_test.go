package initramfs

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParameters(t *testing.T) {
	p, err := ReadParameters(`BOOT_IMAGE=kernel quiet omf.server=nats://10.0.0.1:4222,nats://10.0.0.2:4222 omf.node=n1-2 omf.boot=http://10.0.0.1:5012 BOOTIF=01-52-54-00-aa-bb-cc omf.console=1` + "\n")
	require.NoError(t, err)
	require.Equal(t, []string{"nats://10.0.0.1:4222", "nats://10.0.0.2:4222"}, p.Servers)
	require.Equal(t, "default", p.Testbed)
	require.Equal(t, "n1-2", p.Node)
	require.Equal(t, "http://10.0.0.1:5012", p.Boot.String())
	require.Equal(t, net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}, p.MAC)
	require.True(t, p.Console)
	require.False(t, p.Debug)

	p, err = ReadParameters("omf.testbed=a omf.testbed=b omf.mac=52:54:00:00:00:01 BOOTIF=01-52-54-00-aa-bb-cc omf.ip=10.0.0.7/24 omf.gateway=10.0.0.254 omf.debug=1")
	require.NoError(t, err)
	require.Equal(t, "b", p.Testbed)
	require.Equal(t, "52:54:00:00:00:01", p.MAC.String(), "omf.mac wins")
	require.Equal(t, netip.MustParsePrefix("10.0.0.7/24"), p.Address)
	require.Equal(t, netip.MustParseAddr("10.0.0.254"), p.Gateway)
	require.True(t, p.Debug)

	for _, line := range []string{
		"omf.boot=ftp://x", "omf.boot=http://", "omf.boot=%", "omf.mac=1", "omf.mac=01:02:03:04:05:06:07:08", "BOOTIF=52-54-00-aa-bb-cc",
		"BOOTIF=01-x", "omf.ip=10.0.0.7", "omf.ip=fe80::1/64", "omf.gateway=x", "omf.gateway=fe80::1",
	} {
		_, err := ReadParameters(line)
		require.ErrorContains(t, err, "kernel parameter", line)
	}
}

func TestWords(t *testing.T) {
	require.Equal(t, []string{"a=b c", "d", ""}, words(" a=\"b c\"\td \"\"\n"))
	require.Equal(t, []string{"a b"}, words(`"a b`))
	require.Empty(t, words(" \n"))
}

func FuzzParameters(f *testing.F) {
	f.Add(`omf.server=nats://a omf.mac=52:54:00:00:00:01 x="y z"`)
	f.Add(`BOOTIF=01-52-54-00-aa-bb-cc omf.ip=10.0.0.7/24`)
	f.Fuzz(func(t *testing.T, line string) {
		p, err := ReadParameters(line)
		if err == nil && p.MAC != nil {
			require.Len(t, p.MAC, 6)
		}
		if err == nil && p.Address.IsValid() {
			require.True(t, p.Address.Addr().Is4())
		}
	})
}
