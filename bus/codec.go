package bus

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
)

// Bounds of what is accepted.
const (
	// MaxEventBytes is the largest message, headers included, that is sent or
	// decoded: a little below the 1 MiB that servers accept by default.
	MaxEventBytes = 1<<20 - 16<<10

	maxAttributes     = 64   // of an event, extensions included
	maxAttributeBytes = 4096 // of one value
	maxDepth          = 64   // of nested JSON
)

const (
	contentType     = "Content-Type"
	structuredMedia = "application/cloudevents+json"
	headerPrefix    = "ce-"
)

// Encode makes the message of an event: structured JSON, so that what passes
// on the bus can be read with any client.
func Encode(subject string, ev event.Event) (*nats.Msg, error) {
	if err := ev.Validate(); err != nil {
		return nil, fmt.Errorf("encode for %s: %w", subject, err)
	}
	if len(ev.DataEncoded) == 0 {
		ev.DataEncoded, ev.DataBase64 = nil, false
	}
	var b bytes.Buffer
	if err := event.WriteJson(&ev, &b); err != nil {
		return nil, fmt.Errorf("encode %s for %s: %w", ev.Type(), subject, err)
	}
	if b.Len() > MaxEventBytes {
		return nil, fmt.Errorf("encode %s for %s: %w: %d bytes, allowed are %d", ev.Type(), subject, ErrTooLarge, b.Len(), MaxEventBytes)
	}
	m := nats.NewMsg(subject)
	m.Header.Set(contentType, structuredMedia)
	m.Data = b.Bytes()
	return m, nil
}

// Decode reads an event from a message in any of the forms of the CloudEvents
// NATS binding: structured, when the content type says so or when there is
// none and the JSON has a specversion; binary, when there is a ce-specversion
// header. Names of headers are compared without case. Errors wrap
// ErrUndecodable.
func Decode(h nats.Header, data []byte) (event.Event, error) {
	ev, err := decode(h, data)
	if err != nil {
		return event.Event{}, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return ev, nil
}

func decode(h nats.Header, data []byte) (event.Event, error) {
	if len(data) > MaxEventBytes {
		return event.Event{}, fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, len(data), MaxEventBytes)
	}
	media := headerValue(h, contentType)
	if len(media) >= len("application/cloudevents") && strings.EqualFold(media[:len("application/cloudevents")], "application/cloudevents") {
		kind, _, err := mime.ParseMediaType(media)
		if err != nil {
			return event.Event{}, fmt.Errorf("content type %.80q: %w", media, err)
		}
		if kind != structuredMedia {
			return event.Event{}, fmt.Errorf("content type %.80q: only %s is understood", media, structuredMedia)
		}
		return decodeStructured(data)
	}
	if headerValue(h, headerPrefix+"specversion") != "" {
		return decodeBinary(h, data)
	}
	return decodeStructured(data)
}

// headerValue is the first value of a header, whatever the case of its name.
// nats.Header.Get compares bytes.
func headerValue(h nats.Header, name string) string {
	for k, v := range h {
		if len(v) > 0 && strings.EqualFold(k, name) {
			return v[0]
		}
	}
	return ""
}

func decodeStructured(data []byte) (event.Event, error) {
	if err := checkJSON(data); err != nil {
		return event.Event{}, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return event.Event{}, fmt.Errorf("want a JSON object: %w", err)
	}
	if _, ok := fields["specversion"]; !ok {
		return event.Event{}, errors.New("a JSON object without specversion is no event")
	}
	payload, hasData := fields["data"]
	encoded, hasBase64 := fields["data_base64"]
	delete(fields, "data")
	delete(fields, "data_base64")
	attributes := make(map[string]string, len(fields))
	for name, raw := range fields {
		v, ok, err := attributeText(raw)
		if err != nil {
			return event.Event{}, fmt.Errorf("attribute %.40q: %w", name, err)
		}
		if ok {
			attributes[name] = v
		}
	}
	ev, err := assemble(attributes)
	if err != nil {
		return event.Event{}, err
	}
	switch {
	case hasData && hasBase64:
		return event.Event{}, errors.New("both data and data_base64")
	case hasBase64:
		var text string
		if err := json.Unmarshal(encoded, &text); err != nil {
			return event.Event{}, fmt.Errorf("data_base64: %w", err)
		}
		if ev.DataEncoded, err = base64.StdEncoding.DecodeString(text); err != nil {
			return event.Event{}, fmt.Errorf("data_base64: %w", err)
		}
		ev.DataBase64 = true
	case hasData && isJSON(ev.DataContentType()):
		ev.DataEncoded = bytes.Clone(payload)
	case hasData:
		var text string
		if err := json.Unmarshal(payload, &text); err != nil {
			ev.DataEncoded = bytes.Clone(payload)
		} else {
			ev.DataEncoded = []byte(text)
		}
	}
	return finish(ev)
}

