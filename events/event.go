package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Extension attributes of the envelope.
const (
	ExtCorrelation = "correlationid" // id of the request
	ExtCausation   = "causationid"   // id of the event that this one follows from
	ExtTrace       = "traceparent"   // W3C trace context
)

// ErrUnknownType is returned by Decode for an event of another vocabulary or
// of a later version of this one: to be counted and passed over.
var ErrUnknownType = errors.New("event type is not in this vocabulary")

// ErrData is returned by Decode for an event whose data do not fit its type.
var ErrData = errors.New("event data do not fit the type")

// Meta is what the envelope says beside the data.
type Meta struct {
	ID          string    // unique within Source
	Source      string    // "/omf/<tb>/handler/<id>"
	Subject     string    // "job/<job>/node/<node>"
	Time        time.Time // when it happened
	Correlation string    // optional
	Causation   string    // optional
	Trace       string    // optional
}

// Source names a producer: role is handler, agent, frisbee, cli, …
func Source(testbed, role, name string) string {
	return "/omf/" + Escape(testbed) + "/" + role + "/" + Escape(name)
}

// SubjectAttr is the CloudEvents subject of a job or of a node in it.
func SubjectAttr(job, node string) string {
	if node == "" {
		return "job/" + job
	}
	return "job/" + job + "/node/" + node
}

// New wraps data in its envelope and validates it.
func New(m Meta, d Data) (event.Event, error) {
	e := event.New(event.CloudEventsVersionV1)
	e.SetID(m.ID)
	e.SetSource(m.Source)
	e.SetType(d.Kind().Type())
	e.SetTime(m.Time.UTC())
	e.SetDataSchema("urn:loadnode:schema:" + string(d.Kind()) + ":v1")
	if m.Subject != "" {
		e.SetSubject(m.Subject)
	}
	for name, v := range map[string]string{ExtCorrelation: m.Correlation, ExtCausation: m.Causation, ExtTrace: m.Trace} {
		if v != "" {
			e.SetExtension(name, v)
		}
	}
	if err := e.SetData(event.ApplicationJSON, d); err != nil {
		return event.Event{}, fmt.Errorf("event %s: %w", d.Kind(), err)
	}
	if err := e.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("event %s: %w", d.Kind(), err)
	}
	return e, nil
}

// Decode returns the data of an event as the struct of its kind, by value.
// Unknown fields are ignored: the vocabulary grows within a major version.
func Decode(e event.Event) (Data, error) {
	k, ok := KindOfType(e.Type())
	if !ok {
		return nil, fmt.Errorf("%q: %w", e.Type(), ErrUnknownType)
	}
	v, ok := newData(k)
	if !ok {
		return nil, fmt.Errorf("%q: %w", e.Type(), ErrUnknownType)
	}
	if err := json.Unmarshal(e.Data(), v.Interface()); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", k, ErrData, err)
	}
	return v.Elem().Interface().(Data), nil
}
