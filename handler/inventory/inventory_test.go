package inventory_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/nodeset"
)

const full = `version: 1
testbeds:
  default:
    grid: {x: 3, y: 2}
    defaults: {disk: /dev/sda, power: {driver: bus}, boot: {driver: pxelinux, image: pxe-5, checkin: 2m}, then: reboot}
    groups:
      old: {nodes: "[1,1..2]", disk: /dev/hda, agent: legacy}
      all: {nodes: "all", then: stay}
      last: {nodes: "[1,2]", disk: /dev/sdb, legacy: {port: 9026, connect: listen, any_system: true}}
    nodes:
      n2-1: {x: 2, y: 1, mac: "00:11:22:AA:bb:CC", ip: 10.18.2.1, hostname: node2-1, disk: serial=WD-42,
             power: {driver: exec, command: [/usr/local/bin/power, "{node}", "{action}", "{mac}@{ip}"], timeout: 5s, escalate: 20s}}
      console: {protected: true, ip: 10.18.0.1, hostname: console.grid.example}
      middle: {x: 2, y: 2, agent: native, then: shutdown}
      n1-1:
  sb1:
    name_prefix: fit
    nodes:
      fit09: {mac: 00-11-22-aa-bb-cd}
      fit01: {hostname: reboot01}
      fit10: {}
      gateway: {protected: true}
`

func load(t *testing.T, text string) *inventory.Inventory {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	inv, err := inventory.Load(path)
	require.NoError(t, err)
	return inv
}

func names(tb *inventory.Testbed) (all []string) {
	for _, n := range tb.Nodes() {
		all = append(all, n.Name)
	}
	return all
}

// port is what every node has unless the file says otherwise.
var port = inventory.Legacy{Port: 9006}

func TestLoad(t *testing.T) {
	inv := load(t, full)
	require.Len(t, inv.Testbeds(), 2)
	tb, ok := inv.Testbed("default")
	require.True(t, ok)
	require.Equal(t, []string{"n1-1", "n1-2", "n2-1", "middle", "n3-1", "n3-2", "console"}, names(tb))
	require.Equal(t, [2]int{3, 2}, [2]int{tb.Columns, tb.Rows})

	boot := inventory.Boot{Driver: "pxelinux", Image: "pxe-5", Checkin: 2 * time.Minute}
	bus := inventory.Power{Driver: "bus", Timeout: 30 * time.Second}
	for _, want := range []inventory.Node{
		{Name: "n1-1", X: 1, Y: 1, Disk: "/dev/hda", Agent: "legacy", Legacy: port, Then: "stay", Power: bus, Boot: boot},
		{Name: "n1-2", X: 1, Y: 2, Disk: "/dev/sdb", Agent: "legacy", Legacy: inventory.Legacy{Port: 9026, Listen: true, AnySystem: true}, Then: "stay", Power: bus, Boot: boot},
		{
			Name: "n2-1", X: 2, Y: 1, MAC: "00:11:22:aa:bb:cc", IP: netip.MustParseAddr("10.18.2.1"), Hostname: "node2-1",
			Disk: "serial=WD-42", Agent: "native", Legacy: port, Then: "stay", Boot: boot,
			Power: inventory.Power{
				Driver: "exec", Command: []string{"/usr/local/bin/power", "{node}", "{action}", "{mac}@{ip}"},
				Timeout: 5 * time.Second, Escalate: 20 * time.Second,
			},
		},
		{Name: "middle", X: 2, Y: 2, Disk: "/dev/sda", Agent: "native", Legacy: port, Then: "shutdown", Power: bus, Boot: boot},
		{Name: "n3-2", X: 3, Y: 2, Disk: "/dev/sda", Agent: "native", Legacy: port, Then: "stay", Power: bus, Boot: boot},
		{
			Name: "console", IP: netip.MustParseAddr("10.18.0.1"), Hostname: "console.grid.example", Protected: true,
			Disk: "/dev/sda", Agent: "native", Legacy: port, Then: "stay", Power: bus, Boot: boot,
		},
	} {
		n, ok := tb.Node(want.Name)
		require.True(t, ok)
		require.Equal(t, want, *n)
	}
	_, ok = tb.Node("node2-1")
	require.False(t, ok, "Node takes names only")

	sb, ok := inv.Testbed("sb1")
	require.True(t, ok)
	require.Equal(t, []string{"fit09", "fit01", "fit10", "gateway"}, names(sb))
	n, _ := sb.Node("fit10")
	require.Equal(t, inventory.Node{
		Name: "fit10", Legacy: port, Agent: inventory.AgentNative, Then: events.ThenShutdown,
		Power: bus, Boot: inventory.Boot{Driver: "none"},
	}, *n)
	_, ok = inv.Testbed("sb2")
	require.False(t, ok)

	for place, want := range map[[2]string]string{
		{"default", "n2-1"}: "00:11:22:aa:bb:cc 10.18.2.1", {"default", "console"}: " 10.18.0.1",
		{"sb1", "fit09"}: "00:11:22:aa:bb:cd ", {"default", "n1-1"}: " ", {"sb1", "n1-1"}: " ", {"sb2", "n1-1"}: " ",
	} {
		mac, ip := inv.Addresses(place[0], place[1])
		require.Equal(t, want, mac+" "+ip, place)
	}
}

