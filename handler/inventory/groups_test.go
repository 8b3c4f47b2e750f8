package inventory_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/handler/inventory"
)

// legacySettings are the settings of a legacy node with these in its file.
func legacySettings(settings string) (inventory.Legacy, error) {
	inv, err := inventory.Parse([]byte("version: 1\ntestbeds:\n  t:\n    nodes:\n      a: {agent: legacy, ip: 10.0.0.1, legacy: {" + settings + "}}\n"))
	if err != nil {
		return inventory.Legacy{}, err
	}
	tb, _ := inv.Testbed("t")
	n, _ := tb.Node("a")
	return n.Legacy, nil
}

func TestLegacyDirectory(t *testing.T) {
	l, err := legacySettings("nfs: 'frisbee:/export/orbit/image/tmp'")
	require.NoError(t, err)
	require.Equal(t, "frisbee:/export/orbit/image/tmp", l.NFS)
	for _, bad := range []string{"frisbee", "frisbee:", ":/export", "frisbee:export", "frisbee:/a b", "frisbee:/a;reboot", "$(reboot):/a", "frisbee:/a\\nb"} {
		_, err := legacySettings(`nfs: "` + bad + `"`)
		require.ErrorContains(t, err, "write host:/directory", bad)
	}
}

func TestLegacyGroups(t *testing.T) {
	l, err := legacySettings("connect: multicast")
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("224.4.0.1:9006"), l.Group)
	require.Equal(t, netip.MustParseAddrPort("224.4.0.2:9002"), l.Answers)
	l, err = legacySettings("connect: multicast, group: '239.1.1.1:1', answers: '239.1.1.2:2'")
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("239.1.1.2:2"), l.Answers)
	l, err = legacySettings("connect: dial")
	require.NoError(t, err)
	require.False(t, l.Group.IsValid())
	for bad, says := range map[string]string{
		"connect: multicast, group: '10.0.0.1:9006'":  "is no IPv4 multicast address with a port",
		"connect: multicast, answers: 224.4.0.2":      "is no IPv4 multicast address with a port",
		"connect: multicast, group: '224.4.0.2:9002'": "agents would hear their own answers",
		"connect: dial, group: '224.4.0.1:9006'":      "belong to connect: multicast",
		"connect: anycast":                            "write one of dial, listen, multicast",
	} {
		_, err := legacySettings(bad)
		require.ErrorContains(t, err, says)
	}
}
