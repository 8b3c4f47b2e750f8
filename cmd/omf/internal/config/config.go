package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrKey is returned for a key that no setting has.
var ErrKey = errors.New("no such setting")

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Value is a setting's value as text and where it came from: "default", a
// file with its line, an environment variable, a flag.
type Value struct {
	Text   string
	Origin string
}

// OriginDefault is the origin of values that nobody set.
const OriginDefault = "default"

// Config is the settings with their values.
type Config struct {
	values map[string]Value
}

// Source says where to read settings.
type Source struct {
	Environ []string // NAME=value, as os.Environ
	System  string   // directory, usually /etc/loadnode; "" none
	User    string   // directory, usually ~/.config/loadnode; "" none
}

// Load reads all layers but the flags. Errors name the file and line, or the
// environment variable.
func Load(src Source) (*Config, error) {
	c := &Config{values: map[string]Value{}}
	known := map[string]Setting{}
	byEnv := map[string]Setting{}
	for _, s := range Settings() {
		c.values[s.Key] = Value{Text: s.Default, Origin: OriginDefault}
		known[s.Key], byEnv[s.Env()] = s, s
	}
	env := map[string]string{}
	for _, e := range src.Environ {
		name, value, ok := strings.Cut(e, "=")
		if ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	files, err := files(src, env[envPrefix+"CONFIG"])
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := c.file(f, known); err != nil {
			return nil, err
		}
	}
	for name, value := range env {
		if s, ok := byEnv[name]; ok {
			c.values[s.Key] = Value{Text: value, Origin: "environment " + name}
		}
	}
	return c, nil
}

func files(src Source, only string) ([]string, error) {
	if only != "" {
		if _, err := os.Stat(only); err != nil {
			return nil, fmt.Errorf("configuration %sCONFIG: %w", envPrefix, err)
		}
		return []string{only}, nil
	}
	var candidates []string
	if src.System != "" {
		candidates = append(candidates, filepath.Join(src.System, "loadnode.yaml"))
		parts, err := filepath.Glob(filepath.Join(src.System, "conf.d", "*.yaml"))
		if err != nil {
			return nil, fmt.Errorf("configuration %s: %w", src.System, err)
		}
		slices.Sort(parts)
		candidates = append(candidates, parts...)
	}
	if src.User != "" {
		candidates = append(candidates, filepath.Join(src.User, "loadnode.yaml"))
	}
	var out []string
	for _, f := range candidates {
		if _, err := os.Stat(f); err == nil {
			out = append(out, f)
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	return out, nil
}

func (c *Config) file(name string, known map[string]Setting) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("configuration %s: more than %d bytes", name, maxFile)
	}
	return c.parse(name, b, known)
}

func (c *Config) parse(name string, b []byte, known map[string]Setting) error {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration %s: more than one document", name)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return fmt.Errorf("configuration %s: want one mapping of settings", name)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	return c.mapping(name, "", root, known, map[string]int{}, 0)
}

func (c *Config) mapping(name, prefix string, n *yaml.Node, known map[string]Setting, seen map[string]int, depth int) error {
	at := func(n *yaml.Node) string { return fmt.Sprintf("configuration %s:%d", name, n.Line) }
	if n.Kind != yaml.MappingNode || depth > 4 {
		return fmt.Errorf("%s: want a mapping of settings", at(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		if key == "version" {
			if v.Value != "1" {
				return fmt.Errorf("%s: version %q: this program reads version 1", at(v), v.Value)
			}
			continue
		}
		if line, twice := seen[key]; twice {
			return fmt.Errorf("%s: %s is set on line %d already", at(k), key, line)
		}
		seen[key] = k.Line
		if isGroup(key, known) {
			if err := c.mapping(name, key+".", v, known, seen, depth+1); err != nil {
				return err
			}
			continue
		}
		if _, ok := known[key]; !ok {
			return fmt.Errorf("%s: %s: %w%s", at(k), key, ErrKey, nearest(key, known))
		}
		text, err := scalar(v)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", at(v), key, err)
		}
		c.values[key] = Value{Text: text, Origin: fmt.Sprintf("%s:%d", name, k.Line)}
	}
	return nil
}

func isGroup(key string, known map[string]Setting) bool {
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func scalar(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "", nil
		}
		return n.Value, nil
	case yaml.SequenceNode:
		var parts []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				return "", errors.New("want a list of plain values")
			}
			parts = append(parts, e.Value)
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("want a plain value or a list of them")
}

// nearest proposes the known key that differs least, if one is close.
func nearest(key string, known map[string]Setting) string {
	best, distance := "", 4
	for k := range known {
		if d := levenshtein(key, k); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return "; omf config show lists them"
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

func levenshtein(a, b string) int {
	if len(a) > 64 {
		a = a[:64]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}

// Get returns the value of a setting; asking for an unknown one returns the
// zero Value.
func (c *Config) Get(key string) Value { return c.values[key] }

// Set puts a value on top of what was loaded: a flag.
func (c *Config) Set(key, text, origin string) error {
	if _, ok := c.values[key]; !ok {
		return fmt.Errorf("%s: %w", key, ErrKey)
	}
	c.values[key] = Value{Text: text, Origin: origin}
	return nil
}
