package events_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

// schema is the part of JSON Schema that structs need. Its fields are in the
// order in which they are written.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"` // string or []string
	Format      string             `json:"format,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     *int64             `json:"minimum,omitempty"`
	Maximum     *int64             `json:"maximum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  *schema            `json:"additionalProperties,omitempty"` // of maps
	Defs        map[string]*schema `json:"$defs,omitempty"`
}

// generator makes schemas of structs with their comments as descriptions.
type generator struct {
	types  map[string]string // doc of a type
	fields map[string]string // doc or line comment of "Type.Field"
	defs   map[string]*schema
}

func newGenerator(t *testing.T) *generator {
	t.Helper()
	g := &generator{types: map[string]string{}, fields: map[string]string{}}
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				return true
			}
			for _, s := range d.Specs {
				ts := s.(*ast.TypeSpec)
				g.types[ts.Name.Name] = flat(d.Doc.Text())
				st, ok := ts.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, f := range st.Fields.List {
					for _, name := range f.Names {
						g.fields[ts.Name.Name+"."+name.Name] = flat(f.Doc.Text() + " " + f.Comment.Text())
					}
				}
			}
			return true
		})
	}
	return g
}

func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// sources parses the package without its tests.
func sources(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	set := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	return files
}

// document is the schema of a struct as a file.
func (g *generator) document(t *testing.T, v any, id string) []byte {
	t.Helper()
	g.defs = map[string]*schema{}
	typ := reflect.TypeOf(v)
	s := g.object(typ)
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", id, typ.Name()
	s.Defs = g.defs
	text, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return append(text, '\n')
}

func (g *generator) object(typ reflect.Type) *schema {
	s := &schema{Type: "object", Description: g.types[typ.Name()], Properties: map[string]*schema{}}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			in := g.object(f.Type)
			for k, v := range in.Properties {
				s.Properties[k] = v
			}
			s.Required = append(s.Required, in.Required...)
			continue
		}
		p := g.value(f.Type)
		if d := g.fields[typ.Name()+"."+f.Name]; d != "" {
			p.Description = d
		}
		s.Properties[name] = p
		if opts == "" {
			s.Required = append(s.Required, name)
		}
	}
	slices.Sort(s.Required)
	return s
}

func enum[T ~string](vs ...T) []string {
	var out []string
	for _, v := range vs {
		out = append(out, string(v))
	}
	return out
}

// enums are the closed sets. A code of an error is open: other peers may add.
func enums(typ reflect.Type) []string {
	switch typ {
	case reflect.TypeFor[events.Class]():
		return enum(events.Classes()...)
	case reflect.TypeFor[events.Assurance]():
		return enum(events.AssuranceReadback, events.AssuranceWritten, events.AssuranceUnverified)
	case reflect.TypeFor[events.Then]():
		return enum(events.ThenShutdown, events.ThenReboot, events.ThenStay)
	case reflect.TypeFor[events.Outcome]():
		return enum(events.OutcomeOK, events.OutcomePartial, events.OutcomeFailed, events.OutcomeTimeout, events.OutcomeCancelled, events.OutcomePlanned)
	case reflect.TypeFor[events.CredentialKind]():
		return enum(events.CredentialNode, events.CredentialResident, events.CredentialOperator, events.CredentialService)
	}
	return nil
}

func (g *generator) value(typ reflect.Type) *schema {
	switch typ {
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[events.Duration]():
		return &schema{Type: []string{"string", "number"}, Description: "\"1m30s\", or seconds"}
	}
	switch typ.Kind() {
	case reflect.String:
		return &schema{Type: "string", Enum: enums(typ)}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer"}
	case reflect.Uint16:
		return &schema{Type: "integer", Minimum: new(int64), Maximum: ptr(int64(65535))}
	case reflect.Float64:
		return &schema{Type: "number"}
	case reflect.Pointer:
		return g.value(typ.Elem())
	case reflect.Slice:
		return &schema{Type: []string{"array", "null"}, Items: g.value(typ.Elem())} // nil is null
	case reflect.Map:
		return &schema{Type: "object", Additional: g.value(typ.Elem())}
	case reflect.Struct:
		if _, ok := g.defs[typ.Name()]; !ok {
			g.defs[typ.Name()] = &schema{} // stands while its fields are looked at
			g.defs[typ.Name()] = g.object(typ)
		}
		return &schema{Ref: "#/$defs/" + typ.Name()}
	}
	panic(fmt.Sprintf("no schema for %s", typ))
}

func ptr[T any](v T) *T { return &v }

// check validates a decoded JSON value: as much of a validator as the
// generator has of a language.
func (s *schema) check(root *schema, at string, v any) error {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].check(root, at, v)
	}
	var types []string
	switch want := s.Type.(type) {
	case string:
		types = []string{want}
	case []any:
		for _, w := range want {
			types = append(types, w.(string))
		}
	}
	got := map[bool]string{true: "null"}[v == nil]
	switch v := v.(type) {
	case string:
		got = "string"
		if s.Format == "date-time" {
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		if s.Enum != nil && !slices.Contains(s.Enum, v) {
			return fmt.Errorf("%s: %q is none of %v", at, v, s.Enum)
		}
	case bool:
		got = "boolean"
	case float64:
		got = "number"
		if v == float64(int64(v)) && slices.Contains(types, "integer") {
			got = "integer"
		}
	case []any:
		got = "array"
		for i, e := range v {
			if err := s.Items.check(root, fmt.Sprintf("%s[%d]", at, i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		got = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s: %s is missing", at, name)
			}
		}
		for name, e := range v {
			p := s.Properties[name]
			if p == nil {
				p = s.Additional
			}
			if p == nil {
				return fmt.Errorf("%s: %s is not in the schema", at, name)
			}
			if err := p.check(root, at+"."+name, e); err != nil {
				return err
			}
		}
	}
	if !slices.Contains(types, got) {
		return fmt.Errorf("%s: %s, want %v", at, got, types)
	}
	return nil
}
