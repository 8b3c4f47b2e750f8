package bus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"

	"context"
)

// outcome is what becomes of a message.
type outcome int

const (
	outcomeDone outcome = iota
	outcomeAgain
	outcomeAside
)

// settle is the one policy for the outcomes of handlers. tries counts from 1.
func settle(err error, tries int, backoff []time.Duration) (outcome, time.Duration) {
	var permanent *permanentError
	var retry *retryError
	switch {
	case err == nil:
		return outcomeDone, 0
	case errors.As(err, &permanent), errors.Is(err, ErrUndecodable):
		return outcomeAside, 0
	case errors.As(err, &retry):
		return outcomeAgain, retry.after
	}
	return outcomeAgain, max(jitter(backoff[min(max(tries, 1), len(backoff))-1]), minDelay)
}

// Headers of a message in OMF_DLQ on the subject of events.SetAsideSubject;
// the payload and the other headers are those of the original.
const (
	HeaderAsideSubject  = "Loadnode-Subject"  // where it was published
	HeaderAsideStream   = "Loadnode-Stream"   // that held it
	HeaderAsideSequence = "Loadnode-Sequence" // in that stream
	HeaderAsideConsumer = "Loadnode-Consumer" // that could not handle it
	HeaderAsideReason   = "Loadnode-Reason"   // one line
)

// setAside keeps a copy of a message: terminating it removes it from a work
// queue, and the advisory about that names it only.
func (c *Conn) setAside(ctx context.Context, durable string, m Message, reason string) error {
	cp := nats.NewMsg(events.SetAsideSubject(m.Stream))
	cp.Data = m.Raw
	for k, v := range m.Header {
		if !strings.HasPrefix(strings.ToLower(k), "nats-") {
			cp.Header[k] = v
		}
	}
	cp.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%d:%s", m.Stream, m.Seq, durable))
	cp.Header.Set(HeaderAsideSubject, m.Subject)
	cp.Header.Set(HeaderAsideStream, m.Stream)
	cp.Header.Set(HeaderAsideSequence, fmt.Sprint(m.Seq))
	cp.Header.Set(HeaderAsideConsumer, durable)
	cp.Header.Set(HeaderAsideReason, reason)
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, err := c.publishOnce(ctx, cp)
	return err
}

// oneLine makes a reason fit for a header and for an acknowledgement.
func oneLine(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > 512 {
		text = strings.ToValidUTF8(text[:512], "") + "…"
	}
	return text
}
