package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document parses one document. Aliases, tags of other languages and doubled
// keys are refused: none of them is in a configuration that OMF was delivered
// with, and each can make a small file mean something else than it shows.
func document(name string, text []byte) (*yaml.Node, error) {
	fail := func(format string, args ...any) (*yaml.Node, error) {
		return nil, fmt.Errorf("%w: %s%s", ErrInput, name, fmt.Sprintf(format, args...))
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return fail(": the file is empty")
	} else if err != nil {
		return fail(": %v", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fail(": more than one document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return fail(": want one mapping or list")
	}
	count := 0
	if err := check(doc.Content[0], 0, &count); err != nil {
		return fail("%v", err)
	}
	return doc.Content[0], nil
}

func check(n *yaml.Node, depth int, count *int) error {
	*count++
	switch {
	case depth > maxDepth:
		return fmt.Errorf(":%d: nested deeper than %d", n.Line, maxDepth)
	case *count > maxNodes:
		return fmt.Errorf(":%d: more than %d values", n.Line, maxNodes)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf(":%d: anchors and aliases (& and *) are not read; write the value out", n.Line)
	case !strings.HasPrefix(n.ShortTag(), "!!") || n.ShortTag() == "!!merge" || n.ShortTag() == "!!binary":
		return fmt.Errorf(":%d: %s is not read; want plain values", n.Line, clip(n.ShortTag()))
	}
	seen := map[string]bool{}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if c.Kind != yaml.ScalarNode {
				return fmt.Errorf(":%d: want a plain key", c.Line)
			}
			if key := keyOf(c); seen[key] {
				return fmt.Errorf(":%d: %s is there twice", c.Line, clip(key))
			} else {
				seen[key] = true
			}
		}
		if err := check(c, depth+1, count); err != nil {
			return err
		}
	}
	return nil
}

// keyOf is a key without the colon that makes it a symbol of Ruby.
func keyOf(n *yaml.Node) string { return strings.TrimPrefix(n.Value, ":") }

// each calls f for the keys of a mapping, in order.
func each(n *yaml.Node, f func(key string, k, v *yaml.Node) error) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := f(keyOf(n.Content[i]), n.Content[i], n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// show is a value in a report, as one line.
func show(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return clip(n.Value)
	case yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	}
	return fmt.Sprintf("%d keys", len(n.Content)/2)
}
