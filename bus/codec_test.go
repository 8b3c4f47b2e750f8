package bus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/bus"
	"loadnode/events"
)

func headers(pairs ...string) nats.Header {
	h := nats.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

func TestDecode(t *testing.T) {
	const ce = `{"specversion":"1.0","id":"i","source":"/s","type":"t"`
	for name, c := range map[string]struct {
		h    nats.Header
		data string
		err  string // a part of the error; "" for none
		want func(t *testing.T, e event.Event)
	}{
		"structured": {headers("Content-Type", "application/cloudevents+json"), ce + `,"data":{"a": 1}}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, "i", e.ID())
			require.Equal(t, `{"a": 1}`, string(e.Data()))
		}},
		"structured, any case, parameters": {headers("content-type", "Application/CloudEvents+JSON; charset=UTF-8"), ce + `}`, "", func(t *testing.T, e event.Event) {
			require.Empty(t, e.Data())
		}},
		"structured without headers": {nil, " " + ce + `,"subject":"job/j","time":"2026-11-22T21:00:00.5Z","dataschema":"urn:x","traceparent":"00-1","n":7,"b":true,"nothing":null}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, "job/j", e.Subject())
			require.Equal(t, time.Date(2026, 11, 22, 21, 0, 0, 5e8, time.UTC), e.Time().UTC())
			require.Equal(t, map[string]any{"traceparent": "00-1", "n": "7", "b": "true"}, e.Extensions())
		}},
		"structured wins over headers": {headers("Content-Type", "application/cloudevents+json", "ce-specversion", "1.0", "ce-id", "h"), ce + `}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, "i", e.ID())
		}},
		"base64": {nil, ce + `,"datacontenttype":"application/octet-stream","data_base64":"AAEC"}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, []byte{0, 1, 2}, e.Data())
		}},
		"text": {nil, ce + `,"datacontenttype":"text/plain","data":"a\nb"}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, "a\nb", string(e.Data()))
		}},
		"binary": {headers("ce-specversion", "1.0", "CE-ID", "a%20%22b%22%25", "Ce-Source", "/s", "ce-type", "t", "ce-subject", "Euro%20%E2%82%AC%20%f0%9f%98%80", "ce-datacontenttype", "application/json", "Nats-Msg-Id", "x"), `{"a":1}`, "", func(t *testing.T, e event.Event) {
			require.Equal(t, `a "b"%`, e.ID())
			require.Equal(t, "Euro € 😀", e.Subject())
			require.Equal(t, `{"a":1}`, string(e.Data()))
			require.Empty(t, e.Extensions())
		}},
		"binary, raw UTF-8 accepted":           {headers("ce-specversion", "1.0", "ce-id", "€", "ce-source", "/s", "ce-type", "t"), "", "", func(t *testing.T, e event.Event) { require.Equal(t, "€", e.ID()) }},
		"binary, content type header":          {headers("ce-specversion", "1.0", "ce-id", "i", "ce-source", "/s", "ce-type", "t", "Content-Type", "text/plain"), "x", "", func(t *testing.T, e event.Event) { require.Equal(t, "text/plain", e.DataContentType()) }},
		"empty":                                {nil, "", "not valid JSON", nil},
		"nonsense":                             {nil, "nonsense", "not valid JSON", nil},
		"two values":                           {nil, ce + `}{}`, "not valid JSON", nil},
		"array":                                {nil, "[]", "want a JSON object", nil},
		"no specversion":                       {nil, `{"id":"i"}`, "specversion", nil},
		"old specversion":                      {nil, `{"specversion":"0.3","id":"i","source":"/s","type":"t"}`, "only 1.0", nil},
		"specversion of another type":          {nil, `{"specversion":1.0,"id":"i","source":"/s","type":"t"}`, "", func(*testing.T, event.Event) {}},
		"no id":                                {nil, `{"specversion":"1.0","source":"/s","type":"t"}`, "id", nil},
		"empty id":                             {nil, `{"specversion":"1.0","id":"","source":"/s","type":"t"}`, "id", nil},
		"no source":                            {nil, `{"specversion":"1.0","id":"i","type":"t"}`, "source", nil},
		"no type":                              {nil, `{"specversion":"1.0","id":"i","source":"/s"}`, "type", nil},
		"attribute is an object":               {nil, ce + `,"x":{}}`, "want text", nil},
		"attribute name":                       {nil, ce + `,"X-y":"z"}`, "X-y", nil},
		"bad time":                             {nil, ce + `,"time":"yesterday"}`, "time", nil},
		"both data":                            {nil, ce + `,"data":1,"data_base64":"AA=="}`, "both", nil},
		"bad base64":                           {nil, ce + `,"data_base64":"*"}`, "data_base64", nil},
		"too deep":                             {nil, ce + `,"data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + "}", "deeper than 64", nil},
		"brackets in text":                     {nil, ce + `,"data":"` + strings.Repeat(`[\"`, 200) + `"}`, "", func(*testing.T, event.Event) {}},
		"too many attributes":                  {nil, ce + manyAttributes(80) + "}", "allowed are 64", nil},
		"long attribute":                       {nil, ce + `,"x":"` + strings.Repeat("x", 4097) + `"}`, "longer than 4096", nil},
		"too large":                            {nil, ce + `,"data":"` + strings.Repeat("x", bus.MaxEventBytes) + `"}`, "too large", nil},
		"other format":                         {headers("Content-Type", "application/cloudevents+avro"), "x", "only application/cloudevents+json", nil},
		"batch":                                {headers("Content-Type", "application/cloudevents-batch+json"), "[]", "only application/cloudevents+json", nil},
		"damaged content type":                 {headers("Content-Type", "application/cloudevents+json; ="), ce + "}", "content type", nil},
		"binary, bad percent":                  {headers("ce-specversion", "1.0", "ce-id", "%2", "ce-source", "/s", "ce-type", "t"), "", "percent sign", nil},
		"binary, bad hex":                      {headers("ce-specversion", "1.0", "ce-id", "%zz", "ce-source", "/s", "ce-type", "t"), "", "percent sign", nil},
		"binary, not UTF-8":                    {headers("ce-specversion", "1.0", "ce-id", "%ff", "ce-source", "/s", "ce-type", "t"), "", "UTF-8", nil},
		"binary, raw not UTF-8":                {headers("ce-specversion", "1.0", "ce-id", "\xff", "ce-source", "/s", "ce-type", "t"), "", "UTF-8", nil},
		"binary, twice in two cases":           {headers("ce-specversion", "1.0", "ce-id", "a", "CE-ID", "b", "ce-source", "/s", "ce-type", "t"), "", "twice", nil},
		"binary, no type":                      {headers("ce-specversion", "1.0", "ce-id", "a", "ce-source", "/s"), "", "type", nil},
		"binary, data is not the JSON it says": {headers("ce-specversion", "1.0", "ce-id", "a", "ce-source", "/s", "ce-type", "t"), "{", "data", nil},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := bus.Decode(c.h, []byte(c.data))
			if c.want == nil {
				require.ErrorIs(t, err, bus.ErrUndecodable)
				require.ErrorContains(t, err, c.err)
				require.Less(t, len(err.Error()), 600, "errors quote little")
				return
			}
			require.NoError(t, err)
			c.want(t, e)
		})
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"x%d":"y"`, i)
	}
	return b.String()
}

// TestEncodeReadable checks what a plain subscriber sees.
func TestEncodeReadable(t *testing.T) {
	ev, err := events.New(events.Meta{
		ID: "i", Source: "/omf/default/cli/x", Subject: "job/j", Time: time.Unix(1, 0), Correlation: "r", Trace: "00-1",
	}, events.LoadRequest{Nodes: "[1,1]", Image: "a.ndz"})
	require.NoError(t, err)
	m, err := bus.Encode(events.RequestSubject(tb, events.VerbLoad), ev)
	require.NoError(t, err)
	require.Equal(t, "application/cloudevents+json", m.Header.Get("Content-Type"))
	require.JSONEq(t, `{"specversion":"1.0","id":"i","source":"/omf/default/cli/x","type":"loadnode.load.request.v1","subject":"job/j",
		"time":"1970-01-01T00:00:01Z","datacontenttype":"application/json","dataschema":"urn:loadnode:schema:load.request:v1",
		"correlationid":"r","traceparent":"00-1","data":{"nodes":"[1,1]","image":"a.ndz"}}`, string(m.Data))
	_, err = bus.Encode("x", event.New())
	require.ErrorContains(t, err, "encode for x")
}

// binary makes the binary form of an event: the inverse of what Decode reads,
// written from the specification.
func binary(e event.Event) (nats.Header, []byte) {
	h := nats.Header{}
	set := func(name, v string) {
		var b strings.Builder
		for i := range len(v) {
			if c := v[i]; c <= ' ' || c == '"' || c == '%' || c >= 0x7f {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
		h["ce-"+name] = []string{b.String()}
	}
	set("specversion", e.SpecVersion())
	set("id", e.ID())
	set("source", e.Source())
	set("type", e.Type())
	if e.Subject() != "" {
		set("subject", e.Subject())
	}
	if e.DataSchema() != "" {
		set("dataschema", e.DataSchema())
	}
	if e.DataContentType() != "" {
		set("datacontenttype", e.DataContentType())
	}
	if !e.Time().IsZero() {
		set("time", e.Time().Format(time.RFC3339Nano))
	}
	for k, v := range e.Extensions() {
		set(k, v.(string))
	}
	return h, e.Data()
}

// TestCodecRoundTrip sends any event of ours through both forms.
func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 40, 400)
		meta := events.Meta{
			ID:          text.Draw(t, "id"),
			Source:      events.Source(text.Draw(t, "testbed"), "agent", text.Draw(t, "name")),
			Subject:     events.SubjectAttr(text.Draw(t, "job"), ""),
			Time:        time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")),
			Correlation: rapid.StringMatching(`[!-~]{0,20}`).Draw(t, "correlation"),
		}
		data := events.LoadFailed{
			NodeRef: events.NodeRef{Node: text.Draw(t, "node"), Attempt: rapid.IntRange(0, 9).Draw(t, "attempt")},
			Message: text.Draw(t, "message"),
		}
		sent, err := events.New(meta, data)
		if err != nil {
			t.Skip(err) // an id of spaces only, and the like
		}
		m, err := bus.Encode("x", sent)
		require.NoError(t, err)
		structured, err := bus.Decode(m.Header, m.Data)
		require.NoError(t, err)
		bh, bd := binary(sent)
		fromBinary, err := bus.Decode(bh, bd)
		require.NoError(t, err)
		for _, got := range []event.Event{structured, fromBinary} {
			require.Equal(t, sent.ID(), got.ID())
			require.Equal(t, sent.Source(), got.Source())
			require.Equal(t, sent.Type(), got.Type())
			require.Equal(t, sent.Subject(), got.Subject())
			require.True(t, sent.Time().Equal(got.Time()))
			require.Equal(t, sent.DataSchema(), got.DataSchema())
			require.Equal(t, sent.Extensions(), got.Extensions())
			require.JSONEq(t, string(sent.Data()), string(got.Data()))
		}
	})
}

// FuzzDecode feeds anything to the codec: whatever it accepts must be valid,
// bounded, and survive being sent on.
func FuzzDecode(f *testing.F) {
	f.Add("application/cloudevents+json", "ce-id", "x", []byte(`{"specversion":"1.0","id":"i","source":"/s","type":"t","data":{"a":[1,"\"{"]}}`))
	f.Add("", "", "", []byte(`{"specversion":"1.0","id":"i","source":"/s","type":"t","time":"2026-11-22T21:00:00Z","x":1e999}`))
	f.Add("text/plain", "ce-specversion", "1.0", []byte("x"))
	f.Add("application/json", "CE-Type", "%41%e2%82%ac", []byte(`{}`))
	f.Add("", "ce-specversion", "%31.0", []byte(nil))
	f.Fuzz(func(t *testing.T, media, name, value string, data []byte) {
		h := headers("ce-source", "/s", "ce-type", "t", "ce-id", "i")
		if media != "" {
			h["content-type"] = []string{media}
		}
		if name != "" {
			h[name] = []string{value}
		}
		e, err := bus.Decode(h, data)
		if err != nil {
			require.ErrorIs(t, err, bus.ErrUndecodable)
			return
		}
		require.NoError(t, e.Validate())
		m, err := bus.Encode("x", e)
		if err != nil {
			return // larger as JSON than it was
		}
		again, err := bus.Decode(m.Header, m.Data)
		require.NoError(t, err, "%s", m.Data)
		require.Equal(t, e.ID(), again.ID())
		require.Equal(t, e.Source(), again.Source())
		if json.Valid(e.Data()) && len(e.Data()) > 0 && e.DataContentType() == "" {
			var a, b bytes.Buffer
			require.NoError(t, json.Compact(&a, e.Data()))
			require.NoError(t, json.Compact(&b, again.Data()))
			require.Equal(t, a.String(), b.String())
		}
	})
}
