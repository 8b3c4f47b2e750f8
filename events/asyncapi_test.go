package events_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"loadnode/events"
)

const asyncAPIHead = `# Written by go test ./events -update from the catalogue in catalogue_test.go
# and the structs of the package. Do not edit: a test compares.
asyncapi: 3.0.0
info:
  title: loadnode
  version: 1.0.0
  description: >-
    What is said on the bus of loadnode, and where. Requests, reports and facts are CloudEvents 1.0, published as
    structured JSON, accepted in binary form too; requests are accepted as plain JSON data as well. Commands and
    services are request/reply with plain JSON; an error is a reply with the headers Nats-Service-Error-Code and
    Nats-Service-Error and an Error as its payload. Names (testbed, node, job, image) are escaped in subjects: bytes
    other than a-z, 0-9 and "-" become "_" and two hexadecimal digits.
  license:
    name: Apache-2.0
    url: https://www.apache.org/licenses/LICENSE-2.0
defaultContentType: application/cloudevents+json
servers:
  bus:
    host: localhost:4222
    protocol: nats
    description: The embedded server of "omf serve", or a cluster with JetStream.
`

// asyncAPI writes the document.
func asyncAPI() string {
	var b strings.Builder
	w := func(indent int, format string, v ...any) {
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, v...))
	}
	all := channels()
	b.WriteString(asyncAPIHead)
	w(0, "channels:")
	for _, c := range all {
		w(1, "%s:", c.name)
		w(2, "address: %s", strconv.Quote(c.address))
		w(2, "description: %s", strconv.Quote(c.about))
		if ps := parameters(c.address); len(ps) > 0 {
			w(2, "parameters:")
			for _, p := range ps {
				w(3, "%s: {$ref: '#/components/parameters/%s'}", p, p)
			}
		}
		w(2, "messages:")
		w(3, "%s: {$ref: '#/components/messages/%s'}", c.message(), c.message())
	}
	w(1, "replies:")
	w(2, "address: null")
	w(2, "description: Inboxes of those who ask.")
	w(2, "messages:")
	for _, name := range replies(all) {
		w(3, "%s: {$ref: '#/components/messages/%s'}", name, name)
	}
	w(0, "operations:")
	for _, c := range all {
		w(1, "%s:", c.name)
		w(2, "action: send")
		w(2, "summary: %s", strconv.Quote(c.by+" → "+c.to))
		w(2, "channel: {$ref: '#/channels/%s'}", c.name)
		w(2, "messages:")
		w(3, "- {$ref: '#/channels/%s/messages/%s'}", c.name, c.message())
		if c.reply != nil {
			w(2, "reply:")
			w(3, "channel: {$ref: '#/channels/replies'}")
			w(3, "messages:")
			w(4, "- {$ref: '#/channels/replies/messages/%s'}", structName(c.reply))
			w(4, "- {$ref: '#/channels/replies/messages/Error'}")
		}
	}
	w(0, "components:")
	w(1, "parameters:")
	for _, p := range []struct{ name, about string }{
		{"testbed", "Escaped name of the testbed (OMF domain); default: default."},
		{"node", "Escaped name of the node: n1-2."},
		{"job", "Id of the job: a ULID in lower case."},
		{"image", "Escaped name of the image: ubuntu_2endz."},
		{"stream", "Escaped name of the stream that held the message."},
	} {
		w(2, "%s: {description: %s}", p.name, strconv.Quote(p.about))
	}
	w(1, "messages:")
	for _, d := range events.Vocabulary() {
		w(2, "%s:", d.Kind())
		w(3, "name: %s", d.Kind().Type())
		w(3, "contentType: application/cloudevents+json")
		w(3, "payload:")
		w(4, "allOf:")
		w(5, "- {$ref: '#/components/schemas/envelope'}")
		w(5, "- properties:")
		w(7, "type: {const: %s}", d.Kind().Type())
		w(7, "data: {$ref: './schema/%s.json'}", d.Kind())
	}
	for _, v := range payloads() {
		w(2, "%s:", structName(v))
		w(3, "contentType: application/json")
		w(3, "payload: {$ref: './schema/payload/%s.json'}", structName(v))
	}
	w(2, "timer:")
	w(3, "contentType: application/json")
	w(3, "payload: {type: object, properties: {at: {type: string, format: date-time}}}")
	w(2, "message:")
	w(3, "description: The payload and headers of the original.")
	w(1, "schemas:")
	w(2, "envelope:")
	w(3, "type: object")
	w(3, "required: [specversion, id, source, type, time]")
	w(3, "properties:")
	for _, p := range []string{
		"specversion: {const: '1.0'}", "id: {type: string, minLength: 1}", "source: {type: string, format: uri-reference}",
		"type: {type: string}", "subject: {type: string}", "time: {type: string, format: date-time}",
		"datacontenttype: {const: application/json}", "dataschema: {type: string, format: uri}",
		events.ExtCorrelation + ": {type: string, description: id of the request}",
		events.ExtCausation + ": {type: string, description: id of the event that this one follows from}",
		events.ExtTrace + ": {type: string, description: W3C trace context}",
	} {
		w(4, "%s", p)
	}
	return b.String()
}

