package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// MaxAppend is how many facts one Append may hold, the limit of the server.
const MaxAppend = 1000

// Headers of atomic batches (NATS ADR-50).
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

// Codes of JetStream that are told apart.
const (
	codeNoPeers          = 10005 // too few servers to place a stream on
	codeStreamConfig     = 10052 // a configuration that the server does not take
	codeWrongLastSeq     = 10071 // somebody appended since
	codeWrongLastSeqBusy = 10164 // somebody's append is being replicated right now
	codeBatchIncomplete  = 10176
	codeBatchDuplicate   = 10201
	codeBatchInflight    = 10210
)

// Record is a fact and where it goes.
type Record struct {
	Subject string
	Event   event.Event
}

// Append stores facts, all of them next to each other or none, provided that
// the newest message that matches filter still has the sequence last (0: there
// is none). It returns the sequence of the last one stored, to be used as
// last in the next Append. All writers of an aggregate use the same filter:
// events.JobFacts or events.LeasesSubject.
//
// ErrConflict means that somebody else was faster and nothing is stored.
// While ctx lives, Append repeats what has an unknown outcome (a lost
// acknowledgement, a restarted server) and recognises its own facts if they
// are there already. ErrDuplicate means that one of the ids is in the log
// before last; nothing is stored.
func (c *Conn) Append(ctx context.Context, filter string, last uint64, recs ...Record) (uint64, error) {
	if len(recs) == 0 {
		return last, nil
	}
	if len(recs) > MaxAppend {
		return 0, Permanent(fmt.Errorf("append to %s: %d facts at once, allowed are %d", filter, len(recs), MaxAppend))
	}
	msgs := make([]*nats.Msg, len(recs))
	for i, r := range recs {
		m, err := Encode(r.Subject, r.Event)
		if err != nil {
			return 0, fmt.Errorf("append to %s: %w", filter, err)
		}
		m.Header.Set(jetstream.MsgIDHeader, messageID(r.Subject, r.Event))
		m.Header.Set(jetstream.ExpectedStreamHeader, StreamFacts)
		msgs[i] = m
	}
	msgs[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	msgs[0].Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, filter)

	for delay := newDelays(20*time.Millisecond, 2*time.Second); ; {
		seq, err := c.appendOnce(ctx, msgs)
		switch {
		case err == nil:
			c.counts.published.Add(uint64(len(msgs)))
			return seq, nil
		case errors.Is(err, ErrConflict), errors.Is(err, ErrDuplicate):
			// The conflict may be with ourselves: an earlier attempt whose
			// acknowledgement was lost.
			own, follows, lookErr := c.ownFacts(ctx, filter, last, msgs)
			switch {
			case lookErr != nil:
				err = lookErr
			case own > 0:
				c.counts.published.Add(uint64(len(msgs)))
				return own, nil
			case follows && errors.Is(err, ErrDuplicate):
				// The server looks at ids first. Who decided on an old state
				// is late before anything else.
				err = ErrConflict
				fallthrough
			default:
				if errors.Is(err, ErrConflict) {
					c.counts.conflicts.Add(1)
				}
				return 0, fmt.Errorf("append to %s behind %d: %w", filter, last, err)
			}
		}
		if !IsTransient(err) || !delay.wait(ctx) {
			return 0, fmt.Errorf("append to %s behind %d: %w", filter, last, withContext(ctx, err))
		}
	}
}

// appendOnce makes one attempt and classifies its outcome.
func (c *Conn) appendOnce(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	var ack Ack
	var err error
	if len(msgs) == 1 {
		ack, err = c.publishOnce(ctx, msgs[0])
	} else {
		ack, err = c.publishBatch(ctx, msgs)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeWrongLastSeq:
			return 0, fmt.Errorf("%w: %w", ErrConflict, err)
		case codeWrongLastSeqBusy, codeBatchIncomplete, codeBatchInflight:
			return 0, Retry(0, err) // nothing is stored, and it will pass
		case codeBatchDuplicate:
			return 0, fmt.Errorf("%w: %w", ErrDuplicate, err)
		}
	}
	if err != nil {
		return 0, err
	}
	if ack.Duplicate {
		return 0, fmt.Errorf("%w: it has sequence %d", ErrDuplicate, ack.Seq)
	}
	return ack.Seq, nil
}

// publishBatch stores several messages as one. Nothing is visible before the
// last of them commits; a batch that stays unfinished is dropped by the server.
func (c *Conn) publishBatch(ctx context.Context, msgs []*nats.Msg) (Ack, error) {
	id := nuid.Next()
	for i, m := range msgs {
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSeq, strconv.Itoa(i+1))
	}
	final := len(msgs) - 1
	msgs[final].Header.Set(headerBatchCommit, "1")
	// The first one is acknowledged when the server has opened the batch: its
	// refusal says why, that of a later one only that the batch is unknown.
	first, err := c.roundTrip(ctx, msgs[0], ackTimeout)
	if err != nil {
		return Ack{}, err
	}
	if len(first.Data) > 0 {
		if _, err := parseAck(first.Data); err != nil {
			return Ack{}, err
		}
	}
	for _, m := range msgs[1:final] {
		if err := c.nc.PublishMsg(m); err != nil {
			return Ack{}, classify(err, nil)
		}
	}
	reply, err := c.roundTrip(ctx, msgs[final], ackTimeout)
	if err != nil {
		return Ack{}, err
	}
	return parseAck(reply.Data)
}

// ownFacts looks whether the facts that follow last on filter are exactly
// msgs. It returns the sequence of the last of them, 0 when they are not, and
// whether any fact follows.
func (c *Conn) ownFacts(ctx context.Context, filter string, last uint64, msgs []*nats.Msg) (own uint64, follows bool, err error) {
	gctx, done := c.api(ctx)
	defer done()
	s, err := c.stream(gctx, StreamFacts)
	if err != nil {
		return 0, false, classify(err, context.Cause(gctx))
	}
	for _, m := range msgs {
		raw, err := s.GetMsg(gctx, last+1, jetstream.WithGetMsgSubject(filter))
		if isNoMessage(err) {
			return 0, follows, nil
		}
		if err != nil {
			return 0, false, classify(err, context.Cause(gctx))
		}
		follows = true
		if raw.Subject != m.Subject || !bytes.Equal(raw.Data, m.Data) {
			return 0, true, nil
		}
		last = raw.Sequence
	}
	return last, true, nil
}
