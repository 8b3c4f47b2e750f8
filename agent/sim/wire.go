package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cloudevents/sdk-go/v2/event"

	"loadnode/bus"
	"loadnode/events"
)

// wire is the connection of an agent, of which the simulator reads what it
// needs and where a liar changes what it says.
type wire struct {
	*bus.Conn
	boot *boot
}

// Serve listens in on load commands: how much a load writes decides when a
// node dies in it.
func (w *wire) Serve(ctx context.Context, cfg bus.ServiceConfig) (*bus.Service, error) {
	for i, e := range cfg.Endpoints {
		if e.Name != string(events.VerbLoad) {
			continue
		}
		handle := e.Handle
		cfg.Endpoints[i].Handle = func(ctx context.Context, r bus.Request) (any, error) {
			var cmd events.LoadCommand
			if json.Unmarshal(r.Data, &cmd) == nil {
				w.boot.data.Store(cmd.Image.DataBytes)
			}
			return handle(ctx, r)
		}
	}
	return w.Conn.Serve(ctx, cfg)
}

// Publish sends a report, or what a liar makes of it.
func (w *wire) Publish(ctx context.Context, subject string, ev event.Event) (bus.Ack, error) {
	if f, ok := w.boot.node.faults[Lie]; ok && ev.Type() == events.KindLoadDone.Type() {
		lie, err := distort(ev, f.What)
		if err != nil {
			return bus.Ack{}, err
		}
		ev = lie
	}
	return w.Conn.Publish(ctx, subject, ev)
}

func distort(ev event.Event, what string) (event.Event, error) {
	d, err := events.Decode(ev)
	if err != nil {
		return ev, err
	}
	done := d.(events.LoadDone)
	switch what {
	case LieDigest:
		other := sha256.Sum256([]byte(done.Digest))
		done.Digest = hex.EncodeToString(other[:])
	case LieCount:
		done.Chunks--
	}
	return events.New(events.Meta{ID: ev.ID(), Source: ev.Source(), Subject: ev.Subject(), Time: ev.Time(),
		Causation: text(ev, events.ExtCausation)}, done)
}

func text(ev event.Event, name string) string {
	s, _ := ev.Extensions()[name].(string)
	return s
}
