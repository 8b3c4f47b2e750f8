package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of the file.
const (
	// MaxFile is the longest inventory, in bytes.
	MaxFile = 16 << 20
	// MaxNodes is the most nodes of one testbed.
	MaxNodes = 1 << 16

	maxTestbeds = 256
	maxProblems = 20 // reported at once
	version     = 1
)

// The file as it is written. Pointers and empty strings tell "not said" from
// a value, for the merging of defaults, groups and nodes.
type (
	fileInventory struct {
		Version  *int                    `yaml:"version"`
		Testbeds map[string]*fileTestbed `yaml:"testbeds"`
	}
	fileTestbed struct {
		Grid       *fileGrid             `yaml:"grid"`
		NamePrefix string                `yaml:"name_prefix"`
		Defaults   fileSettings          `yaml:"defaults"`
		Groups     map[string]*fileGroup `yaml:"groups"`
		Nodes      map[string]*fileNode  `yaml:"nodes"`
	}
	fileGrid struct {
		X int `yaml:"x"`
		Y int `yaml:"y"`
	}
	fileSettings struct {
		Disk      *string     `yaml:"disk"`
		Agent     *string     `yaml:"agent"`
		Legacy    *fileLegacy `yaml:"legacy"`
		Then      *string     `yaml:"then"`
		Protected *bool       `yaml:"protected"`
		Power     *filePower  `yaml:"power"`
		Boot      *fileBoot   `yaml:"boot"`
	}
	fileGroup struct {
		Nodes        string `yaml:"nodes"`
		fileSettings `yaml:",inline"`
	}
	fileNode struct {
		X            *int   `yaml:"x"`
		Y            *int   `yaml:"y"`
		MAC          string `yaml:"mac"`
		IP           string `yaml:"ip"`
		Hostname     string `yaml:"hostname"`
		fileSettings `yaml:",inline"`
	}
	fileLegacy struct {
		Port      int    `yaml:"port"`
		Connect   string `yaml:"connect"`
		Group     string `yaml:"group"`
		Answers   string `yaml:"answers"`
		AnySystem bool   `yaml:"any_system"`
		NFS       string `yaml:"nfs"`
	}
	filePower struct {
		Driver   string         `yaml:"driver"`
		Command  []string       `yaml:"command"`
		Timeout  *time.Duration `yaml:"timeout"`
		Escalate time.Duration  `yaml:"escalate"`

		Form         string `yaml:"form"`
		URL          string `yaml:"url"`
		Domain       string `yaml:"domain"`
		Host         string `yaml:"host"`
		User         string `yaml:"user"`
		Password     string `yaml:"password"`
		PasswordFile string `yaml:"password_file"`
		PasswordEnv  string `yaml:"password_env"`
		Auth         string `yaml:"auth"`
		System       string `yaml:"system"`
		Fingerprint  string `yaml:"fingerprint"`
		CAFile       string `yaml:"ca_file"`
		Insecure     bool   `yaml:"insecure"`
		Bootdev      string `yaml:"bootdev"`
		Program      string `yaml:"program"`
		Interface    string `yaml:"interface"`
		Broadcast    string `yaml:"broadcast"`
	}
	fileBoot struct {
		Driver  string        `yaml:"driver"`
		Image   string        `yaml:"image"`
		Args    string        `yaml:"args"`
		Chain   bool          `yaml:"chain"`
		Checkin time.Duration `yaml:"checkin"`
	}
)

// ErrInvalid is for an inventory that cannot be used; the text says where and
// what to write.
var ErrInvalid = errors.New("inventory is not valid")

// Load reads and checks the inventory file at path.
func Load(path string) (*Inventory, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read inventory %s: %w", path, err)
	}
	inv, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	if node := inv.secret(); node != "" {
		st, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("read inventory: %w", err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("%w: %s: it holds a password (power of %s) and others may read it (mode %04o); write password_file or password_env in its place, or chmod 600 %s",
				ErrInvalid, path, node, st.Mode().Perm(), path)
		}
	}
	return inv, nil
}

// secret names the first node whose power has its password in the file.
func (inv *Inventory) secret() string {
	for _, tb := range inv.testbeds {
		for _, n := range tb.nodes {
			if n.Power.Password != "" {
				return n.Name
			}
		}
	}
	return ""
}

