package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"loadnode/bus"
	"loadnode/events"
)

const (
	bucket = "OMF_CREDENTIALS"
	// kept is how long the record of a boot outlives its last change: longer
	// than any job.
	kept = 30 * 24 * time.Hour
	// firstUse is how long after its delivery a credential may be used for the
	// first time: an imaging system connects within seconds.
	firstUse = 2 * time.Minute
	// idLength is the length of a record's id, hexadecimal digits.
	idLength = 32
	// races is how often a record is read again that changed meanwhile.
	races = 8
)

// Grant is the record of the credential of one boot.
type Grant struct {
	Testbed  string     `json:"testbed"`
	Node     string     `json:"node"`
	Job      string     `json:"job"`
	Attempt  int        `json:"attempt"` // that the reboot was requested for
	Effect   string     `json:"effect"`  // id of the reboot
	Seq      uint64     `json:"seq"`     // of the fact that requested it
	Address  netip.Addr `json:"address"` // that it was delivered to
	MAC      string     `json:"mac,omitempty"`
	Digest   string     `json:"digest"` // SHA-256 of the password
	Issued   time.Time  `json:"issued"`
	Expires  time.Time  `json:"expires"` // unless used before
	Used     time.Time  `json:"used,omitzero"`
	Revoked  time.Time  `json:"revoked,omitzero"`
	Why      string     `json:"why,omitempty"` // revoked
	revision uint64
}

// ID is the record's id. It follows from the reboot, so that there is one for
// each.
func (g Grant) ID() string {
	sum := sha256.Sum256([]byte(g.Effect))
	return hex.EncodeToString(sum[:])[:idLength]
}

// User is who connects with it.
func (g Grant) User() User {
	return User{Kind: events.CredentialNode, Testbed: g.Testbed, Node: g.Node, Boot: g.ID()}
}

func (g Grant) key() string { return keyOf(g.User()) }

func keyOf(u User) string {
	return events.Escape(u.Testbed) + "." + events.Escape(u.Node) + "." + u.Boot
}

// errIssued is returned by create for a boot whose credential was delivered.
var errIssued = errors.New("the credential of this boot was delivered before")

// Grants are the records of boots, on the bus.
type Grants struct {
	kv  jetstream.KeyValue
	now func() time.Time
}

// OpenGrants opens the bucket and creates it if there is none. conn needs the
// rights of a service. While ctx lives it waits for a cluster without a leader.
func OpenGrants(ctx context.Context, conn *bus.Conn) (*Grants, error) {
	for {
		kv, err := openBucket(ctx, conn)
		if err == nil {
			return &Grants{kv: kv, now: time.Now}, nil
		}
		if !bus.IsTransient(err) {
			return nil, fmt.Errorf("bucket %s: %w", bucket, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("bucket %s: %w: %w", bucket, err, ctx.Err())
		}
	}
}

func openBucket(ctx context.Context, conn *bus.Conn) (jetstream.KeyValue, error) {
	// Short: of several who ask in one moment a cluster answers one.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	js := conn.JetStream()
	kv, err := js.KeyValue(ctx, bucket)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	s, err := js.Stream(ctx, bus.StreamFacts)
	if err != nil {
		return nil, err
	}
	return js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Description: "credentials of boots: delivered once, used, revoked", History: 1, TTL: kept,
		Replicas: s.CachedInfo().Config.Replicas, Storage: jetstream.FileStorage,
	})
}

// create delivers: it makes the record and the credential, or says errIssued
// with the record that there is.
func (s *Grants) create(ctx context.Context, g Grant) (events.Credential, Grant, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	password := hex.EncodeToString(secret)
	g.Digest, g.Issued = digest(password), s.now()
	g.Expires = g.Issued.Add(firstUse)
	data, err := json.Marshal(g)
	if err != nil {
		return events.Credential{}, g, err
	}
	_, err = s.kv.Create(ctx, g.key(), data)
	if errors.Is(err, jetstream.ErrKeyExists) {
		if before, err := s.get(ctx, g.key()); err == nil {
			g = before
		}
		return events.Credential{}, g, errIssued
	}
	if err != nil {
		return events.Credential{}, g, err
	}
	u := g.User()
	return events.Credential{User: u.Name(), Password: password, Inbox: u.Inbox()}, g, nil
}

func digest(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func (s *Grants) get(ctx context.Context, key string) (Grant, error) {
	e, err := s.kv.Get(ctx, key)
	if err != nil {
		return Grant{}, err
	}
	return decode(e)
}

func decode(e jetstream.KeyValueEntry) (Grant, error) {
	var g Grant
	if err := json.Unmarshal(e.Value(), &g); err != nil {
		return g, fmt.Errorf("record %s: %w", e.Key(), err)
	}
	g.revision = e.Revision()
	return g, nil
}

// change applies f to a record until nobody else changed it meanwhile. f
// reports whether there is something to store.
func (s *Grants) change(ctx context.Context, key string, f func(*Grant) (bool, error)) error {
	var err error
	for range races {
		var g Grant
		if g, err = s.get(ctx, key); err != nil {
			return err
		}
		store, err := f(&g)
		if err != nil || !store {
			return err
		}
		data, err := json.Marshal(g)
		if err != nil {
			return err
		}
		if _, err = s.kv.Update(ctx, key, data, g.revision); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

// settled is change for a record that may be so new that the replica which is
// asked does not have it yet.
func (s *Grants) settled(ctx context.Context, key string, f func(*Grant) (bool, error)) error {
	for try := 1; ; try++ {
		err := s.change(ctx, key, f)
		if !errors.Is(err, jetstream.ErrKeyNotFound) || try == races {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// use checks a password against its record, and notes the first use.
func (s *Grants) use(ctx context.Context, u User, password string, from netip.Addr) error {
	err := s.settled(ctx, keyOf(u), func(g *Grant) (bool, error) {
		switch {
		case g.User() != u || !hmac.Equal([]byte(digest(password)), []byte(g.Digest)):
			return false, ErrWrong
		case from.IsValid() && from.Unmap() != g.Address:
			return false, fmt.Errorf("%w: it was delivered to %s", ErrWrong, g.Address)
		case !g.Revoked.IsZero():
			return false, ErrRevoked
		case !g.Used.IsZero():
			return false, nil
		case s.now().After(g.Expires):
			return false, ErrExpired
		}
		g.Used = s.now()
		return true, nil
	})
	switch {
	case err == nil, errors.Is(err, ErrWrong), errors.Is(err, ErrRevoked), errors.Is(err, ErrExpired):
		return err
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return ErrWrong
	}
	return fmt.Errorf("%w: %w", ErrNotReady, err)
}

// revoke ends a credential for good. It is harmless to repeat.
func (s *Grants) revoke(ctx context.Context, key, why string) error {
	err := s.change(ctx, key, func(g *Grant) (bool, error) {
		if !g.Revoked.IsZero() {
			return false, nil
		}
		g.Revoked, g.Why = s.now(), why
		return true, nil
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	return err
}
