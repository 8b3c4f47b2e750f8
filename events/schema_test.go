package events_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"loadnode/events"
)

// payloads lists the structs of requests and answers, each once.
func payloads() []any {
	var all []any
	seen := map[reflect.Type]bool{}
	for _, c := range channels() {
		for _, v := range []any{c.payload, c.reply} {
			if v == nil || seen[reflect.TypeOf(v)] || reflect.TypeOf(v) == reflect.TypeFor[timerPayload]() {
				continue
			}
			seen[reflect.TypeOf(v)] = true
			all = append(all, v)
		}
	}
	return append(all, events.Error{})
}

// generated is what schema/ has to hold.
func generated(t *testing.T) map[string][]byte {
	t.Helper()
	g := newGenerator(t)
	files := map[string][]byte{}
	for _, d := range events.Vocabulary() {
		files[string(d.Kind())+".json"] = g.document(t, d, "urn:loadnode:schema:"+string(d.Kind())+":v1")
	}
	for _, v := range payloads() {
		name := reflect.TypeOf(v).Name()
		files["payload/"+name+".json"] = g.document(t, v, "urn:loadnode:schema:payload:"+name+":v1")
	}
	return files
}

func TestSchemasAreThoseOfTheCode(t *testing.T) {
	want := generated(t)
	if *update {
		require.NoError(t, os.RemoveAll("schema"))
		for name, text := range want {
			path := filepath.Join("schema", name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, text, 0o644))
		}
	}
	have := os.DirFS("schema") // not the embedded ones: they are as old as the build
	for name, text := range want {
		file, err := fs.ReadFile(have, name)
		require.NoError(t, err, "run go test ./events -update")
		require.Equal(t, string(text), string(file), "%s: run go test ./events -update", name)
	}
	require.NoError(t, fs.WalkDir(have, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			require.Contains(t, want, path, "nothing in the code has this schema")
		}
		return err
	}))
}

func TestSchema(t *testing.T) {
	for _, d := range events.Vocabulary() {
		text, ok := events.Schema(d.Kind())
		require.True(t, ok, d.Kind())
		require.True(t, json.Valid(text))
		fromFS, err := fs.ReadFile(events.Schemas(), string(d.Kind())+".json")
		require.NoError(t, err)
		require.Equal(t, text, fromFS)
	}
	for _, k := range []events.Kind{"", "nothing", "../asyncapi", "payload/LoadCommand"} {
		_, ok := events.Schema(k)
		require.False(t, ok, k)
	}
	require.NotEmpty(t, events.AsyncAPI())
}

// filled sets every field of a struct, so that nothing is left out of its
// JSON.
func filled(v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 22, 21, 0, 0, 0, time.UTC)))
		return
	case reflect.TypeFor[events.Duration]():
		v.Set(reflect.ValueOf(events.Duration(90 * time.Second)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
		if e := enums(v.Type()); e != nil {
			v.SetString(e[len(e)-1])
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint16:
		v.SetUint(65535)
	case reflect.Float64:
		v.SetFloat(12.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			filled(v.Index(i))
		}
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		filled(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), e)
	case reflect.Struct:
		for i := range v.NumField() {
			filled(v.Field(i))
		}
	}
}

// TestEveryKind sends a full and an empty value of each kind through its
// envelope and holds the JSON against the schema.
func TestEveryKind(t *testing.T) {
	seen := map[events.Kind]bool{}
	for _, zero := range events.Vocabulary() {
		kind := zero.Kind()
		require.False(t, seen[kind], "%s is listed twice", kind)
		seen[kind] = true
		k, ok := events.KindOfType(kind.Type())
		require.True(t, ok)
		require.Equal(t, kind, k)

		full := reflect.New(reflect.TypeOf(zero))
		filled(full.Elem())
		text, ok := events.Schema(kind)
		require.True(t, ok)
		var s schema
		require.NoError(t, json.Unmarshal(text, &s))
		for _, d := range []events.Data{full.Elem().Interface().(events.Data), zero} {
			ev, err := events.New(events.Meta{ID: "i", Source: "/s", Time: time.Unix(0, 0)}, d)
			require.NoError(t, err)
			require.Equal(t, "urn:loadnode:schema:"+string(kind)+":v1", ev.DataSchema())
			require.Equal(t, s.ID, ev.DataSchema())
			got, err := events.Decode(ev)
			require.NoError(t, err)
			require.Equal(t, d, got)
			var v any
			require.NoError(t, json.Unmarshal(ev.Data(), &v))
			err = s.check(&s, string(kind), v)
			if d == nil || !reflect.DeepEqual(d, zero) {
				require.NoError(t, err)
			} else if err != nil {
				require.ErrorContains(t, err, `"" is none of`, "an empty value may lack a word of a closed set, nothing else")
			}
		}
	}
}

// TestSchemaRefuses makes sure that the comparison above can fail.
func TestSchemaRefuses(t *testing.T) {
	text, ok := events.Schema(events.KindLoadDone)
	require.True(t, ok)
	var s schema
	require.NoError(t, json.Unmarshal(text, &s))
	good := `{"node":"n","assurance":"written","digest":"d","chunks":1,"bytes_written":1,"disk_bytes":1,"took":"1s"}`
	for data, want := range map[string]string{
		good: "",
		`{}`: "missing",
		`{"node":"n","assurance":"surely","digest":"d","chunks":1,"bytes_written":1,"disk_bytes":1,"took":1}`:            "none of",
		`{"node":"n","assurance":"written","digest":"d","chunks":1.5,"bytes_written":1,"disk_bytes":1,"took":1}`:         "want [integer]",
		`{"node":7,"assurance":"written","digest":"d","chunks":1,"bytes_written":1,"disk_bytes":1,"took":1}`:             "want [string]",
		`{"node":"n","assurance":"written","digest":"d","chunks":1,"bytes_written":1,"disk_bytes":1,"took":1,"other":1}`: "not in the schema",
	} {
		var v any
		require.NoError(t, json.Unmarshal([]byte(data), &v))
		err := s.check(&s, "data", v)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	ev := event.New()
	ev.SetType("loadnode.load.done.v1")
	require.NoError(t, ev.SetData("application/json", map[string]any{"node": 7}))
	_, err := events.Decode(ev)
	require.ErrorIs(t, err, events.ErrData)
	ev.DataEncoded = nil
	_, err = events.Decode(ev)
	require.ErrorIs(t, err, events.ErrData)
	ev.DataEncoded = []byte(`{"node":"n","later":{"x":1}}`)
	d, err := events.Decode(ev)
	require.NoError(t, err, "unknown fields are ignored")
	require.Equal(t, "n", d.(events.LoadDone).Node)
	for _, typ := range []string{"", "loadnode.load.done.v2", "loadnode.invented.v1", "other.load.done.v1", "loadnode..v1", "loadnode.v1"} {
		ev.SetType(typ)
		_, err = events.Decode(ev)
		require.ErrorIs(t, err, events.ErrUnknownType, typ)
	}
	_, err = events.New(events.Meta{}, events.Up{})
	require.ErrorContains(t, err, "event up")
}

// TestReportKinds checks that what nodes may report is in the vocabulary.
func TestReportKinds(t *testing.T) {
	var known []events.Kind
	for _, d := range events.Vocabulary() {
		known = append(known, d.Kind())
	}
	for _, k := range events.ReportKinds() {
		require.True(t, slices.Contains(known, k), k)
	}
}
