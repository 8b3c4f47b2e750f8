package credential

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"loadnode/bus"
	"loadnode/events"
)

// Keeper revokes the credentials of boots that are over: when their job has
// ended, or the node is told to boot again. It has no state of its own: it
// reads the records and the facts from their beginning, so that several may run
// and none need to.
type Keeper struct {
	conn    *bus.Conn
	grants  *Grants
	revoked func(User)
	log     *slog.Logger

	mu       sync.Mutex
	open     map[string]Grant     // not revoked, by key
	finished map[string]bool      // testbed/job
	latest   map[[2]string]uint64 // sequence of the last reboot, by testbed and node
}

// NewKeeper makes one. revoked is called, not side by side, for each credential
// that is found revoked, whoever did it: once for each at the start, and as it
// happens from there on; its connections are to be closed. It may be nil.
func NewKeeper(conn *bus.Conn, grants *Grants, revoked func(User), log *slog.Logger) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if revoked == nil {
		revoked = func(User) {}
	}
	return &Keeper{
		conn: conn, grants: grants, revoked: revoked, log: log,
		open: make(map[string]Grant), finished: make(map[string]bool), latest: make(map[[2]string]uint64),
	}
}

// again is how long after a failure something is tried again.
const again = time.Second

// Run works until ctx ends, which is no error.
func (k *Keeper) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	group.Go(func() error { return k.watchRecords(ctx, poke) })
	group.Go(func() error {
		err := k.conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{events.AllReboots, events.AllFinished}}, func(m bus.Message) error {
			k.fact(m)
			poke()
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("credentials: %w", err)
	})
	group.Go(func() error {
		for {
			select {
			case <-wake:
			case <-ctx.Done():
				return nil
			}
			if !k.sweep(ctx) {
				time.AfterFunc(again, poke)
			}
		}
	})
	return group.Wait()
}

// fact notes what ends credentials.
func (k *Keeper) fact(m bus.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch a := m.Address; a.Kind {
	case events.KindRebootRequested:
		k.latest[[2]string{a.Testbed, a.Node}] = m.Seq
	case events.KindJobFinished:
		k.finished[a.Testbed+"/"+a.Job] = true
	}
}

// watchRecords follows the records.
func (k *Keeper) watchRecords(ctx context.Context, poke func()) error {
	for ctx.Err() == nil {
		w, err := k.grants.kv.WatchAll(ctx)
		if err != nil {
			k.log.Debug("records of credentials not watched", "err", err)
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
			continue
		}
		k.follow(ctx, w, poke)
		_ = w.Stop()
		for range w.Updates() { // what was under way, until it is closed
		}
	}
	return nil
}

func (k *Keeper) follow(ctx context.Context, w jetstream.KeyWatcher, poke func()) {
	for {
		var e jetstream.KeyValueEntry
		var ok bool
		select {
		case e, ok = <-w.Updates():
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil, !ok:
			return
		case e != nil: // nil: that was all there was
			k.record(e)
			poke()
		}
	}
}

// record notes what a record says.
func (k *Keeper) record(e jetstream.KeyValueEntry) {
	k.mu.Lock()
	delete(k.open, e.Key())
	k.mu.Unlock()
	if e.Operation() != jetstream.KeyValuePut {
		return
	}
	g, err := decode(e)
	switch {
	case err != nil:
		k.log.Warn("record of a credential is damaged", "err", err)
	case !g.Revoked.IsZero():
		k.revoked(g.User())
	default:
		k.mu.Lock()
		k.open[e.Key()] = g
		k.mu.Unlock()
	}
}

// sweep revokes what is over. It reports whether nothing is left to do.
func (k *Keeper) sweep(ctx context.Context) bool {
	over := map[string]string{}
	k.mu.Lock()
	for key, g := range k.open {
		switch {
		case k.finished[g.Testbed+"/"+g.Job]:
			over[key] = "the job has ended"
		case k.latest[[2]string{g.Testbed, g.Node}] > g.Seq:
			over[key] = "the node was told to boot again"
		}
	}
	k.mu.Unlock()
	whole := true
	for key, why := range over {
		if err := k.grants.revoke(ctx, key, why); err != nil {
			k.log.Warn("credential not revoked yet", "key", key, "err", err)
			whole = false
			continue
		}
		k.log.Info("credential revoked", "key", key, "why", why)
		k.mu.Lock()
		delete(k.open, key)
		k.mu.Unlock()
	}
	return whole
}