func structName(v any) string { return reflect.TypeOf(v).Name() }

// message is the name of the message on a channel.
func (c channel) message() string {
	switch v := c.payload.(type) {
	case nil:
		if c.kind == "" {
			return "message"
		}
		return string(c.kind)
	case timerPayload:
		return "timer"
	default:
		return structName(v)
	}
}

func parameters(address string) []string {
	var out []string
	for _, token := range strings.Split(address, ".") {
		if strings.HasPrefix(token, "{") {
			out = append(out, strings.Trim(token, "{}"))
		}
	}
	return out
}

func replies(all []channel) []string {
	out := []string{"Error"}
	for _, c := range all {
		if c.reply != nil && !slices.Contains(out, structName(c.reply)) {
			out = append(out, structName(c.reply))
		}
	}
	return out
}

func TestAsyncAPIIsThatOfTheCode(t *testing.T) {
	want := asyncAPI()
	if *update {
		require.NoError(t, os.WriteFile("asyncapi.yaml", []byte(want), 0o644))
	}
	have, err := os.ReadFile("asyncapi.yaml")
	require.NoError(t, err)
	require.Equal(t, want, string(have), "run go test ./events -update")
}

type document struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address    string
		Parameters map[string]any
		Messages   map[string]any
	}
	Operations map[string]struct {
		Action  string
		Channel map[string]string
	}
	Components struct {
		Messages map[string]any
	}
}