func bed(t *testing.T, inv *inventory.Inventory, name string) *inventory.Testbed {
	t.Helper()
	tb, ok := inv.Testbed(name)
	require.True(t, ok, name)
	return tb
}

// Node sets against the view.
func TestView(t *testing.T) {
	inv := load(t, full)
	topologies := fstest.MapFS{"lab/left.rb": {Data: []byte("defTopology('lab:left', [1,1..2])")}}
	active := func() []string { return []string{"n3-1", "gone"} }
	for _, c := range []struct{ testbed, expr, want, missing string }{
		{"default", "[1..2,1..2]", "n1-1 n1-2 n2-1 middle", ""},
		{"default", "[2,2] middle n2-2 n_2_2 4", "middle", ""},
		{"default", "node2-1,10.18.2.1 console.grid.example", "n2-1 console", ""},
		{"default", "7 8", "console", "8"},
		{"default", "lab:left ~n1-1", "n1-2", ""},
		{"default", "system:topo:active", "n3-1", "gone"},
		{"default", "system:topo:all", "n1-1 n1-2 n2-1 middle n3-1 n3-2 console", ""},
		{"default", "system:topo:circle", "", ""},
		{"default", "[4,1] fit01", "", "n4-1 fit01"},
		{"sb1", "9 1 10 reboot01", "fit09 fit01 fit10", ""},
		{"sb1", "fit9 fit009 fit1-fit2", "fit09 fit01", "fit2"},
		{"sb1", "all ~1-9-8", "fit10 gateway", ""},
		{"sb1", "n1-1 [1,1]", "", "n1-1"},
	} {
		set, err := nodeset.Parse(c.expr)
		require.NoError(t, err)
		nodes, missing, err := set.Resolve(bed(t, inv, c.testbed).View(active, topologies))
		require.NoError(t, err, c.expr)
		require.Equal(t, c.want, strings.Join(nodes, " "), c.expr)
		require.Equal(t, c.missing, strings.Join(missing, " "), c.expr)
	}
	require.Empty(t, bed(t, inv, "default").View(nil).Active())
	_, err := bed(t, inv, "default").View(nil).Topology("lab:left")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSim(t *testing.T) {
	inv := inventory.Sim(20, 20)
	tb, ok := inv.Testbed(inventory.DefaultTestbed)
	require.True(t, ok)
	require.Len(t, tb.Nodes(), 400)
	require.Equal(t, "n1-1 n1-2 n20-20", strings.Join([]string{names(tb)[0], names(tb)[1], names(tb)[399]}, " "))
	n, _ := tb.Node("n20-20")
	require.Equal(t, inventory.Node{
		Name: "n20-20", X: 20, Y: 20, Agent: "native", Legacy: port, Then: "shutdown",
		Power: inventory.Power{Driver: "bus", Timeout: 30 * time.Second}, Boot: inventory.Boot{Driver: "none"},
	}, *n)
	set, err := nodeset.Parse("system:topo:circle")
	require.NoError(t, err)
	nodes, missing, err := set.Resolve(bed(t, inv, "default").View(nil))
	require.NoError(t, err)
	require.Len(t, nodes, 32)
	require.Empty(t, missing)

	// The file that says the same.
	parsed, err := inventory.Parse([]byte("version: 1\ntestbeds: {default: {grid: {x: 20, y: 20}}}"))
	require.NoError(t, err)
	require.Equal(t, inv, parsed)

	for _, size := range [][2]int{{0, 5}, {5, 0}, {-1, -1}, {65537, 1}, {1 << 40, 1 << 40}, {257, 256}} {
		tb, ok := inventory.Sim(size[0], size[1]).Testbed("default")
		require.True(t, ok)
		require.Empty(t, tb.Nodes())
	}
}

// in puts nodes into a testbed with a grid of 2 by 2; they begin in line 5.
func in(nodes string) string {
	return "version: 1\ntestbeds:\n  t:\n    grid: {x: 2, y: 2}\n" + nodes
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "inventory: inventory is not valid: it is empty"},
		{"# only a comment", "it is empty"},
		{"testbeds: {t: {grid: {x: 1, y: 1}}}", "inventory:1: version is missing; write version: 1"},
		{"version: 2\ntestbeds: {t: {grid: {x: 1, y: 1}}}", "inventory:1: version 2 is not known"},
		{"version: 1", "inventory:1: there is no testbed; write testbeds:"},
		{"version: 1\ntestbeds: {}", "inventory:2: there is no testbed"},
		{"version: 1\ntestbeds: {t: {}}", "inventory:2: testbed t has no nodes; give it a grid"},
		{"version: 1\ntestbeds: {t: }", "has no nodes"},
		{"version: 1\ntestbeds: {'a b': {grid: {x: 1, y: 1}}}", `inventory:2: "a b" cannot be a testbed's name`},
		{"version: 1\ntestbeds: {t: {grid: {x: 1, y: 1}}}\n---\nversion: 1", "second document"},
		{"version: 1\ntestbeds: {t: {grid: {x: 0, y: 1}}}", "inventory:2: a grid of 0 by 1; x and y are at least 1"},
		{"version: 1\ntestbeds: {t: {grid: {x: 99999999, y: 99999999}}}", "at most 65536 nodes"},
		{"version: 1\ntestbeds: {t: {grid: {x: 4294967296, y: 4294967296}}}", "at most 65536 nodes"},
		{in("    nodez: {}"), `inventory:5: unknown key "nodez"; known here are grid, name_prefix, defaults, groups, nodes`},
		{in("    nodes:\n      n1-1: {dsk: /dev/sda}"), `inventory:6: unknown key "dsk"; known here are x, y, mac, ip, hostname, disk, agent, legacy, then, protected, power, boot`},
		{in("    groups:\n      g: {nodes: all, mac: x}"), `unknown key "mac"; known here are nodes, disk`},
		{in("    defaults:\n      power: {drivr: bus}"), `inventory:6: unknown key "drivr"; known here are driver, command, timeout, escalate`},
		{in("    nodes:\n      n1-1: {protected: perhaps}"), "inventory:6: found `perhaps`, want true or false"},
		{in("    nodes:\n      n1-1: {disk: {a: b}}"), "inventory:6: found keys and values, want one word"},
		{in("    nodes:\n      n1-1: {x: one}"), "want a whole number"},
		{in("    nodes: [n1-1]"), "inventory:5: found a list, want keys and values"},
		{in("    defaults: {power: {driver: bus, timeout: 30}}"), "want a duration with its unit: 30s"},
		{in("    nodes:\n      n1-1: {}\n      n1-1: {}"), "already defined at line 6"},
		{in("   bad indent: {}\n"), "inventory:"},
		{in("    nodes: &a {n1-1: *a}"), "inventory:"},
		{"\x00\xff", "inventory"},
		{in("    nodes:\n      all: {}"), `inventory:6: not a name for a node: "all" means every node`},
		{in("    nodes:\n      12: {}"), `inventory:6: not a name for a node: "12" reads like a number`},
		{in("    nodes:\n      a b: {}"), "inventory:6: not a name"},
		{in("    nodes:\n      n3-1: {}"), "inventory:6: n3-1 is at x 3, y 1, outside of the grid of 2 by 2"},
		{in("    nodes:\n      foo: {x: 1, y: 3}"), "outside of the grid"},
		{in("    nodes:\n      foo: {x: 0, y: 1}"), "places are counted from 1"},
		{in("    nodes:\n      foo: {x: -1, y: 1}"), "places are counted from 1"},
		{in("    nodes:\n      foo: {x: 1}"), "inventory:6: foo has only one of x and y"},
		{in("    nodes:\n      n1-1: {x: 1, y: 2}"), "n1-1 is at x 1, y 2, but its name says x 1, y 1"},
		{in("    nodes:\n      n1-1: {}\n      foo: {x: 1, y: 1}"), "inventory:7: n1-1 and foo are both at x 1, y 1"},
		{in("    nodes:\n      n1-1: {}\n      n_1_1: {}"), "n1-1 and n_1_1 are both at"},
		{in("    nodes:\n      n1-1: {mac: 00:11:22:33:44}"), `inventory:6: mac "00:11:22:33:44" of n1-1 is not the address`},
		{in("    nodes:\n      n1-1: {mac: '01:00:5e:00:00:01'}"), "not the address of one interface"},
		{in("    nodes:\n      n1-1: {mac: '00:00:00:00:00:00'}"), "not the address of one interface"},
		{in("    nodes:\n      n1-1: {mac: '02:00:5e:10:00:00:00:01'}"), "not the address of one interface"},
		{in("    nodes:\n      n1-1: {mac: '00:11:22:33:44:AA'}\n      n1-2: {mac: '00-11-22-33-44-aa'}"), "inventory:7: mac 00:11:22:33:44:aa is that of n1-1 and of n1-2 (testbed t)"},
		{in("    nodes:\n      n1-1: {mac: '00:11:22:33:44:AA'}\n  u:\n    nodes:\n      a: {mac: '00:11:22:33:44:AA'}"), "inventory:9: mac 00:11:22:33:44:aa is that of n1-1 and of a (testbed u)"},
		{in("    nodes:\n      n1-1: {ip: 10.18.1}"), `ip "10.18.1" of n1-1`},
		{in("    nodes:\n      n1-1: {ip: 224.0.0.2}"), "not the address of one machine"},
		{in("    nodes:\n      n1-1: {ip: 0.0.0.0}"), "not the address of one machine"},
		{in("    nodes:\n      n1-1: {ip: 'fe80::1%eth0'}"), "not the address of one machine"},
		{in("    nodes:\n      n1-1: {ip: 10.18.1.1}\n      n1-2: {ip: '::ffff:10.18.1.1'}"), "inventory:7: ip ::ffff:10.18.1.1 is that of n1-1 and of n1-2"},
		{in("    nodes:\n      n1-1: {hostname: n1-2}"), "hostname n1-2 of n1-1 means n1-2 already"},
		{in("    nodes:\n      n1-1: {hostname: node1-2}"), "hostname node1-2 of n1-1 means n1-2 already"},
		{in("    nodes:\n      n1-1: {hostname: a}\n      n1-2: {hostname: a}"), "inventory:7: hostname a of n1-2 means n1-1 already"},
		{in("    nodes:\n      n1-1: {hostname: 'a b'}"), "inventory:6: hostname of n1-1: not a name"},
		{in("    name_prefix: n"), `name_prefix "n" cannot be told from the nodes of the grid`},
		{in("    name_prefix: fit"), "inventory:5: no node is named fit and a number"},
		{in("    name_prefix: fit0"), "no digit at the end"},
		{in("    name_prefix: '~'"), "name_prefix \"~\"; want a letter"},
		{in("    name_prefix: fit\n    nodes: {fit1: , fit01: }"), "fit1 and fit01 both have the number 1"},
		{in("    name_prefix: fit\n    nodes: {fit1: , fit2: {hostname: fit001}}"), "hostname fit001 of fit2 means fit1 already"},
		{in("    defaults: {agent: ruby}"), `inventory:5: agent "ruby" is not known; write one of native, legacy`},
		{in("    defaults: {then: explode}"), "write one of shutdown, reboot, stay"},
		{in("    defaults: {disk: ' /dev/sda'}"), "write a selector such as /dev/sda"},
		{in("    defaults: {disk: \"/dev/\\u0000\"}"), "write a selector"},
		{in("    defaults: {power: {}}"), "driver is missing or empty; write one of bus, exec"},
		{in("    defaults: {power: {driver: smoke}}"), `driver "smoke" is not known; write one of bus, exec`},
		{in("    defaults: {power: {driver: bus, timeout: 0s}}"), "timeout 0s; allowed are 1ms to 1h0m0s"},
		{in("    defaults: {power: {driver: bus, timeout: 2h}}"), "allowed are"},
		{in("    defaults: {power: {driver: bus, escalate: -1s}}"), "escalate -1s; allowed are 0s to 1h0m0s"},
		{in("    defaults: {power: {driver: bus, command: [/bin/x, '{action}']}}"), "the power driver bus has no command"},
		{in("    defaults: {power: {driver: exec}}"), "the command is missing; write command: [/usr/local/bin/power"},
		{in("    defaults: {power: {driver: exec, command: [power, '{action}']}}"), `the program "power" is not an absolute path`},
		{in("    defaults: {power: {driver: exec, command: ['/bin/{node}', '{action}']}}"), "cannot depend on {node}"},
		{in("    defaults: {power: {driver: exec, command: [/bin/x, '{Node}', '{action}']}}"), "the command uses {Node}; there are {node} {action}"},
		{in("    defaults: {power: {driver: exec, command: [/bin/x, '{node}']}}"), "does not use {action}"},
		{in("    defaults: {power: {driver: exec, command: [/bin/x, '{mac}', '{action}']}}"), "the power command of n1-1 uses {mac}, which is not known"},
		{in("    nodes:\n      n1-1: {power: {driver: exec, command: [/bin/x, '{ip}', '{action}']}}"), "inventory:6: the power command of n1-1 uses {ip}"},
		{in("    defaults: {boot: {image: x}}"), "driver is missing or empty; write one of none, pxelinux, builtin"},
		{in("    defaults: {boot: {driver: none, checkin: 48h}}"), "checkin 48h0m0s; allowed are 0s to 24h0m0s"},
		{in("    defaults: {boot: {driver: none, args: \"a\\nb\"}}"), "printable characters"},
		{in("    groups: {g: {disk: x}}"), "group g has no nodes"},
		{in("    groups: {g: }"), "group g has no nodes"},
		{in("    groups:\n      g: {nodes: '[1'}"), "inventory:6: group g: node set, column 1: the bracket is not closed"},
		{in("    groups:\n      g: {nodes: '[1,1..3]'}"), "inventory:6: group g: testbed t has no node n1-3"},
		{in("    groups:\n      g: {nodes: 'a:b'}"), "no such topology: a:b"},
		{strings.Repeat("#", inventory.MaxFile+1), "more than 16777216 bytes"},
	} {
		inv, err := inventory.Parse([]byte(c.text))
		require.ErrorIs(t, err, inventory.ErrInvalid, "%.200s", c.text)
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "inventory.file", "no Go types in what people read")
		require.Nil(t, inv)
	}
}

