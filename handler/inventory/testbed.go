package inventory

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"loadnode/handler/nodeset"
)

// DefaultTestbed is the name of the testbed when none is named.
const DefaultTestbed = "default"

// Inventory is a checked inventory file. It is not changed after it was made
// and may be used from several goroutines.
type Inventory struct {
	testbeds []*Testbed
}

// Testbeds lists the testbeds in the order of the file.
func (inv *Inventory) Testbeds() []*Testbed { return slices.Clone(inv.testbeds) }

// Testbed returns the testbed with this name.
func (inv *Inventory) Testbed(name string) (*Testbed, bool) {
	for _, tb := range inv.testbeds {
		if tb.Name == name {
			return tb, true
		}
	}
	return nil, false
}

// Addresses returns the MAC and the control address of a node as text, empty
// where unknown: what power scripts may ask for.
func (inv *Inventory) Addresses(testbed, node string) (mac, ip string) {
	tb, ok := inv.Testbed(testbed)
	if !ok {
		return "", ""
	}
	n, ok := tb.Node(node)
	if !ok {
		return "", ""
	}
	if n.IP.IsValid() {
		ip = n.IP.String()
	}
	return n.MAC, ip
}

// Place returns where a node stands in the grid, 0 and 0 outside of it: what
// chassis managers know nodes by.
func (inv *Inventory) Place(testbed, node string) (x, y int) {
	if tb, ok := inv.Testbed(testbed); ok {
		if n, ok := tb.Node(node); ok {
			return n.X, n.Y
		}
	}
	return 0, 0
}

// Testbed is a set of nodes that jobs are run on together (OMF's domain).
type Testbed struct {
	Name          string
	Columns, Rows int    // of the grid, 0 and 0 without one
	NamePrefix    string // rhubarbe's names: fit for fit01

	nodes  []*Node
	names  []string
	named  map[string]*Node // by name, and by host name and address
	places map[[2]int]*Node
}

// Nodes lists the nodes in order: the grid by column, then by row; then the
// others as in the file.
func (tb *Testbed) Nodes() []*Node { return slices.Clone(tb.nodes) }

// Node returns the node with this name (no other spelling).
func (tb *Testbed) Node(name string) (*Node, bool) {
	n, ok := tb.named[name]
	if !ok || n.Name != name {
		return nil, false
	}
	return n, true
}

// claim enters another name of a node, or returns the node that has it
// already: names, host names and addresses share one space, so that no word
// means two nodes.
func (tb *Testbed) claim(name string, n *Node) *Node {
	if other, ok := tb.named[name]; ok && other != n {
		return other
	}
	tb.named[name] = n
	return nil
}

func newTestbed(name string, columns, rows int) *Testbed {
	return &Testbed{
		Name: name, Columns: columns, Rows: rows,
		named: map[string]*Node{}, places: map[[2]int]*Node{},
	}
}

func (tb *Testbed) add(n *Node) {
	tb.nodes = append(tb.nodes, n)
	tb.names = append(tb.names, n.Name)
	tb.named[n.Name] = n
	if n.X > 0 {
		tb.places[[2]int{n.X, n.Y}] = n
	}
}

// View is what node sets are resolved against: active lists the nodes of the
// last successful load (nil: none), topologies are the directories with
// topology files, the first that has a file wins.
func (tb *Testbed) View(active func() []string, topologies ...fs.FS) nodeset.View {
	return view{tb, active, topologies}
}

type view struct {
	tb         *Testbed
	active     func() []string
	topologies []fs.FS
}

func (v view) All() []string { return slices.Clone(v.tb.names) }

func (v view) At(x, y int) (string, bool) {
	if n, ok := v.tb.places[[2]int{x, y}]; ok {
		return n.Name, true
	}
	return "", false
}

func (v view) Named(name string) (string, bool) {
	if n, ok := v.tb.named[name]; ok {
		return n.Name, true
	}
	return "", false
}

func (v view) Numbered(number int) (string, bool) {
	if v.tb.NamePrefix == "" {
		if number < 1 || number > len(v.tb.names) {
			return "", false
		}
		return v.tb.names[number-1], true
	}
	// fit8, fit08, fit008: whichever exists. The check of the file saw to it
	// that only one does.
	digits := strconv.Itoa(number)
	for width := len(digits); width <= maxNumberWidth; width++ {
		if n, ok := v.tb.named[v.tb.NamePrefix+digits]; ok {
			return n.Name, true
		}
		digits = "0" + digits
	}
	return "", false
}

func (v view) Prefix() string { return v.tb.NamePrefix }

func (v view) Grid() (columns, rows int) { return v.tb.Columns, v.tb.Rows }

func (v view) Active() []string {
	if v.active == nil {
		return nil
	}
	return v.active()
}

func (v view) Topology(name string) ([]byte, error) {
	return nodeset.FindTopology(name, v.topologies...)
}

// maxNumberWidth is the widest number in a node's name: fit0001.
const maxNumberWidth = 6

// numberOf reads the number of a numbered node's name.
func numberOf(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || prefix == "" || digits == "" || len(digits) > maxNumberWidth || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// Sim makes the inventory of a simulated grid: the testbed default with the
// nodes n1-1 … n<columns>-<rows>, native agents and the power driver bus. A
// size below 1 by 1 or with more than MaxNodes nodes has no nodes at all.
func Sim(columns, rows int) *Inventory {
	if columns < 1 || rows < 1 || columns > MaxNodes/rows {
		columns, rows = 0, 0
	}
	tb := newTestbed(DefaultTestbed, columns, rows)
	for x := 1; x <= columns; x++ {
		for y := 1; y <= rows; y++ {
			n := plainNode(nodeset.Name(x, y))
			n.X, n.Y = x, y
			tb.add(n)
		}
	}
	return &Inventory{testbeds: []*Testbed{tb}}
}

// plainNode is a node of which nothing is said.
func plainNode(name string) *Node {
	return &Node{
		Name: name, Agent: defaultAgent, Legacy: Legacy{Port: DefaultLegacyPort}, Then: defaultThen,
		Power: Power{Driver: defaultPower, Timeout: defaultAction},
		Boot:  Boot{Driver: defaultBoot},
	}
}
