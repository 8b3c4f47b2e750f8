package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

// Ack says where a message is stored.
type Ack struct {
	Stream    string
	Seq       uint64
	Duplicate bool // it was there already
}

// Publish stores an event and returns when the server has acknowledged it. As
// long as ctx lives it keeps trying through lost connections, restarts and
// absent streams; it ends early only with what trying again cannot help:
// ErrDenied, ErrTooLarge, or a refusal of the stream. When it returns any
// other error, the event may be stored or not.
//
// Facts and requests that are published twice with the same id within ten
// minutes are stored once. Reports carry no message id: a node could suppress
// the report of another by using its id. Who takes reports tells repetitions
// by the event's id.
func (c *Conn) Publish(ctx context.Context, subject string, ev event.Event) (Ack, error) {
	m, err := Encode(subject, ev)
	if err != nil {
		return Ack{}, err
	}
	if id := messageID(subject, ev); id != "" {
		m.Header.Set(jetstream.MsgIDHeader, id)
	}
	return c.publish(ctx, m)
}

// messageID is what the server deduplicates an event by, for the whole
// stream. Anybody may choose the id of a request, so that the source is part
// of it; facts have deterministic ids, the same from whichever handler.
func messageID(subject string, ev event.Event) string {
	switch {
	case strings.HasPrefix(subject, strings.TrimSuffix(events.AllFacts, ">")):
		return ev.ID()
	case strings.HasPrefix(subject, strings.TrimSuffix(events.AllRequests, ">")):
		return ev.Source() + "#" + ev.ID()
	}
	return ""
}

// publish stores a message, retrying while that may help.
func (c *Conn) publish(ctx context.Context, m *nats.Msg) (Ack, error) {
	for delay := newDelays(50*time.Millisecond, 2*time.Second); ; {
		ack, err := c.publishOnce(ctx, m)
		if err == nil {
			c.counts.published.Add(1)
			return ack, nil
		}
		if !IsTransient(err) || !delay.wait(ctx) {
			return Ack{}, fmt.Errorf("publish on %s: %w", m.Subject, withContext(ctx, err))
		}
	}
}

func (c *Conn) publishOnce(ctx context.Context, m *nats.Msg) (Ack, error) {
	reply, err := c.roundTrip(ctx, m, ackTimeout)
	if err != nil {
		return Ack{}, err
	}
	return parseAck(reply.Data)
}

// roundTrip sends a message and waits for the reply. It ends at once when the
// server denies the subject or the connection is lost.
func (c *Conn) roundTrip(ctx context.Context, m *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	if err := c.awaitUp(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	gctx, done := c.guard(ctx, onSubject(m.Subject))
	defer done()
	reply, err := c.nc.RequestMsgWithContext(gctx, m)
	if err != nil {
		return nil, classify(err, context.Cause(gctx))
	}
	return reply, nil
}

func parseAck(data []byte) (Ack, error) {
	var r struct {
		Error     *jetstream.APIError `json:"error"`
		Stream    string              `json:"stream"`
		Seq       uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Ack{}, fmt.Errorf("acknowledgement: %w", err)
	}
	if r.Error != nil {
		return Ack{}, r.Error
	}
	if r.Stream == "" {
		return Ack{}, errors.New("acknowledgement without a stream: somebody else answers on this subject")
	}
	return Ack{Stream: r.Stream, Seq: r.Seq, Duplicate: r.Duplicate}, nil
}

// Emit publishes an event without waiting for anything: it may be lost. It is
// for telemetry.
func (c *Conn) Emit(_ context.Context, subject string, ev event.Event) error {
	m, err := Encode(subject, ev)
	if err != nil {
		return err
	}
	if err := c.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("emit on %s: %w", subject, classify(err, nil))
	}
	return nil
}
