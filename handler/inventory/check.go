package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"loadnode/events"
	"loadnode/handler/nodeset"
)

// checker turns a decoded file into an Inventory and collects what is wrong.
type checker struct {
	name     string
	root     *yaml.Node
	problems []problem
	macs     map[string]string // of all testbeds: a machine is in one of them
}

type problem struct {
	line int
	text string
}

// bad notes a problem of the key at path.
func (c *checker) bad(path []string, format string, args ...any) {
	if len(c.problems) > maxProblems {
		return
	}
	c.problems = append(c.problems, problem{line(c.root, path...), fmt.Sprintf(format, args...)})
}

func (c *checker) report() string {
	slices.SortStableFunc(c.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	var lines []string
	for i, p := range c.problems {
		if i == maxProblems {
			lines = append(lines, "…")
			break
		}
		lines = append(lines, place(c.name, p.line)+": "+p.text)
	}
	return strings.Join(lines, "\n")
}

// under is a path with more keys; it never shares memory with its parent.
func under(path []string, keys ...string) []string { return slices.Concat(path, keys) }

// ordered lists the keys of a decoded mapping as the file has them, those of
// merged mappings behind.
func ordered[V any](root *yaml.Node, path []string, decoded map[string]V) []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range pairs(at(root, path...)) {
		if _, ok := decoded[p.key]; ok && !seen[p.key] {
			seen[p.key] = true
			names = append(names, p.key)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(decoded)) {
		if !seen[k] {
			names = append(names, k)
		}
	}
	return names
}

var testbedName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$`)

func (c *checker) inventory(f *fileInventory) *Inventory {
	c.macs = map[string]string{}
	switch {
	case f.Version == nil:
		c.bad(nil, "version is missing; write version: %d", version)
	case *f.Version != version:
		c.bad([]string{"version"}, "version %d is not known to this program, it reads %d", *f.Version, version)
	}
	path := []string{"testbeds"}
	switch {
	case len(f.Testbeds) == 0:
		c.bad(path, "there is no testbed; write testbeds: {%s: {grid: {x: 4, y: 4}}}", DefaultTestbed)
	case len(f.Testbeds) > maxTestbeds:
		c.bad(path, "there are %d testbeds, allowed are %d", len(f.Testbeds), maxTestbeds)
		return nil
	}
	inv := &Inventory{}
	for _, name := range ordered(c.root, path, f.Testbeds) {
		tb := f.Testbeds[name]
		if tb == nil {
			tb = &fileTestbed{}
		}
		if !testbedName.MatchString(name) {
			c.bad(under(path, name), "%q cannot be a testbed's name; allowed are 1 to 128 letters, digits, . _ - beginning with a letter or digit", clip(name))
			continue
		}
		inv.testbeds = append(inv.testbeds, c.testbed(under(path, name), name, tb))
	}
	return inv
}

func (c *checker) testbed(path []string, name string, f *fileTestbed) *Testbed {
	var grid fileGrid
	if f.Grid != nil {
		grid = *f.Grid
		if grid.X < 1 || grid.Y < 1 || grid.X > MaxNodes/grid.Y {
			c.bad(under(path, "grid"), "a grid of %d by %d; x and y are at least 1, and at most %d nodes are allowed", grid.X, grid.Y, MaxNodes)
			grid = fileGrid{}
		}
	}
	if len(f.Nodes)+grid.X*grid.Y > 2*MaxNodes {
		c.bad(under(path, "nodes"), "%d nodes, allowed are %d", len(f.Nodes), MaxNodes)
		return newTestbed(name, 0, 0)
	}
	tb := newTestbed(name, grid.X, grid.Y)
	listed := c.nodes(path, f, tb)
	c.prefix(path, f.NamePrefix, tb)
	if len(tb.nodes) > MaxNodes {
		c.bad(under(path, "nodes"), "%d nodes, allowed are %d", len(tb.nodes), MaxNodes)
	}
	if len(tb.nodes) == 0 {
		c.bad(path, "testbed %s has no nodes; give it a grid: {x: 4, y: 4} or nodes", name)
	}
	c.otherNames(path, listed, tb)
	c.settle(path, f, tb)
	return tb
}

// nodes makes the nodes of a testbed, in order, and knows who is where. It
// returns the listed ones by name.
func (c *checker) nodes(path []string, f *fileTestbed, tb *Testbed) map[string]*fileNode {
	path = under(path, "nodes")
	listed := map[string]*fileNode{}
	byPlace := map[[2]int]*Node{}
	var order []*Node
	for _, name := range ordered(c.root, path, f.Nodes) {
		fn := f.Nodes[name]
		if fn == nil {
			fn = &fileNode{}
		}
		here := under(path, name)
		if err := nodeset.CheckName(name); err != nil {
			c.bad(here, "%v", err)
			continue
		}
		n := plainNode(name)
		if !c.position(here, n, fn, f.Grid != nil, tb) {
			continue
		}
		if n.X > 0 {
			if other, ok := byPlace[[2]int{n.X, n.Y}]; ok {
				c.bad(here, "%s and %s are both at x %d, y %d", other.Name, name, n.X, n.Y)
				continue
			}
			byPlace[[2]int{n.X, n.Y}] = n
		}
		listed[name] = fn
		order = append(order, n)
	}
	if f.Grid != nil {
		for x := 1; x <= tb.Columns; x++ {
			for y := 1; y <= tb.Rows; y++ {
				n, ok := byPlace[[2]int{x, y}]
				if !ok {
					n = plainNode(nodeset.Name(x, y))
					n.X, n.Y = x, y
				}
				tb.add(n)
			}
		}
	}
	for _, n := range order {
		if f.Grid != nil && n.X > 0 {
			continue
		}
		tb.Columns, tb.Rows = max(tb.Columns, n.X), max(tb.Rows, n.Y)
		tb.add(n)
	}
	return listed
}

// position finds the place of a node: from x and y, else from a name such as
// n1-2. A name that says one place and stands at another is refused.
func (c *checker) position(path []string, n *Node, f *fileNode, grid bool, tb *Testbed) bool {
	nx, ny, named := nodeset.Coordinates(n.Name)
	switch {
	case (f.X == nil) != (f.Y == nil):
		c.bad(path, "%s has only one of x and y; write both or none", n.Name)
		return false
	case f.X != nil:
		n.X, n.Y = *f.X, *f.Y
		if named && (nx != n.X || ny != n.Y) {
			c.bad(under(path, "x"), "%s is at x %d, y %d, but its name says x %d, y %d; one of them is wrong", n.Name, n.X, n.Y, nx, ny)
			return false
		}
	case named:
		n.X, n.Y = nx, ny
	default:
		return true
	}
	if n.X < 1 || n.Y < 1 || n.X > MaxNodes || n.Y > MaxNodes {
		c.bad(path, "%s is at x %d, y %d; places are counted from 1", n.Name, n.X, n.Y)
		return false
	}
	if grid && tb.Columns > 0 && (n.X > tb.Columns || n.Y > tb.Rows) {
		c.bad(path, "%s is at x %d, y %d, outside of the grid of %d by %d; enlarge grid or give it another name without x and y", n.Name, n.X, n.Y, tb.Columns, tb.Rows)
		return false
	}
	return true
}

var prefixName = regexp.MustCompile(`^[A-Za-z][0-9A-Za-z_.-]{0,62}$`)

// prefix checks name_prefix against the names: fit8 must be one node.
func (c *checker) prefix(path []string, prefix string, tb *Testbed) {
	if prefix == "" {
		return
	}
	path = under(path, "name_prefix")
	switch {
	case !prefixName.MatchString(prefix) || strings.ContainsAny(prefix[len(prefix)-1:], "0123456789"):
		c.bad(path, "name_prefix %q; want a letter, then letters, digits, . _ - and no digit at the end: fit for fit01", clip(prefix))
		return
	case len(tb.places) > 0 && slices.Contains([]string{"n", "node", "n_", "node_"}, prefix):
		c.bad(path, "name_prefix %q cannot be told from the nodes of the grid: is %s1-2 a node or a range? Leave it out", prefix, prefix)
		return
	}
	numbers := map[int]string{}
	for _, n := range tb.nodes {
		number, ok := numberOf(n.Name, prefix)
		if !ok {
			continue
		}
		if other, ok := numbers[number]; ok {
			c.bad(path, "%s and %s both have the number %d", other, n.Name, number)
			return
		}
		numbers[number] = n.Name
	}
	if len(numbers) == 0 {
		c.bad(path, "no node is named %s and a number; leave name_prefix out or name nodes %s01", prefix, prefix)
		return
	}
	tb.NamePrefix = prefix
}

// otherNames reads MACs, addresses and host names. Each belongs to one node.
func (c *checker) otherNames(path []string, listed map[string]*fileNode, tb *Testbed) {
	path = under(path, "nodes")
	for _, n := range tb.nodes {
		f, ok := listed[n.Name]
		if !ok {
			continue
		}
		here := under(path, n.Name)
		if f.MAC != "" {
			if mac, err := net.ParseMAC(f.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
				c.bad(under(here, "mac"), "mac %q of %s is not the address of one interface; write \"00:11:22:33:44:55\"", clip(f.MAC), n.Name)
			} else if other, ok := c.macs[mac.String()]; ok {
				c.bad(under(here, "mac"), "mac %s is that of %s and of %s (testbed %s)", mac, other, n.Name, tb.Name)
			} else {
				n.MAC = mac.String()
				c.macs[n.MAC] = n.Name
			}
		}
		if f.IP != "" {
			ip, err := netip.ParseAddr(f.IP)
			if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
				c.bad(under(here, "ip"), "ip %q of %s is not the address of one machine; write 10.18.1.2", clip(f.IP), n.Name)
			} else if other := tb.claim(ip.Unmap().String(), n); other != nil {
				c.bad(under(here, "ip"), "ip %s is that of %s and of %s", ip, other.Name, n.Name)
			} else {
				n.IP = ip.Unmap()
			}
		}
		if f.Hostname != "" {
			c.hostname(under(here, "hostname"), f.Hostname, n, tb)
		}
	}
}

func (c *checker) hostname(path []string, name string, n *Node, tb *Testbed) {
	if err := nodeset.CheckName(name); err != nil {
		c.bad(path, "hostname of %s: %v", n.Name, err)
		return
	}
	other := tb.claim(name, n)
	if x, y, ok := nodeset.Coordinates(name); ok && other == nil {
		if m := tb.places[[2]int{x, y}]; m != nil && m != n {
			other = m
		}
	}
	if number, ok := numberOf(name, tb.NamePrefix); ok && other == nil {
		if m, ok := tb.View(nil).Numbered(number); ok && m != n.Name {
			other = tb.named[m]
		}
	}
	if other != nil {
		c.bad(path, "hostname %s of %s means %s already", name, n.Name, other.Name)
		return
	}
	n.Hostname = name
}

// settle merges defaults, groups and the nodes' own words.
func (c *checker) settle(path []string, f *fileTestbed, tb *Testbed) {
	c.settings(under(path, "defaults"), &f.Defaults)
	for _, n := range tb.nodes {
		n.apply(&f.Defaults)
	}
	for _, name := range ordered(c.root, under(path, "groups"), f.Groups) {
		here := under(path, "groups", name)
		g := f.Groups[name]
		if g == nil || strings.TrimSpace(g.Nodes) == "" {
			c.bad(here, "group %s has no nodes; write nodes: \"[1..4,2]\"", clip(name))
			continue
		}
		c.settings(here, &g.fileSettings)
		set, err := nodeset.Parse(g.Nodes)
		if err != nil {
			c.bad(under(here, "nodes"), "group %s: %v", clip(name), err)
			continue
		}
		names, missing, err := set.Resolve(tb.View(nil))
		if err != nil {
			c.bad(under(here, "nodes"), "group %s: %v", clip(name), err)
			continue
		}
		if len(missing) > 0 {
			c.bad(under(here, "nodes"), "group %s: testbed %s has no node %s", clip(name), tb.Name, clip(strings.Join(missing, ", ")))
			continue
		}
		for _, n := range names {
			tb.named[n].apply(&g.fileSettings)
		}
	}
	for _, n := range tb.nodes {
		here := under(path, "nodes", n.Name)
		if own := f.Nodes[n.Name]; own != nil {
			c.settings(here, &own.fileSettings)
			n.apply(&own.fileSettings)
		}
		c.nodePower(here, n)
	}
	c.ownController(path, tb)
}

// apply lets what the settings say win over what the node has.
func (n *Node) apply(s *fileSettings) {
	if s.Disk != nil {
		n.Disk = *s.Disk
	}
	if s.Agent != nil {
		n.Agent = Agent(*s.Agent)
	}
	if l := s.Legacy; l != nil {
		n.Legacy = Legacy{Port: cmp.Or(uint16(l.Port), DefaultLegacyPort), Listen: l.Connect == connectListen, AnySystem: l.AnySystem, NFS: l.NFS}
		if l.Connect == connectMulticast {
			n.Legacy.Group, n.Legacy.Answers, _ = l.groups() // checked before
		}
	}
	if s.Then != nil {
		n.Then = events.Then(*s.Then)
	}
	if s.Protected != nil {
		n.Protected = *s.Protected
	}
	if s.Power != nil {
		n.Power = s.Power.spec()
	}
	if s.Boot != nil {
		n.Boot = Boot{Driver: s.Boot.Driver, Image: s.Boot.Image, Args: s.Boot.Args, Chain: s.Boot.Chain, Checkin: s.Boot.Checkin}
	}
}

func plain(text string) bool {
	return len(text) <= 1024 && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func clip(text string) string {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
