package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

// The streams.
const (
	StreamRequests  = "OMF_REQ"   // requests, one handler takes each
	StreamReports   = "OMF_RPT"   // reports of nodes, the last ones of each kind
	StreamFacts     = "OMF_EVT"   // the truth
	StreamTelemetry = "OMF_TLM"   // progress, may be lost
	StreamTimers    = "OMF_TIMER" // schedules, and the wake-ups until they are taken
	StreamSetAside  = "OMF_DLQ"   // what nobody could handle, and why
)

// Streams lists the names of all streams.
func Streams() []string {
	return []string{StreamRequests, StreamReports, StreamFacts, StreamTelemetry, StreamTimers, StreamSetAside}
}

// dedupWindow is how long the server remembers the message ids of facts and
// requests. It covers any retry of Publish; Append does not rely on it.
const dedupWindow = 10 * time.Minute

// StreamOptions says how the streams are kept.
type StreamOptions struct {
	Replicas   int           // 0: what a stream has already; of a new one 3 on a cluster, 1 on a single server
	RequestAge time.Duration // how long an untaken request is kept; 0: 24 h
	Memory     bool          // in memory, for simulations that need no disk
}

// EnsureStreams creates the streams or brings them to the wanted
// configuration. One role owns them and calls this at its start (the server's
// process, or the first handler on an external cluster); all others call
// AwaitStreams. It is harmless to repeat. While ctx lives
// it waits for a cluster that is coming up.
func (c *Conn) EnsureStreams(ctx context.Context, o StreamOptions) error {
	for _, cfg := range streamConfigs(o) {
		// A cluster does not answer all of those who make the same stream in
		// one moment; the next try finds it made. Hence the short first ones.
		patience := firstEnsure
		for delay := newDelays(50*time.Millisecond, time.Second); ; patience = min(2*patience, apiTimeout) {
			gctx, done := c.api(ctx)
			tctx, cancel := context.WithTimeout(gctx, patience)
			err := c.ensureStream(tctx, cfg, o)
			err = classify(err, context.Cause(gctx))
			cancel()
			done()
			if err == nil {
				break
			}
			if !IsTransient(err) || !delay.wait(ctx) {
				return fmt.Errorf("stream %s: %w", cfg.Name, withContext(ctx, err))
			}
			c.log.Warn("stream not ready", "stream", cfg.Name, "err", err)
		}
	}
	return nil
}

// firstEnsure is how long the first try to make a stream may take.
const firstEnsure = 500 * time.Millisecond

// clusterReplicas is how many copies a cluster keeps of a new stream: the
// loss of one server loses nothing.
const clusterReplicas = 3

// ensureStream makes one stream. Where nobody says how many copies it has, an
// existing one keeps its own: a handler that was started without the number
// must not take two of three copies away.
func (c *Conn) ensureStream(ctx context.Context, cfg jetstream.StreamConfig, o StreamOptions) error {
	if o.Replicas == 0 {
		s, err := c.js.Stream(ctx, cfg.Name)
		switch {
		case err == nil:
			o.Replicas = max(s.CachedInfo().Config.Replicas, 1)
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return err
		case c.nc.ConnectedClusterName() != "":
			o.Replicas = clusterReplicas
		default:
			o.Replicas = 1
		}
		for _, sized := range streamConfigs(o) {
			if sized.Name == cfg.Name {
				cfg = sized
			}
		}
	}
	_, err := c.js.CreateOrUpdateStream(ctx, cfg)
	var api *jetstream.APIError
	if cfg.Name == StreamTelemetry && errors.As(err, &api) && api.ErrorCode == codeStreamConfig {
		// How telemetry is stored depends on the number of copies, and servers
		// do not change that of a stream. Telemetry may be lost.
		c.log.Warn("stream is made anew", "stream", cfg.Name, "err", err)
		if err = c.js.DeleteStream(ctx, cfg.Name); err == nil || errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = c.js.CreateOrUpdateStream(ctx, cfg)
		}
	}
	return err
}