// TestAsyncAPIHolds reads the document as others do: every reference leads
// somewhere, and every kind, tree, schema and verb of the code is in it.
func TestAsyncAPIHolds(t *testing.T) {
	text, err := os.ReadFile("asyncapi.yaml")
	require.NoError(t, err)
	var tree any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	used := map[string]bool{}
	requireRefs(t, tree, tree, used)
	var doc document
	require.NoError(t, yaml.Unmarshal(text, &doc))
	require.Equal(t, "3.0.0", doc.AsyncAPI)

	// Schemas: each file is used, each used one is a file (requireRefs).
	require.NoError(t, fs.WalkDir(os.DirFS("."), "schema", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			require.True(t, used["./"+path], "%s is not used", path)
		}
		return err
	}))
	// Kinds: each has a message and is said somewhere.
	said := map[string]bool{}
	for name, c := range doc.Channels {
		for m := range c.Messages {
			said[m] = true
		}
		require.Len(t, c.Parameters, len(parameters(c.Address)), name)
		if name != "replies" {
			require.Contains(t, doc.Operations, name)
		}
	}
	for _, d := range events.Vocabulary() {
		require.Contains(t, doc.Components.Messages, string(d.Kind()))
	}
	for m := range doc.Components.Messages {
		require.True(t, said[m], "%s is said on no channel", m)
	}
	require.Len(t, doc.Operations, len(doc.Channels)-1)

	// Trees: each address is one that the code parses, into the same tree and
	// kind, and each tree of the code has an address.
	trees := map[string]bool{}
	for name, c := range doc.Channels {
		if c.Address == "" {
			continue
		}
		subject := c.Address
		for _, p := range parameters(c.Address) {
			subject = strings.ReplaceAll(subject, "{"+p+"}", "x")
		}
		tokens := strings.Split(subject, ".")
		trees[tokens[2]] = true
		require.True(t, strings.HasPrefix(name, tokens[2]+"."), "%s at %s", name, c.Address)
		a, err := events.ParseSubject(subject)
		if tokens[2] == "svc" || tokens[2] == "dlq" {
			continue // endpoints are registered one by one
		}
		require.NoError(t, err, subject)
		for m := range c.Messages {
			if a.Kind != "" {
				require.Equal(t, string(a.Kind), m, subject)
			}
		}
	}
	for name, value := range constants(t) {
		if tree, ok := strings.CutPrefix(value, "omf.v1."); ok && strings.HasPrefix(name, "All") {
			require.True(t, trees[strings.Split(tree, ".")[0]], "%s has no channel", name)
		}
	}
	require.Len(t, trees, 9)

	// Verbs and endpoints: each constant is an address.
	address := func(tree, verb string) bool {
		for _, c := range doc.Channels {
			if strings.HasPrefix(c.Address, "omf.v1."+tree) && strings.HasSuffix(c.Address, "."+verb) {
				return true
			}
		}
		return false
	}
	for name, verb := range constants(t) {
		for prefix, tree := range map[string]string{"Frisbee": "svc.{testbed}.frisbee", "Handler": "svc.{testbed}.handler", "Bus": "svc.{testbed}.bus"} {
			if strings.HasPrefix(name, prefix) {
				require.True(t, address(tree, verb), name)
			}
		}
	}
	for name, verb := range constants(t) {
		if strings.HasPrefix(name, "Power") {
			require.True(t, address("svc.{testbed}.power", verb), name)
		}
	}
	for name, verb := range constants(t) {
		// Saving and power are refused as requests for the time being.
		if strings.HasPrefix(name, "Verb") && name != "VerbSave" && name != "VerbPower" {
			require.True(t, address("req", verb) || address("cmd", verb), name)
		}
	}
	for name, kind := range constants(t) {
		if strings.HasPrefix(name, "Kind") && name != "KindPowerRequest" {
			require.Contains(t, doc.Components.Messages, kind, name)
		}
	}
}

// requireRefs follows every $ref within the document and to its files.
func requireRefs(t *testing.T, root, at any, used map[string]bool) {
	t.Helper()
	switch v := at.(type) {
	case []any:
		for _, e := range v {
			requireRefs(t, root, e, used)
		}
	case map[string]any:
		for k, e := range v {
			if k != "$ref" {
				requireRefs(t, root, e, used)
				continue
			}
			ref := e.(string)
			used[ref] = true
			path, inside := strings.CutPrefix(ref, "#/")
			if !inside {
				require.FileExists(t, ref)
				continue
			}
			target := root
			for _, step := range strings.Split(path, "/") {
				m, ok := target.(map[string]any)
				require.True(t, ok, ref)
				target, ok = m[step]
				require.True(t, ok, ref)
			}
		}
	}
}

// constants are the string constants of the package.
func constants(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.CONST {
				return true
			}
			for _, s := range d.Specs {
				vs := s.(*ast.ValueSpec)
				for i, name := range vs.Names {
					if i < len(vs.Values) {
						if v, ok := constant(vs.Values[i]); ok {
							out[name.Name] = v
						}
					}
				}
			}
			return true
		})
	}
	require.NotEmpty(t, out)
	return out
}

func constant(e ast.Expr) (string, bool) {
	switch v := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(v.Value)
		return s, err == nil && v.Kind == token.STRING
	case *ast.BinaryExpr:
		if id, ok := v.X.(*ast.Ident); ok && id.Name == "prefix" {
			s, ok := constant(v.Y)
			return "omf.v1." + s, ok
		}
	}
	return "", false
}
