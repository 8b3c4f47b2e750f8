package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

// bucketOwners is the key/value bucket of Owners.
const bucketOwners = "OMF_OWNERS"

// Owners says who of several instances looks after a thing (a job, a legacy
// node), for a limited time. It keeps work from being done twice; it does not
// protect the truth: around an expiry two may believe that they own a key for
// a moment, and only Append's expected sequence decides.
type Owners struct {
	c  *Conn
	kv jetstream.KeyValue
}

// ownersTimeout is how long Owners tries.
const ownersTimeout = 30 * time.Second

// Owners opens the bucket and creates it if there is none. ttl is how long an
// ownership lasts without being renewed, at least a second. For half a minute
// it waits for a cluster that has no leader, or that several ask for the
// bucket in one moment: it does not answer all of them.
func (c *Conn) Owners(ctx context.Context, ttl time.Duration) (*Owners, error) {
	ctx, cancel := context.WithTimeout(ctx, ownersTimeout)
	defer cancel()
	patience := firstEnsure
	var kv jetstream.KeyValue
	for delay := newDelays(50*time.Millisecond, time.Second); ; patience = min(2*patience, apiTimeout) {
		var err error
		if kv, err = c.ownersBucket(ctx, ttl, patience); err == nil {
			break
		}
		if !IsTransient(err) || !delay.wait(ctx) {
			return nil, fmt.Errorf("bucket %s: %w", bucketOwners, withContext(ctx, err))
		}
	}
	return &Owners{c: c, kv: kv}, nil
}

func (c *Conn) ownersBucket(ctx context.Context, ttl, patience time.Duration) (jetstream.KeyValue, error) {
	gctx, done := c.api(ctx)
	defer done()
	tctx, cancel := context.WithTimeout(gctx, patience)
	defer cancel()
	replicas := 1
	s, err := c.stream(tctx, StreamFacts)
	switch {
	case err == nil:
		replicas = s.CachedInfo().Config.Replicas
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, classify(err, context.Cause(gctx)) // not to guess how many copies there are
	}
	kv, err := c.js.CreateOrUpdateKeyValue(tctx, jetstream.KeyValueConfig{
		Bucket:      bucketOwners,
		Description: "which instance looks after what, until it expires",
		History:     1,
		TTL:         max(ttl, time.Second),
		Replicas:    replicas,
		Storage:     jetstream.MemoryStorage, // who owned what means nothing after a restart
	})
	return kv, classify(err, context.Cause(gctx))
}

// Acquire makes owner the owner of key, if nobody is or owner is already, and
// reports whether it is the owner now. The time begins anew.
func (o *Owners) Acquire(ctx context.Context, key, owner string) (bool, error) {
	gctx, done := o.c.api(ctx)
	defer done()
	_, err := o.kv.Create(gctx, events.Escape(key), []byte(owner))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return o.Renew(ctx, key, owner)
	}
	if err != nil {
		return false, fmt.Errorf("acquire %s: %w", key, classify(err, context.Cause(gctx)))
	}
	return true, nil
}

// Renew lets the time of an ownership begin anew. It reports false when owner
// does not own key any more.
func (o *Owners) Renew(ctx context.Context, key, owner string) (bool, error) {
	gctx, done := o.c.api(ctx)
	defer done()
	e, err := o.kv.Get(gctx, events.Escape(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("renew %s: %w", key, classify(err, context.Cause(gctx)))
	}
	if string(e.Value()) != owner {
		return false, nil
	}
	_, err = o.kv.Update(gctx, events.Escape(key), []byte(owner), e.Revision())
	if isWrongLastSeq(err) {
		return false, nil // taken, released or expired meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("renew %s: %w", key, classify(err, context.Cause(gctx)))
	}
	return true, nil
}

// Release gives key back if owner owns it.
func (o *Owners) Release(ctx context.Context, key, owner string) error {
	gctx, done := o.c.api(ctx)
	defer done()
	e, err := o.kv.Get(gctx, events.Escape(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err == nil {
		if string(e.Value()) != owner {
			return nil
		}
		err = o.kv.Delete(gctx, events.Escape(key), jetstream.LastRevision(e.Revision()))
	}
	if err != nil && !isWrongLastSeq(err) {
		return fmt.Errorf("release %s: %w", key, classify(err, context.Cause(gctx)))
	}
	return nil
}

// Holder returns who owns key, "" for nobody.
func (o *Owners) Holder(ctx context.Context, key string) (string, error) {
	gctx, done := o.c.api(ctx)
	defer done()
	e, err := o.kv.Get(gctx, events.Escape(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, classify(err, context.Cause(gctx)))
	}
	return string(e.Value()), nil
}

func isWrongLastSeq(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLastSeq || api.ErrorCode == codeWrongLastSeqBusy)
}
