package inventory_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/handler/inventory"
)

const drivers = `version: 1
testbeds:
  t:
    grid: {x: 1, y: 2}
    defaults: {power: {driver: cmc, form: orbit, url: "http://cmc:5012/cmc/"}}
    nodes:
      a7: {power: {driver: cmc, form: card, url: "http://reboot{digits}"}}
      a8: {power: {driver: cmc, form: card, url: "http://reboot{digits}"}}
      b: {power: {driver: redfish, url: "https://bmc-{node}", user: root, password_file: /etc/pw, fingerprint: "AB:cdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd", timeout: 5s}}
      c: {power: {driver: ipmi, host: "bmc-{node}:6230", user: root, password_env: PW, bootdev: none}}
      d: {mac: "00:11:22:33:44:55", power: {driver: wol, interface: eth1, broadcast: 10.18.255.255}}
      e: {power: {driver: agent, escalate: 5s}}
`

func TestPowerDrivers(t *testing.T) {
	inv := load(t, drivers)
	tb, _ := inv.Testbed("t")
	for name, want := range map[string]inventory.Power{
		"n1-2": {Driver: "cmc", Form: "orbit", URL: "http://cmc:5012/cmc"},
		"a7":   {Driver: "cmc", Form: "card", URL: "http://reboot{digits}"},
		"b": {Driver: "redfish", URL: "https://bmc-{node}", User: "root", PasswordFile: "/etc/pw", Auth: "basic", Bootdev: "pxe", Timeout: 5 * time.Second,
			Fingerprint: "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd"},
		"c": {Driver: "ipmi", Host: "bmc-{node}:6230", User: "root", PasswordEnv: "PW", Program: "/usr/bin/ipmitool", Bootdev: "none"},
		"d": {Driver: "wol", Interface: "eth1", Broadcast: "10.18.255.255"},
		"e": {Driver: "agent", Escalate: 5 * time.Second},
	} {
		if want.Timeout == 0 {
			want.Timeout = 30 * time.Second
		}
		n, ok := tb.Node(name)
		require.True(t, ok)
		require.Equal(t, want, n.Power, name)
		key, err := n.Power.Check()
		require.NoError(t, err, key)
	}
	x, y := inv.Place("t", "n1-2")
	require.Equal(t, [2]int{1, 2}, [2]int{x, y})
	require.Equal(t, "http://reboot07/1/2/10.0.0.7/fit07", inventory.Expand("http://reboot{digits}/{x}/{y}/{ip}/{node}", "fit07", 1, 2, "10.0.0.7"))
	n, _ := tb.Node("d")
	to, err := n.Power.BroadcastAddr()
	require.NoError(t, err)
	require.Equal(t, "10.18.255.255:9", to.String())
}

func TestPowerRefuses(t *testing.T) {
	const who = `user: u, password_env: P`
	for _, c := range [][2]string{
		{"driver: bus, url: x", "inventory:5: the power driver bus has no url; it belongs to cmc and redfish"},
		{"driver: cmc, url: 'http://a', form: orbit, insecure: true", "the power driver cmc has no insecure; it belongs to redfish"},
		{"driver: cmc, url: 'http://a'", `form ""; write one of orbit, orbit5, card`},
		{"driver: cmc, form: card, url: 'http://a', domain: b", "a card at the node has no domain"},
		{"driver: cmc, form: card", `write url: "http://reboot{digits}"`},
		{"driver: cmc, form: card, url: 'http://a'", "n1-1 and n1-2 have the same power controller http://a"},
		{"driver: cmc, form: card, url: 'http://a{x}'", "have the same power controller http://a1"},
		{"driver: cmc, form: card, url: 'http://a{ip}'", "url of the power of n1-1 uses {ip}, which is not known"},
		{"driver: cmc, form: orbit, url: 'http://a{nodes}'", "uses {nodes}; there are {node} {digits}"},
		{"driver: cmc, form: orbit, url: 'ftp://a'", `url "ftp://a"; write an address such as`},
		{"driver: cmc, form: orbit, url: 'http://a/?x=1'", "write an address such as"},
		{"driver: cmc, form: orbit, url: 'http://u:p@a'", "has a name or a password before its host"},
		{"driver: cmc, form: orbit, url: 'http://a:99999'", "ports are 1 to 65535"},
		{"driver: redfish, url: 'http://a', " + who, "has no encryption"},
		{"driver: redfish, url: 'https://a{node}'", `user ""; write the name of an account`},
		{"driver: redfish, url: 'https://a{node}', user: u", "the password is missing; write password_file:"},
		{"driver: redfish, url: 'https://a{node}', password: x, " + who, "more than one password"},
		{"driver: redfish, url: 'https://a{node}', auth: digest, " + who, `auth "digest"; write one of basic, session`},
		{"driver: redfish, url: 'https://a{node}', system: 'x', " + who, `system "x"; write the path`},
		{"driver: redfish, url: 'https://a{node}', system: '/a/../b', " + who, "write the path"},
		{"driver: redfish, url: 'https://a{node}', fingerprint: abc, " + who, "write the SHA-256 of the certificate"},
		{"driver: redfish, url: 'https://a{node}', ca_file: a, " + who, "ca_file \"a\" is not an absolute path"},
		{"driver: redfish, url: 'https://a{node}', ca_file: /a, insecure: true, " + who, "write only one of fingerprint, ca_file"},
		{"driver: redfish, url: 'https://a{node}', bootdev: disk, " + who, `bootdev "disk"; write one of pxe, none`},
		{"driver: redfish, url: 'https://a{node}', user: u, password_file: pw", "password_file \"pw\" is not an absolute path"},
		{"driver: redfish, url: 'https://a{node}', user: u, password_env: 'a b'", "is not the name of an environment variable"},
		{"driver: redfish, url: 'https://a', " + who, "n1-1 and n1-2 have the same power controller https://a"},
		{"driver: ipmi, " + who, `write host: "bmc-{node}"`},
		{"driver: ipmi, host: '-x', " + who, `host "-x"; write a name or an address`},
		{"driver: ipmi, host: 'a:0', " + who, "ports are 1 to 65535"},
		{"driver: ipmi, host: 'a{node}', program: ipmitool, " + who, "is not an absolute path; ipmitool is /usr/bin/ipmitool"},
		{"driver: wol", "the power driver wol needs the mac of n1-1"},
		{"driver: wol, interface: 'a b'", "write its name, such as eth1"},
		{"driver: wol, broadcast: nowhere", "write the broadcast address"},
	} {
		_, err := inventory.Parse([]byte(in("    defaults: {power: {" + c[0] + "}}")))
		require.ErrorIs(t, err, inventory.ErrInvalid, c[0])
		require.ErrorContains(t, err, c[1])
	}
	_, err := inventory.Parse([]byte(in("    defaults: {power: {driver: cmc, form: orbit, url: 'http://a'}}\n    nodes: {console: }")))
	require.ErrorContains(t, err, "console has no place in the grid")
}

// A password in the file is for its owner alone.
func TestPasswordInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(path, []byte(in("    defaults: {power: {driver: ipmi, host: 'b-{node}', user: u, password: geheim}}")), 0o600))
	inv, err := inventory.Load(path)
	require.NoError(t, err)
	tb, _ := inv.Testbed("t")
	require.Equal(t, "geheim", tb.Nodes()[0].Power.Password)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = inventory.Load(path)
		require.ErrorIs(t, err, inventory.ErrInvalid)
		require.ErrorContains(t, err, "chmod 600 "+path)
		require.NotContains(t, err.Error(), "geheim")
	}
}
