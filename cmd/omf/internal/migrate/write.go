package migrate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"loadnode/cmd/omf/internal/config"
	"loadnode/handler/inventory"
	"loadnode/handler/nodeset"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var plainWord = regexp.MustCompile(`^[A-Za-z/][0-9A-Za-z._/-]*$`)

// quote writes a text as a value of YAML.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
	default:
		if plainWord.MatchString(s) {
			return s
		}
	}
	return strconv.QuoteToASCII(s)
}

// settings writes loadnode.yaml, and notes what became of each setting.
func (im *importer) settings(inventory bool) []byte {
	sections := map[string]bool{} // services that have a section of the testbed
	service := func(s setting) string { name, _, _ := strings.Cut(s.entry.What, "."); return name }
	for _, s := range im.found {
		if s.testbed == im.testbed {
			sections[service(s)] = true
		}
	}
	values := map[string]setting{}
	// The section of the testbed wins over what the service says of all; like
	// OMF, the section default stands in for a section that is not there.
	for _, pass := range []func(setting) bool{
		func(s setting) bool { return s.testbed == im.testbed },
		func(s setting) bool { return s.testbed == "" },
		func(s setting) bool {
			return s.testbed != im.testbed && s.testbed == defaultSection && !sections[service(s)]
		},
	} {
		for _, s := range im.found {
			if !pass(s) {
				continue
			}
			first, ok := values[s.key]
			switch {
			case !ok:
				values[s.key] = s
				im.take(s.entry, s.key, s.note)
			case first.text == s.text:
				im.take(s.entry, s.key, "the same as in "+first.entry.File)
			default:
				im.leave(s.entry, fmt.Sprintf("%s is %s already, from %s:%d", s.key, first.text, first.entry.File, first.entry.Line))
			}
		}
	}
	for _, s := range im.found {
		if s.testbed != "" && s.testbed != im.testbed && (s.testbed != defaultSection || sections[service(s)]) {
			im.leave(s.entry, fmt.Sprintf("of another testbed than %s; import again with --testbed %s", im.testbed, clip(s.testbed)))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of omf; omf config show explains them.\nversion: 1\ntestbed: %s\n", quote(im.testbed))
	if inventory {
		values[config.KeyInventory] = setting{text: im.cfg.InventoryPath}
	}
	head := "serve:\n"
	for _, s := range config.Settings() {
		if v, ok := values[s.Key]; ok {
			fmt.Fprintf(&b, "%s  %s: %s\n", head, strings.TrimPrefix(s.Key, "serve."), quote(v.text))
			head = ""
		}
	}
	return []byte(b.String())
}

const defaultSection = inventory.DefaultTestbed

// inventory writes inventory.yaml, or nothing when no nodes are known.
func (im *importer) inventory() []byte {
	var b strings.Builder
	im.bed(im.testbed) // is told of when nothing says which nodes it has
	for _, t := range im.beds {
		grid := t.columns > 0 && t.rows > 0
		if len(t.nodes) == 0 && !grid {
			im.leave(Entry{What: "testbed " + clip(t.name)}, "none of its nodes are known; give a topology file with them or rhubarbe's inventory")
			continue
		}
		if t.legacy {
			im.address(t)
		}
		t.pxelinux = t.name == im.testbed && im.says(config.KeyPxelinux)
		t.write(&b, grid)
		if t.legacy {
			im.take(Entry{What: "testbed " + clip(t.name)}, "agent: legacy", "the nodes run OMF's agent; write native when they run omf-agent")
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return []byte("# Nodes of omf serve; see to the power of each.\nversion: 1\ntestbeds:\n" + b.String())
}

// says reports whether the settings of the testbed will have a key.
func (im *importer) says(key string) bool {
	return slices.ContainsFunc(im.found, func(s setting) bool {
		return s.key == key && (s.testbed == "" || s.testbed == im.testbed || s.testbed == defaultSection)
	})
}

// address gives nodes the addresses of OMF's plan, which it keeps in its
// database and not in a file.
func (im *importer) address(t *bed) {
	e := Entry{What: "ip of the nodes of testbed " + clip(t.name)}
	if im.cfg.Addresses != "" && t.columns <= 255 && t.rows <= 255 {
		for x := 1; x <= t.columns; x++ {
			for y := 1; y <= t.rows; y++ {
				t.add(nodeset.Name(x, y))
			}
		}
		e.Value = im.cfg.Addresses + ".x.y"
	}
	var unknown []string
	for _, n := range t.nodes {
		x, y, ok := nodeset.Coordinates(n.name)
		if n.ip == "" && ok && x <= 255 && y <= 255 && e.Value != "" {
			n.ip = fmt.Sprintf("%s.%d.%d", im.cfg.Addresses, x, y)
		}
		if n.ip == "" {
			unknown = append(unknown, n.name)
		}
	}
	if e.Value != "" {
		im.take(e, "inventory: ip", "by the plan that was given, not by the files")
	}
	if e.Value == "" || len(unknown) > 0 {
		e.Value = clip(strings.Join(unknown, " "))
		im.leave(e, "OMF keeps them in its database, and omf serve needs them for agent: legacy; write ip: for each, or give --addresses 10.18 where [x,y] is 10.18.x.y")
	}
}

func (t *bed) write(b *strings.Builder, grid bool) {
	fmt.Fprintf(b, "  %s:\n", quote(t.name))
	if grid {
		fmt.Fprintf(b, "    grid: {x: %d, y: %d}\n", t.columns, t.rows)
	}
	if p := t.prefix(); p != "" {
		fmt.Fprintf(b, "    name_prefix: %s\n", quote(p))
	}
	var defaults []string
	if t.disk != "" {
		defaults = append(defaults, "disk: "+quote(t.disk))
	}
	if t.legacy {
		defaults = append(defaults, "agent: legacy")
	}
	if t.power != "" {
		defaults = append(defaults, "power: "+t.power)
	}
	if t.pxelinux {
		defaults = append(defaults, "boot: {driver: pxelinux}")
	}
	if len(defaults) > 0 {
		fmt.Fprintf(b, "    defaults: {%s}\n", strings.Join(defaults, ", "))
	}
	if len(t.groups) > 0 {
		b.WriteString("    groups:\n")
		for _, g := range t.groups {
			fmt.Fprintf(b, "      %s: {nodes: %s}\n", quote(g.name), quote(nodeset.Format(g.nodes)))
		}
	}
	if len(t.nodes) > 0 {
		b.WriteString("    nodes:\n")
	}
	for _, n := range t.nodes {
		var fields []string
		if n.mac != "" {
			fields = append(fields, "mac: "+strconv.QuoteToASCII(n.mac))
		}
		if n.ip != "" {
			fields = append(fields, "ip: "+strconv.QuoteToASCII(n.ip))
		}
		if n.cmc != "" {
			fields = append(fields, fmt.Sprintf("power: {driver: cmc, form: card, url: %s}", strconv.QuoteToASCII(n.cmc)))
		}
		fmt.Fprintf(b, "      %s: {%s}\n", quote(n.name), strings.Join(fields, ", "))
	}
}

// prefix is what all names begin with before a number: fit of fit01.
func (t *bed) prefix() string {
	prefix := ""
	for i, n := range t.nodes {
		p := strings.TrimRight(n.name, "0123456789")
		if p == n.name || p == "" || i > 0 && p != prefix || strings.ContainsAny(p, "-._") {
			return ""
		}
		prefix = p
	}
	if prefix == "n" || prefix == "node" {
		return ""
	}
	return prefix
}
