package migrate

import (
	"cmp"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"loadnode/handler/inventory"
	"loadnode/handler/nodeset"
)

// bed is a testbed in the making.
type bed struct {
	name          string
	columns, rows int
	disk          string
	power         string // of its nodes, as the inventory says it
	pxelinux      bool   // its nodes boot by links
	legacy        bool   // OMF's agent runs on the nodes
	nodes         []*node
	byName        map[string]*node
	groups        []topology
}

type node struct{ name, mac, ip, cmc string }

// topology is a named set of nodes: a topology.
type topology struct {
	name  string
	nodes []string
}

func (im *importer) bed(name string) *bed {
	for _, b := range im.beds {
		if b.name == name {
			return b
		}
	}
	b := &bed{name: name, byName: map[string]*node{}}
	im.beds = append(im.beds, b)
	return b
}

func (b *bed) add(name string) *node {
	n, ok := b.byName[name]
	if !ok {
		n = &node{name: name}
		b.byName[name] = n
		b.nodes = append(b.nodes, n)
	}
	return n
}

// The nodes that a topology may name: those of the grid, or any.

func (b *bed) All() []string { return nil }

func (b *bed) At(x, y int) (string, bool) {
	inside := b.columns == 0 || b.rows == 0 || x <= b.columns && y <= b.rows
	return nodeset.Name(x, y), x > 0 && y > 0 && inside
}

func (b *bed) Named(name string) (string, bool) {
	if x, y, ok := nodeset.Coordinates(name); ok {
		return b.At(x, y)
	}
	return name, nodeset.CheckName(name) == nil
}

func (b *bed) Numbered(int) (string, bool)     { return "", false }
func (b *bed) Prefix() string                  { return "" }
func (b *bed) Grid() (int, int)                { return b.columns, b.rows }
func (b *bed) Active() []string                { return nil }
func (b *bed) Topology(string) ([]byte, error) { return nil, fs.ErrNotExist }

// topology adds the nodes of a topology file to the testbed.
func (im *importer) topology(f File) error {
	all, err := nodeset.ParseTopology(f.Text)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInput, f.Name, err)
	}
	b := im.bed(im.testbed)
	for _, t := range all {
		e := Entry{File: f.Name, Line: 1, What: "defTopology " + clip(t.Name), Value: clip(t.Set.String())}
		if t.Set.Empty() {
			im.leave(e, "it names no nodes")
			continue
		}
		names, missing, err := t.Set.Resolve(b)
		if err != nil {
			im.leave(e, err.Error())
			continue
		}
		if len(missing) > 0 {
			im.leave(Entry{File: f.Name, Line: 1, What: e.What, Value: clip(strings.Join(missing, " "))}, "no such nodes in the grid or inventory that was given")
		}
		if len(names) == 0 {
			continue
		}
		for _, n := range names {
			b.add(n)
		}
		b.legacy = true
		if slices.ContainsFunc(b.groups, func(g topology) bool { return g.name == t.Name }) {
			im.leave(e, "a topology of this name was there before; its nodes are in the inventory")
			continue
		}
		b.groups = append(b.groups, topology{t.Name, names})
		im.take(e, fmt.Sprintf("inventory: group of %d nodes in testbed %s", len(names), b.name), "the file itself goes on working as a node set")
	}
	return nil
}

// rhubarbe adds the nodes of rhubarbe's inventory.
func (im *importer) rhubarbe(f File) error {
	text, err := object(f)
	if err != nil {
		return err
	}
	root, err := document(f.Name, text)
	if err != nil {
		return err
	}
	fail := func(n *yaml.Node, format string, args ...any) error {
		return fmt.Errorf("%w: %s:%d: %s", ErrInput, f.Name, n.Line, fmt.Sprintf(format, args...))
	}
	if len(root.Content) > inventory.MaxNodes {
		return fail(root, "%d nodes, allowed are %d", len(root.Content), inventory.MaxNodes)
	}
	b := im.bed(im.testbed)
	others := map[string]int{}
	for _, host := range root.Content {
		if host.Kind != yaml.MappingNode {
			return fail(host, "want a node: {\"control\": {\"hostname\": …}}")
		}
		parts := map[string]*yaml.Node{}
		_ = each(host, func(key string, _, v *yaml.Node) error { parts[key] = v; return nil })
		control := parts["control"]
		name := field(control, "hostname")
		if name == "" {
			return fail(host, "the node has no control hostname")
		}
		if err := nodeset.CheckName(name); err != nil {
			return fail(control, "%v", err)
		}
		if b.byName[name] != nil && (b.byName[name].ip != "" || b.byName[name].mac != "") {
			return fail(control, "%s is there twice", name)
		}
		n := b.add(name)
		e := Entry{File: f.Name, Line: control.Line, What: name}
		n.mac, n.ip = field(control, "mac"), field(control, "ip")
		if mac, err := net.ParseMAC(n.mac); n.mac != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00") {
			e.What, e.Value, n.mac = name+".control.mac", clip(n.mac), ""
			im.leave(e, "not the address of one interface")
		}
		if ip, err := netip.ParseAddr(n.ip); n.ip != "" && (err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast()) {
			e.What, e.Value, n.ip = name+".control.ip", clip(n.ip), ""
			im.leave(e, "not the address of one machine")
		}
		im.extra(f, name+".control", control)
		im.take(Entry{File: f.Name, Line: control.Line, What: name}, "inventory: node of testbed "+b.name, "")
		for key, part := range parts {
			switch key {
			case "control":
			case "cmc":
				im.card(f, n, part)
			default:
				others[key]++
			}
		}
	}
	for _, key := range sorted(others) {
		im.leave(Entry{File: f.Name, Line: root.Line, What: clip(key), Value: fmt.Sprintf("of %d nodes", others[key])}, "only the control interface is used for imaging")
	}
	return nil
}

// card takes the card that switches a node.
func (im *importer) card(f File, n *node, part *yaml.Node) {
	e := Entry{File: f.Name, Line: part.Line, What: clip(n.name + ".cmc"), Value: clip(strings.Join(nonEmpty(field(part, "hostname"), field(part, "ip")), " "))}
	host := cmp.Or(field(part, "hostname"), field(part, "ip"))
	p := inventory.Power{Driver: inventory.PowerCMC, Form: inventory.FormCard, URL: "http://" + host}
	if _, err := p.Check(); err != nil || strings.ContainsAny(host, "/{}") {
		im.leave(e, "want the name or the address of the card that switches the node")
		return
	}
	n.cmc = p.URL
	im.take(e, "inventory: power of "+n.name, "")
}

// extra reports the fields of a control interface that are not read.
func (im *importer) extra(f File, what string, n *yaml.Node) {
	_ = each(n, func(key string, k, v *yaml.Node) error {
		if !slices.Contains([]string{"hostname", "ip", "mac"}, key) {
			im.leave(Entry{File: f.Name, Line: k.Line, What: clip(what + "." + key), Value: secret(key, show(v))}, "this key is not known")
		}
		return nil
	})
}

// field is a text in a mapping, or nothing.
func field(n *yaml.Node, key string) string {
	if n == nil || n.Kind != yaml.MappingNode {
		return ""
	}
	text := ""
	_ = each(n, func(k string, _, v *yaml.Node) error {
		if k == key && v.Kind == yaml.ScalarNode && v.ShortTag() != "!!null" {
			text = v.Value
		}
		return nil
	})
	return text
}
