package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pullFor       = 30 * time.Second // how long the server keeps a request open
	pullHeartbeat = 3 * time.Second  // how often it says that it still does
)

// errIdle is returned by puller.next when nothing came in the time given.
var errIdle = errors.New("nothing came")

// puller takes messages from a consumer, never more than were asked for. It
// exists beside that of the client library for two reasons: a stored message
// without payload that carries a "Status" header is taken there for word of
// the server, so that a hostile node could break the consumer of reports with
// one; and there a stop leaves what is on its way unanswered until AckWait.
type puller struct {
	c           *Conn
	sub         *nats.Subscription
	msgs        chan *nats.Msg // from the callback: NextMsg falls for a forged status as well
	stopped     chan struct{}  // closed by stop and drain's end
	ended       chan struct{}  // closed when the callback will not be called again
	inbox       string
	api         string
	serial      int    // of the request
	reply       string // where its messages come
	outstanding int    // messages that it may still bring
}

// pullRequest is what a consumer is asked (NATS ADR-13).
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
}

func (c *Conn) pull(stream, consumer string) (*puller, error) {
	p := &puller{
		c:       c,
		msgs:    make(chan *nats.Msg, 64),
		stopped: make(chan struct{}),
		ended:   make(chan struct{}),
		inbox:   c.nc.NewInbox(),
		api:     "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
	}
	sub, err := c.nc.Subscribe(p.inbox+".*", func(m *nats.Msg) {
		select {
		case p.msgs <- m:
		case <-p.stopped:
		}
	})
	if err != nil {
		return nil, classify(err, nil)
	}
	sub.SetClosedHandler(func(string) { close(p.ended) })
	p.sub = sub
	return p, nil
}

// ask requests up to n messages, if the last request is used up.
func (p *puller) ask(n int) error {
	if p.outstanding > 0 {
		return nil
	}
	data, err := json.Marshal(pullRequest{Batch: n, Expires: pullFor, Heartbeat: pullHeartbeat})
	if err != nil {
		return err
	}
	p.serial++
	p.reply = p.inbox + "." + strconv.Itoa(p.serial)
	p.outstanding = n
	if err := p.c.nc.PublishRequest(p.api, p.reply, data); err != nil {
		return classify(err, nil)
	}
	return nil
}

// next returns a message; nil when the request is used up without one;
// errIdle when none came for the given time (at most) while the server is
// well. Any other error says that the consumer is to be set up again.
func (p *puller) next(ctx context.Context, patience time.Duration) (*nats.Msg, error) {
	idle := time.NewTimer(patience)
	defer idle.Stop()
	const silence = 2*pullHeartbeat + time.Second
	alive := time.NewTimer(silence)
	defer alive.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-p.msgs:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-idle.C:
			return nil, errIdle
		case <-alive.C:
			return nil, fmt.Errorf("%w: the consumer is silent", ErrUnreachable)
		case <-p.ended:
			return nil, fmt.Errorf("%w: the subscription has ended", ErrUnreachable)
		}
		// The server speaks on the subject that was asked from; what is stored
		// keeps its own.
		if !p.fromServer(m) {
			p.outstanding--
			return m, nil
		}
		if m.Subject != p.reply {
			continue // about an earlier request
		}
		switch status := m.Header.Get("Status"); status {
		case "100":
			alive.Reset(silence)
		case "404", "408":
			p.outstanding = 0
			return nil, nil
		case "503":
			return nil, fmt.Errorf("%w: the consumer does not exist", ErrNoResponders)
		default:
			return nil, fmt.Errorf("consumer: %s %s", status, m.Header.Get("Description"))
		}
	}
}

func (p *puller) fromServer(m *nats.Msg) bool { return strings.HasPrefix(m.Subject, p.inbox+".") }

// stop ends the subscription at once.
func (p *puller) stop() {
	close(p.stopped)
	_ = p.sub.Unsubscribe() // fails only on a closed connection
}

// drain ends the subscription and hands what is on its way to fn.
func (p *puller) drain(fn func(*nats.Msg)) {
	defer close(p.stopped)
	hand := func(m *nats.Msg) {
		if !p.fromServer(m) {
			fn(m)
		}
	}
	if err := p.sub.Drain(); err != nil {
		_ = p.sub.Unsubscribe()
		return
	}
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	for {
		select {
		case m := <-p.msgs:
			hand(m)
		case <-timeout.C:
			return
		case <-p.ended:
			for {
				select {
				case m := <-p.msgs:
					hand(m)
				default:
					return
				}
			}
		}
	}
}