func decodeBinary(h nats.Header, data []byte) (event.Event, error) {
	attributes := make(map[string]string)
	for k, v := range h {
		if len(k) <= len(headerPrefix) || !strings.EqualFold(k[:len(headerPrefix)], headerPrefix) || len(v) == 0 {
			continue
		}
		name := strings.ToLower(k[len(headerPrefix):])
		if _, twice := attributes[name]; twice {
			return event.Event{}, fmt.Errorf("attribute %.40q is given twice", name)
		}
		if len(v[0]) > 3*maxAttributeBytes {
			return event.Event{}, fmt.Errorf("attribute %.40q is longer than %d bytes", name, maxAttributeBytes)
		}
		text, err := percentDecode(v[0])
		if err != nil {
			return event.Event{}, fmt.Errorf("attribute %.40q: %w", name, err)
		}
		attributes[name] = text
		if len(attributes) > maxAttributes {
			return event.Event{}, fmt.Errorf("more than %d attributes", maxAttributes)
		}
	}
	if media := headerValue(h, contentType); media != "" && attributes["datacontenttype"] == "" {
		attributes["datacontenttype"] = media
	}
	ev, err := assemble(attributes)
	if err != nil {
		return event.Event{}, err
	}
	if isJSON(ev.DataContentType()) && len(data) > 0 {
		if err := checkJSON(data); err != nil {
			return event.Event{}, fmt.Errorf("data: %w", err)
		}
	}
	ev.DataEncoded = bytes.Clone(data)
	return finish(ev)
}

// assemble makes an event without data from its attributes as text.
func assemble(attributes map[string]string) (event.Event, error) {
	if len(attributes) > maxAttributes {
		return event.Event{}, fmt.Errorf("%d attributes, allowed are %d", len(attributes), maxAttributes)
	}
	if v := attributes["specversion"]; v != event.CloudEventsVersionV1 {
		return event.Event{}, fmt.Errorf("specversion %.20q: only %s is understood", v, event.CloudEventsVersionV1)
	}
	ec := &event.EventContextV1{}
	for name, v := range attributes {
		if len(v) > maxAttributeBytes {
			return event.Event{}, fmt.Errorf("attribute %.40q is longer than %d bytes", name, maxAttributeBytes)
		}
		if err := setAttribute(ec, name, v); err != nil {
			return event.Event{}, fmt.Errorf("attribute %.40q: %w", name, err)
		}
	}
	return event.Event{Context: ec}, nil
}

func setAttribute(ec *event.EventContextV1, name, v string) error {
	switch name {
	case "specversion":
		return nil
	case "id":
		return ec.SetID(v)
	case "source":
		return ec.SetSource(v)
	case "type":
		return ec.SetType(v)
	case "subject":
		return ec.SetSubject(v)
	case "datacontenttype":
		return ec.SetDataContentType(v)
	case "dataschema":
		return ec.SetDataSchema(v)
	case "time":
		t, err := types.ParseTime(v)
		if err != nil {
			return err
		}
		if t.Year() < 0 || t.Year() > 9999 {
			return fmt.Errorf("time %s is out of range", t.Format(time.RFC3339))
		}
		return ec.SetTime(t)
	}
	return ec.SetExtension(name, v)
}

// finish validates an event. Empty data are none: the library would write
// them as broken JSON.
func finish(ev event.Event) (event.Event, error) {
	if len(ev.DataEncoded) == 0 {
		ev.DataEncoded, ev.DataBase64 = nil, false
	}
	if err := ev.Validate(); err != nil {
		return event.Event{}, err
	}
	return ev, nil
}

// attributeText is a JSON attribute as text; ok is false for null.
func attributeText(raw json.RawMessage) (text string, ok bool, err error) {
	switch {
	case bytes.Equal(raw, []byte("null")):
		return "", false, nil
	case raw[0] == '"':
		err := json.Unmarshal(raw, &text)
		return text, true, err
	case raw[0] == '{', raw[0] == '[':
		return "", false, errors.New("want text, a number or a boolean")
	}
	return string(raw), true, nil
}

// isJSON reports whether data of this content type are JSON; the default is.
func isJSON(media string) bool {
	if media == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(media)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}

// checkJSON refuses text that is not one JSON value or is nested too deeply,
// before anything recursive reads it.
func checkJSON(data []byte) error {
	depth, text := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON is nested deeper than %d", maxDepth)
			}
		case c == '}', c == ']':
			depth--
		}
	}
	if !json.Valid(data) {
		return errors.New("not valid JSON")
	}
	return nil
}

// percentDecode undoes the encoding of header values: "%" and two
// hexadecimal digits stand for a byte of UTF-8. Other bytes stand for
// themselves.
func percentDecode(s string) (string, error) {
	if !strings.Contains(s, "%") {
		if !utf8.ValidString(s) {
			return "", errors.New("not UTF-8")
		}
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("a percent sign without two hexadecimal digits")
		}
		hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
		if hi < 0 || lo < 0 {
			return "", errors.New("a percent sign without two hexadecimal digits")
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	if !utf8.Valid(out) {
		return "", errors.New("not UTF-8")
	}
	return string(out), nil
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