func streamConfigs(o StreamOptions) []jetstream.StreamConfig {
	o.Replicas = max(o.Replicas, 1)
	if o.RequestAge <= 0 {
		o.RequestAge = 24 * time.Hour
	}
	storage, persist := jetstream.FileStorage, jetstream.DefaultPersistMode
	if o.Memory {
		storage = jetstream.MemoryStorage
	}
	telemetry := storage
	switch {
	case o.Replicas > 1:
		telemetry = jetstream.MemoryStorage // asynchronous persistence is for one server only
	case storage == jetstream.FileStorage:
		persist = jetstream.AsyncPersistMode
	}
	configs := []jetstream.StreamConfig{
		{
			Name:        StreamRequests,
			Description: "requests, each taken by one handler",
			Subjects:    []string{events.AllRequests},
			Retention:   jetstream.WorkQueuePolicy,
			Discard:     jetstream.DiscardNew, // a full queue says so to the requester
			MaxMsgs:     100_000,
			MaxAge:      o.RequestAge,
			MaxMsgSize:  MaxEventBytes,
			Storage:     storage,
			Duplicates:  dedupWindow,
		},
		{
			Name:        StreamReports,
			Description: "reports of nodes about themselves; never deduplicated by message id, which a node could forge",
			Subjects:    []string{events.AllReports},
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardOld,
			// Bounded for each subject, so that a node which floods pushes out
			// nothing but its own reports.
			MaxMsgsPerSubject: 16,
			MaxMsgSize:        64 << 10,
			MaxAge:            30 * 24 * time.Hour,
			Storage:           storage,
			Duplicates:        100 * time.Millisecond, // the shortest that servers accept
		},
		{
			Name:               StreamFacts,
			Description:        "facts: the truth about jobs, leases and images",
			Subjects:           []string{events.AllFacts},
			Retention:          jetstream.LimitsPolicy,
			Discard:            jetstream.DiscardNew, // history is never pushed out
			MaxMsgSize:         MaxEventBytes,
			Storage:            storage,
			Duplicates:         dedupWindow,
			DenyDelete:         true,  // purging whole jobs stays possible: archiving needs it
			AllowDirect:        false, // reads come from the leader: Append looks for its own facts
			AllowAtomicPublish: true,
		},
		{
			Name:              StreamTelemetry,
			Description:       "progress, the last few of each node",
			Subjects:          []string{events.AllTelemetry},
			Retention:         jetstream.LimitsPolicy,
			Discard:           jetstream.DiscardOld,
			MaxMsgsPerSubject: 4,
			MaxMsgs:           200_000,
			MaxBytes:          128 << 20,
			MaxMsgSize:        16 << 10,
			MaxAge:            6 * time.Hour,
			Storage:           telemetry,
			PersistMode:       persist,
			Duplicates:        100 * time.Millisecond,
		},
		{
			Name:        StreamTimers,
			Description: "schedules that wake jobs, and the wake-ups until a handler has taken them",
			Subjects:    []string{events.AllTimers, events.AllDue},
			// A work queue: a wake-up goes when it is acknowledged; a schedule
			// has no consumer and stays until it fires or is purged.
			Retention:         jetstream.WorkQueuePolicy,
			Discard:           jetstream.DiscardOld,
			MaxMsgSize:        16 << 10,
			Storage:           storage,
			AllowMsgSchedules: true,
			AllowRollup:       true,
		},
		{
			Name:        StreamSetAside,
			Description: "messages set aside with the reason, and advisories about exhausted and terminated ones",
			Subjects: []string{
				events.AllSetAside,
				"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
				"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
			},
			Retention:  jetstream.LimitsPolicy,
			Discard:    jetstream.DiscardOld,
			MaxMsgs:    100_000,
			MaxBytes:   128 << 20,
			MaxAge:     30 * 24 * time.Hour,
			Storage:    storage,
			Duplicates: dedupWindow,
		},
	}
	for i := range configs {
		configs[i].Replicas = o.Replicas
	}
	return configs
}

// AwaitStreams blocks until every stream exists or ctx ends.
func (c *Conn) AwaitStreams(ctx context.Context) error {
	for _, name := range Streams() {
		for delay := newDelays(50*time.Millisecond, time.Second); ; {
			gctx, done := c.api(ctx)
			_, err := c.js.Stream(gctx, name)
			err = classify(err, context.Cause(gctx))
			done()
			if err == nil {
				break
			}
			if errors.Is(err, ErrDenied) || errors.Is(err, nats.ErrConnectionClosed) {
				return fmt.Errorf("await stream %s: %w", name, err)
			}
			if !delay.wait(ctx) {
				return fmt.Errorf("await stream %s: %w: %w", name, err, ctx.Err())
			}
		}
	}
	return nil
}

// stream returns the handle of a stream, which is asked for once.
func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	c.mu.Lock()
	s := c.streams[name]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.streams[name] = s
	c.mu.Unlock()
	return s, nil
}

// Last returns the newest message of a stream that matches filter, or
// ErrNoMessage.
func (c *Conn) Last(ctx context.Context, stream, filter string) (*Message, error) {
	gctx, done := c.api(ctx)
	defer done()
	s, err := c.stream(gctx, stream)
	if err == nil {
		var raw *jetstream.RawStreamMsg
		if raw, err = s.GetLastMsgForSubject(gctx, filter); err == nil {
			return storedMessage(stream, raw), nil
		}
	}
	if isNoMessage(err) {
		return nil, fmt.Errorf("%s in %s: %w", filter, stream, ErrNoMessage)
	}
	return nil, fmt.Errorf("last of %s in %s: %w", filter, stream, classify(err, context.Cause(gctx)))
}

// Get returns the message of a stream with a sequence, or ErrNoMessage.
func (c *Conn) Get(ctx context.Context, stream string, seq uint64) (*Message, error) {
	gctx, done := c.api(ctx)
	defer done()
	s, err := c.stream(gctx, stream)
	if err == nil {
		var raw *jetstream.RawStreamMsg
		if raw, err = s.GetMsg(gctx, seq); err == nil {
			return storedMessage(stream, raw), nil
		}
	}
	if isNoMessage(err) {
		return nil, fmt.Errorf("message %d of %s: %w", seq, stream, ErrNoMessage)
	}
	return nil, fmt.Errorf("message %d of %s: %w", seq, stream, classify(err, context.Cause(gctx)))
}

// Purge removes the stored messages of a stream that match filter. It is for
// archiving what nobody folds any more; nothing else ever removes facts.
func (c *Conn) Purge(ctx context.Context, stream, filter string) error {
	gctx, done := c.api(ctx)
	defer done()
	s, err := c.stream(gctx, stream)
	if err == nil {
		err = s.Purge(gctx, jetstream.WithPurgeSubject(filter))
	}
	if err != nil {
		return fmt.Errorf("purge %s of %s: %w", filter, stream, classify(err, context.Cause(gctx)))
	}
	return nil
}
