package bus

import (
	"bytes"
	"errors"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

// Message is what came on a subject.
type Message struct {
	Subject string
	Address events.Address // zero if the subject is not of the vocabulary
	Event   event.Event    // when Err is nil and Plain is nil
	// Plain is the payload of a request that came as plain JSON, without an
	// envelope, and of a wake-up.
	Plain       []byte
	Err         error       // why there is no event; wraps ErrUndecodable
	Header      nats.Header // as it came
	Raw         []byte      // the payload as it came
	Stream      string      // "" for core messages
	Seq         uint64      // in the stream
	Time        time.Time   // when it was stored
	Delivered   int         // from 1
	Redelivered bool
}

// decodeMessage never fails: what cannot be decoded says so in Err.
func decodeMessage(subject string, h nats.Header, data []byte) Message {
	m := Message{Subject: subject, Header: h, Raw: data, Delivered: 1}
	if a, err := events.ParseSubject(subject); err == nil {
		m.Address = a
	}
	if m.Address.Tree == "due" {
		m.Plain = data
		return m
	}
	m.Event, m.Err = Decode(h, data)
	if m.Err != nil && m.Address.Tree == "req" && isPlain(h, data) {
		m.Event, m.Plain, m.Err = event.Event{}, data, nil
	}
	return m
}

// isPlain reports whether a request is the data alone: a JSON object that
// does not claim to be an event.
func isPlain(h nats.Header, data []byte) bool {
	data = bytes.TrimSpace(data)
	return len(data) > 0 && data[0] == '{' && len(data) <= MaxEventBytes &&
		headerValue(h, headerPrefix+"specversion") == "" &&
		!bytes.Contains(data, []byte(`"specversion"`)) && checkJSON(data) == nil
}

func streamMessage(raw *nats.Msg) (Message, error) {
	md, err := raw.Metadata()
	if err != nil {
		return Message{}, err
	}
	m := decodeMessage(raw.Subject, raw.Header, raw.Data)
	m.Stream, m.Seq, m.Time = md.Stream, md.Sequence.Stream, md.Timestamp
	m.Delivered = int(md.NumDelivered)
	m.Redelivered = md.NumDelivered > 1
	return m, nil
}

func storedMessage(stream string, raw *jetstream.RawStreamMsg) *Message {
	m := decodeMessage(raw.Subject, raw.Header, raw.Data)
	m.Stream, m.Seq, m.Time = stream, raw.Sequence, raw.Time
	return &m
}

func isNoMessage(err error) bool {
	return errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrNoMessages)
}
