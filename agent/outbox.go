package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"loadnode/bus"
)

// Limits of the outbox.
const (
	// outboxLimit is how many undelivered reports an agent takes new work
	// with. Each load makes two, so this many mean that none is delivered.
	outboxLimit = 64
	// outboxTry is how long one publication may wait for its acknowledgement.
	outboxTry = 10 * time.Second
	// outboxPause and outboxPauseMax are the times between tries.
	outboxPause    = 100 * time.Millisecond
	outboxPauseMax = 5 * time.Second
)

// publisher is where reports go.
type publisher interface {
	Publish(ctx context.Context, subject string, ev event.Event) (bus.Ack, error)
}

type report struct {
	subject string
	event   event.Event
}

// outbox keeps reports in order until the stream acknowledged each: the next
// is sent when the one before it is stored, so the order in the stream is the
// order of adding, whatever happens to connections and servers meanwhile. A
// report that is tried again has the same event id, so the stream keeps it
// once.
type outbox struct {
	to    publisher
	clock Clock
	log   *slog.Logger

	mu    sync.Mutex
	queue []report
	added chan struct{} // one token: the queue may have grown
	empty chan struct{} // closed while the queue is empty
}

func newOutbox(to publisher, clock Clock, log *slog.Logger) *outbox {
	o := &outbox{to: to, clock: clock, log: log, added: make(chan struct{}, 1), empty: make(chan struct{})}
	close(o.empty)
	return o
}

// add takes a report. It never blocks.
func (o *outbox) add(r report) {
	o.mu.Lock()
	if len(o.queue) == 0 {
		o.empty = make(chan struct{})
	}
	o.queue = append(o.queue, r)
	o.mu.Unlock()
	select {
	case o.added <- struct{}{}:
	default:
	}
}

// len is the number of reports not yet acknowledged.
func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// drained returns a channel that is closed when nothing is waiting.
func (o *outbox) drained() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.empty
}

// run delivers until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		r, ok := o.head()
		if !ok {
			select {
			case <-o.added:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !o.deliver(ctx, r) {
			return
		}
		o.pop()
	}
}

func (o *outbox) head() (report, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return report{}, false
	}
	return o.queue[0], true
}

func (o *outbox) pop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0] = report{}
	o.queue = o.queue[1:]
	if len(o.queue) == 0 {
		o.queue = nil
		close(o.empty)
	}
}

// deliver tries until the stream has the report, or has refused it for good;
// false means that ctx ended.
func (o *outbox) deliver(ctx context.Context, r report) bool {
	pause := outboxPause
	for {
		try, cancel := context.WithTimeout(ctx, outboxTry)
		ack, err := o.to.Publish(try, r.subject, r.event)
		cancel()
		if err == nil {
			o.log.Debug("report delivered", "subject", r.subject, "event_id", r.event.ID(), "seq", ack.Seq)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !bus.IsTransient(err) && !errors.Is(err, bus.ErrDenied) {
			// It will never be taken, and would hold up those behind it. What is
			// denied today may be allowed once the server has its credentials.
			o.log.Error("report cannot be delivered and is dropped", "subject", r.subject, "event_id", r.event.ID(), "err", err)
			return true
		}
		o.log.Warn("report is not delivered yet, trying again", "subject", r.subject, "event_id", r.event.ID(), "err", err)
		select {
		case <-o.clock.After(pause):
		case <-ctx.Done():
			return false
		}
		pause = min(2*pause, outboxPauseMax)
	}
}
