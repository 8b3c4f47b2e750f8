package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"loadnode/events"
)

// defaultRequestTimeout limits a request whose context has no deadline.
const defaultRequestTimeout = 30 * time.Second

// Request sends req as JSON and reads the answer into resp (nil: it is not
// wanted; req nil: an empty object). Nobody there is ErrNoResponders at once;
// what the other side refused is an *events.Error; a refused subject is
// ErrDenied; a connection that breaks meanwhile, or no answer in time, is
// ErrUnreachable, and then the request may have been acted upon. Without a
// deadline in ctx, 30 s are given. Before the connection stands, it is waited
// for.
func (c *Conn) Request(ctx context.Context, subject string, req, resp any) error {
	if req == nil {
		req = events.Empty{}
	}
	data, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("request %s: %w", subject, err)
	}
	if len(data) > MaxEventBytes {
		return fmt.Errorf("request %s: %w: %d bytes, allowed are %d", subject, ErrTooLarge, len(data), MaxEventBytes)
	}
	timeout := defaultRequestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	m := nats.NewMsg(subject)
	m.Data = data
	reply, err := c.roundTrip(ctx, m, timeout)
	if err != nil {
		return fmt.Errorf("request %s: %w", subject, err)
	}
	if code := headerValue(reply.Header, micro.ErrorCodeHeader); code != "" {
		return fmt.Errorf("request %s: %w", subject, remoteError(code, headerValue(reply.Header, micro.ErrorHeader), reply.Data))
	}
	if resp == nil {
		return nil
	}
	if err := decodeJSON(reply.Data, resp); err != nil {
		return fmt.Errorf("request %s: answer: %w", subject, err)
	}
	return nil
}

// remoteError is the error in a reply: the body if it is one, otherwise what
// the headers say.
func remoteError(code, text string, body []byte) *events.Error {
	var e events.Error
	if err := decodeJSON(body, &e); err == nil && e.Code != "" && e.Message != "" {
		return &e
	}
	if text == "" {
		text = "refused with code " + code
	}
	return &events.Error{Code: events.Code(code), Message: text}
}

// decodeJSON reads one bounded JSON value. Unknown fields are ignored: the
// vocabulary grows.
func decodeJSON(data []byte, v any) error {
	if len(data) > MaxEventBytes {
		return fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, len(data), MaxEventBytes)
	}
	if err := checkJSON(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Request is what an endpoint is asked.
type Request struct {
	Subject string
	Data    []byte

	answered <-chan struct{}
}

// Answered is closed when the answer is on its way: what the connection says
// from then on comes after it. Whoever ends the connection for a request waits
// for that, or the answer may be lost and the other end waits in vain.
func (r Request) Answered() <-chan struct{} {
	if r.answered == nil { // made by hand: nobody waits for an answer
		done := make(chan struct{})
		close(done)
		return done
	}
	return r.answered
}

// Decode reads the payload, a JSON object; an empty payload is the empty
// object. A failure is an *events.Error with CodeBadRequest, to be returned
// as it is.
func (r Request) Decode(v any) error {
	data := bytes.TrimSpace(r.Data)
	if len(data) == 0 {
		data = []byte("{}")
	}
	err := errors.New("want a JSON object")
	if data[0] == '{' {
		err = decodeJSON(data, v)
	}
	if err != nil {
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("request on %s: %v", r.Subject, err)}
	}
	return nil
}