// All that is wrong is said at once, in the order of the file, but not
// endlessly; the file is named.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	text.WriteString(in("    nodes:\n"))
	for i := range 100 {
		fmt.Fprintf(&text, "      x%d: {ip: nowhere}\n", i)
	}
	text.WriteString("    defaults: {agent: x}\n")
	path := filepath.Join(t.TempDir(), "lab.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	_, err := inventory.Load(path)
	require.ErrorIs(t, err, inventory.ErrInvalid)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 21)
	require.Equal(t, "…", lines[20])
	require.Contains(t, lines[0], path+":6: ip \"nowhere\" of x0")
	require.Contains(t, lines[1], path+":7: ")

	_, err = inventory.Load(path + ".no")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Anchors and merges of YAML work, and keep their lines.
func TestAnchors(t *testing.T) {
	inv := load(t, "version: 1\ntestbeds:\n  t:\n    defaults: &d {disk: /dev/vda}\n    nodes:\n      b: &b {then: stay}\n      a: {<<: *b, agent: legacy}\n  u: {defaults: *d, nodes: {c: *b}}\n")
	tb, _ := inv.Testbed("t")
	require.Equal(t, []string{"b", "a"}, names(tb))
	n, _ := tb.Node("a")
	require.Equal(t, "stay legacy /dev/vda", fmt.Sprint(n.Then, " ", n.Agent, " ", n.Disk))
	tb, _ = inv.Testbed("u")
	n, _ = tb.Node("c")
	require.Equal(t, "stay native /dev/vda", fmt.Sprint(n.Then, " ", n.Agent, " ", n.Disk))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(in("    nodes:\n      n1-1: {mac: '00:11:22:33:44:AA', hostname: x}\n    groups: {g: {nodes: '1-3 ~2'}}")))
	f.Add([]byte("version: 1\ntestbeds: {t: {name_prefix: fit, nodes: {fit01: &a {<<: *a}}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		inv, err := inventory.Parse(text)
		if err != nil {
			require.True(t, errors.Is(err, inventory.ErrInvalid))
			return
		}
		for _, tb := range inv.Testbeds() {
			view := tb.View(nil)
			require.NotEmpty(t, tb.Nodes())
			for i, n := range tb.Nodes() {
				if i == 300 {
					break
				}
				// Every name means its node, and nothing else does.
				set, err := nodeset.Parse(n.Name)
				require.NoError(t, err)
				nodes, missing, err := set.Resolve(view)
				require.NoError(t, err)
				require.Empty(t, missing)
				require.Equal(t, []string{n.Name}, nodes)
				if n.X > 0 {
					at, ok := view.At(n.X, n.Y)
					require.True(t, ok)
					require.Equal(t, n.Name, at)
				}
				require.NotEmpty(t, n.Power.Driver)
				require.Positive(t, n.Power.Timeout)
			}
		}
	})
}

// TestDocumentation: the file that the package's documentation shows is one.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, file, ok := strings.Cut(string(text), "// # The file\n//\n")
	require.True(t, ok)
	file, _, _ = strings.Cut(file, "\n//\n")
	inv, err := inventory.Parse([]byte(regexp.MustCompile(`(?m)^//\t`).ReplaceAllString(file, "")))
	require.NoError(t, err)
	require.Len(t, inv.Testbeds()[0].Nodes(), 401)

	_, drivers, ok := strings.Cut(string(text), "// # Power drivers\n//\n")
	require.True(t, ok)
	drivers, _, _ = strings.Cut(drivers, "\n//\n")
	for line := range strings.Lines(drivers) {
		power := strings.ReplaceAll(strings.TrimPrefix(line, "//\t"), "url: …", "url: 'http://cmc:5012'")
		power = strings.TrimSpace(strings.Split(power, "  #")[0])
		_, err := inventory.Parse([]byte("version: 1\ntestbeds: {t: {grid: {x: 1, y: 1}, nodes: {n1-1: {mac: '00:11:22:33:44:55'}}, defaults: {" + power + "}}}"))
		require.NoError(t, err, line)
	}
}
