package callout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"loadnode/bus"
	"loadnode/bus/credential"
)

const (
	subject = "$SYS.REQ.USER.AUTH"
	// queue is shared by all who answer: each question is answered once.
	queue = "omf-auth"
	// Account is where everybody who is let in belongs (deploy/nats/auth.conf).
	Account = "OMF"
	// recheck is how long a connection with the credential of a boot lasts
	// before the server asks again: what was revoked while this process was
	// away ends by then.
	recheck = 15 * time.Minute
	// workers is how many questions are answered side by side.
	workers = 64
	// maxRequest bounds a question, in bytes.
	maxRequest = 64 << 10
	// maxPerRequest and responseTTL are those of the embedded server.
	maxPerRequest = 4
	responseTTL   = 5 * time.Minute
	// kickTime bounds how long a server may take to close a connection.
	kickTime = 2 * time.Second
	// startTime bounds how long the bus may take to be there.
	startTime = time.Minute
)

// Config is what the service needs.
type Config struct {
	Auth      *nats.Conn // as the user auth of auth.conf
	System    *nats.Conn // as the user sys
	Authority *credential.Authority
	Key       nkeys.KeyPair // account key, whose public part is the issuer in auth.conf
	Logger    *slog.Logger  // nil: silent
}

// Service answers the servers of a cluster.
type Service struct {
	cfg Config
	log *slog.Logger
	sub *nats.Subscription

	work  sync.WaitGroup
	slots chan struct{}
	live  credential.Live[place]
}

// place is a connection: the server's id and its number there.
type place struct {
	server string
	id     uint64
}

// Start answers until Stop is called. It returns when the server has taken the
// subscription.
func Start(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: cfg.Logger, slots: make(chan struct{}, workers)}
	sub, err := cfg.Auth.QueueSubscribe(subject, queue, func(m *nats.Msg) {
		s.slots <- struct{}{}
		s.work.Go(func() {
			defer func() { <-s.slots }()
			s.answer(m)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("auth callout: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := cfg.Auth.FlushWithContext(ctx); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("auth callout: %w", err)
	}
	s.sub = sub
	return s, nil
}

// Stop ends it and waits for what is being answered.
func (s *Service) Stop() {
	_ = s.sub.Unsubscribe() // a closed connection has none
	s.work.Wait()
}

func (s *Service) answer(m *nats.Msg) {
	if len(m.Data) > maxRequest {
		s.log.Warn("question about a connection is too large", "bytes", len(m.Data))
		return
	}
	q, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		s.log.Warn("question about a connection not understood", "err", err)
		return
	}
	a := jwt.NewAuthorizationResponseClaims(q.UserNkey)
	a.Audience = q.Server.ID
	token, err := s.let(q)
	if err != nil {
		s.log.Warn("connection refused", "addr", q.ClientInformation.Host, "user", fmt.Sprintf("%.300q", q.ConnectOptions.Username), "err", err)
		a.Error = "not authorized" // why is told to the log only
	}
	a.Jwt = token
	text, err := a.Encode(s.cfg.Key)
	if err == nil {
		err = m.Respond([]byte(text))
	}
	if err != nil {
		s.log.Warn("question about a connection not answered", "err", err)
	}
}

// errAnonymous is the refusal of a connection without a credential.
var errAnonymous = errors.New("no credential")

// let decides about one connection and returns what it may do, signed.
func (s *Service) let(q *jwt.AuthorizationRequestClaims) (string, error) {
	o := q.ConnectOptions
	if o.Username == "" {
		return "", errAnonymous
	}
	from, err := netip.ParseAddr(q.ClientInformation.Host)
	if err != nil {
		return "", fmt.Errorf("address %.100q: %w", q.ClientInformation.Host, err)
	}
	u, err := s.cfg.Authority.Check(context.Background(), o.Username, o.Password, from)
	if err != nil {
		return "", err
	}
	// What is forgotten ended at its recheck, or does so.
	if _, ok := s.live.Admit(u, place{q.Server.ID, q.ClientInformation.ID}); !ok {
		return "", credential.ErrRevoked
	}
	claims := jwt.NewUserClaims(q.UserNkey)
	claims.Name, claims.Audience = u.Name(), Account
	claims.Permissions = permissions(u.Permissions())
	if u.Boot != "" {
		claims.Expires = time.Now().Add(recheck).Unix()
	}
	return claims.Encode(s.cfg.Key)
}

// permissions are those of package bus in the words of a JWT.
func permissions(p bus.Permissions) jwt.Permissions {
	var out jwt.Permissions
	out.Pub.Allow, out.Sub.Allow = p.Publish, p.Subscribe
	if len(p.Publish) == 0 {
		out.Pub.Deny = jwt.StringList{">"}
	}
	if p.Responses {
		out.Resp = &jwt.ResponsePermission{MaxMsgs: maxPerRequest, Expires: responseTTL}
	}
	return out
}

// Revoked closes the connections that use a credential: for
// credential.NewKeeper.
func (s *Service) Revoked(u credential.User) {
	for _, p := range s.live.Revoke(u) {
		data, err := json.Marshal(struct {
			CID uint64 `json:"cid"`
		}{p.id})
		if err == nil {
			// Servers act on it only if they can answer.
			_, err = s.cfg.System.Request("$SYS.REQ.SERVER."+p.server+".KICK", data, kickTime)
		}
		if err != nil {
			s.log.Warn("connection of a revoked credential not closed, it ends within "+recheck.String(), "user", u.Name(), "err", err)
		}
	}
}