// Parse checks an inventory. Errors call it "inventory". Who may read the file
// it came from is not known here; see Load.
func Parse(text []byte) (*Inventory, error) { return parse("inventory", text) }

func parse(name string, text []byte) (*Inventory, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: %w: it has more than %d bytes", name, ErrInvalid, MaxFile)
	}
	var file fileInventory
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w: it is empty; it needs version: 1 and testbeds", name, ErrInvalid)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(yamlProblems(name, err), "\n"))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w: there is a second document (---); one file is one inventory", name, ErrInvalid)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(yamlProblems(name, err), "\n"))
	}
	c := &checker{name: name, root: &root}
	inv := c.inventory(&file)
	if len(c.problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, c.report())
	}
	return inv, nil
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	yamlType    = regexp.MustCompile(`^cannot unmarshal !!(\w+) ?(.*?) ?into (\S+)$`)
	yamlUnknown = regexp.MustCompile(`^field (.*) not found in type inventory\.(\w+)$`)
)

// wanted says in words what a Go type of the file takes.
func wanted(typeName string) string {
	switch typeName {
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	case "string":
		return "one word or a quoted text"
	case "[]string":
		return "a list: [word, word]"
	case "time.Duration":
		return "a duration with its unit: 30s"
	}
	return "keys and values: {key: value}"
}

// yamlProblems puts the decoder's errors into the form file:line: problem, and
// says for an unknown key which are known.
func yamlProblems(name string, err error) []string {
	texts := []string{err.Error()}
	var te *yaml.TypeError
	if errors.As(err, &te) {
		texts = te.Errors
	}
	if len(texts) > maxProblems {
		texts = append(texts[:maxProblems:maxProblems], "…")
	}
	problems := make([]string, len(texts))
	for i, text := range texts {
		line := ""
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, text = ":"+m[1], m[2]
		}
		if m := yamlUnknown.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown key %q; known here are %s", m[1], strings.Join(keysOf(m[2]), ", "))
		}
		if m := yamlType.FindStringSubmatch(text); m != nil {
			found := m[2]
			switch m[1] {
			case "seq":
				found = "a list"
			case "map":
				found = "keys and values"
			}
			text = fmt.Sprintf("found %s, want %s", found, wanted(m[3]))
		}
		if len(text) > 300 {
			text = text[:300] + "…"
		}
		problems[i] = name + line + ": " + strings.ToValidUTF8(text, "?")
	}
	return problems
}

// keysOf lists the keys of one of the types of the file.
func keysOf(typeName string) []string {
	for _, t := range []any{fileInventory{}, fileTestbed{}, fileGrid{}, fileGroup{}, fileNode{}, fileLegacy{}, filePower{}, fileBoot{}, fileSettings{}} {
		if rt := reflect.TypeOf(t); rt.Name() == typeName {
			return keys(rt)
		}
	}
	return nil
}

func keys(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		if strings.HasSuffix(tag, ",inline") {
			names = append(names, keys(f.Type)...)
			continue
		}
		names = append(names, tag)
	}
	return names
}

// pair is a key of a mapping and what it stands for.
type pair struct {
	key   string
	line  int
	value *yaml.Node
}

// pairs lists the entries of a mapping in the order of the file.
func pairs(n *yaml.Node) []pair {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var all []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		all = append(all, pair{n.Content[i].Value, n.Content[i].Line, n.Content[i+1]})
	}
	return all
}

// at returns the node behind a path of keys.
func at(n *yaml.Node, path ...string) *yaml.Node {
	if n != nil && n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, key := range path {
		var found *yaml.Node
		for _, p := range pairs(n) {
			if p.key == key {
				found = p.value
			}
		}
		if n = found; n == nil {
			return nil
		}
	}
	return n
}

// line is where the last key of the path stands that exists.
func line(root *yaml.Node, path ...string) int {
	last := 1
	for i := range path {
		for _, p := range pairs(at(root, path[:i]...)) {
			if p.key == path[i] {
				last = p.line
			}
		}
	}
	return last
}

func place(name string, line int) string { return name + ":" + strconv.Itoa(line) }
