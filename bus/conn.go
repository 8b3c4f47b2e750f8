package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

const (
	defaultConnectTimeout = 5 * time.Second
	dialTimeout           = 2 * time.Second
	drainTimeout          = 5 * time.Second
	ackTimeout            = 5 * time.Second
	apiTimeout            = 5 * time.Second
)

// Config says how to connect. The zero value connects to nats.DefaultURL
// without a credential.
type Config struct {
	URLs       []string                   // nats://host:port; ignored with InProcess
	InProcess  nats.InProcessConnProvider // an embedded server
	Name       string                     // of the connection, for operators
	Credential *events.Credential         // nil: anonymous
	Logger     *slog.Logger               // nil: silent
	Timeout    time.Duration              // of the first connection; 0: 5 s
	Wait       bool                       // keep trying until the context ends: agents boot before their server
	OnState    func(connected bool)       // optional; called in order, must not block
	Options    []nats.Option              // further ones, for external clusters: TLS, credential files
}

// Conn is a connection to the bus. It reconnects for ever; its methods may be
// used from several goroutines.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *slog.Logger
	closed chan struct{}
	counts counters
	state  func(connected bool)

	mu     sync.Mutex
	up     chan struct{} // closed while connected, replaced at each loss
	guards map[*guard]struct{}
	// handles of streams, by name
	streams map[string]jetstream.Stream
}

// guard is something in flight that a denial or a lost connection ends.
type guard struct {
	match  func(subject string) bool
	cancel context.CancelCauseFunc
}

// Connect connects. Without Wait it tries for Timeout and returns an error
// that wraps ErrUnreachable; a refused credential is ErrDenied at once, with
// Wait as well; a server that cannot prove itself is ErrUntrusted, which Wait
// waits out: certificates are renewed, and clocks are set. The context limits the first connection only.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	c := &Conn{
		log:     cfg.Logger,
		up:      make(chan struct{}),
		guards:  make(map[*guard]struct{}),
		streams: make(map[string]jetstream.Stream),
		state:   cfg.OnState,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.state == nil {
		c.state = func(bool) {}
	}
	if !cfg.Wait {
		timeout := cfg.Timeout
		if timeout <= 0 {
			timeout = defaultConnectTimeout
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	url := strings.Join(cfg.URLs, ",")
	if url == "" {
		url = nats.DefaultURL
	}
	where := url
	if cfg.InProcess != nil {
		where = "the embedded server"
	}
	warned := false
	for delay := newDelays(100*time.Millisecond, 2*time.Second); ; {
		err := c.dial(ctx, url, cfg)
		if err == nil {
			break
		}
		err = classify(err, nil)
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrUntrusted) && !cfg.Wait {
			return nil, fmt.Errorf("connect to %s: %w", where, err)
		}
		if errors.Is(err, ErrUntrusted) && !warned {
			c.log.Warn("bus not connected yet", "url", where, "err", err)
			warned = true
		}
		if !delay.wait(ctx) {
			if !errors.Is(err, ErrUnreachable) {
				err = fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return nil, fmt.Errorf("connect to %s: %w", where, err)
		}
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to %s: %w", where, err)
	}
	c.js = js
	c.connected()
	return c, nil
}

// dial makes the connection. A connection that is lost while its first words
// are exchanged is closed for good instead of being made again, and may be
// handed out all the same: hence the round trip.
func (c *Conn) dial(ctx context.Context, url string, cfg Config) error {
	c.closed = make(chan struct{})
	nc, err := nats.Connect(url, c.options(cfg, c.closed)...)
	if err != nil {
		return err
	}
	fctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := nc.FlushWithContext(fctx); err != nil && nc.IsClosed() {
		return err
	}
	c.nc = nc
	return nil
}

func (c *Conn) options(cfg Config, closed chan<- struct{}) []nats.Option {
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(dialTimeout),
		nats.DrainTimeout(drainTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(), // a server with its old credentials may come back
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { c.asyncError(sub, err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.log.Info("bus connected again", "url", nc.ConnectedUrlRedacted())
			c.connected()
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			c.disconnected(nil)
			close(closed)
		}),
	}
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
	}
	if cr := cfg.Credential; cr != nil {
		opts = append(opts, nats.UserInfo(cr.User, cr.Password))
		if cr.Inbox != "" {
			opts = append(opts, nats.CustomInboxPrefix(cr.Inbox))
		}
		if cr.CA != "" && cfg.InProcess == nil {
			opts = append(opts, Trust(cr.CA))
		}
	}
	return append(opts, cfg.Options...)
}

// Trust has a connection encrypted, and the server prove itself with a
// certificate of this authority (PEM). A server that does not is not spoken to.
// Connect does this with the CA of a credential.
func Trust(ca string) nats.Option {
	return func(o *nats.Options) error {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return Permanent(errors.New("the CA of the credential is no certificate in PEM"))
		}
		o.Secure, o.TLSConfig = true, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
		return nil
	}
}

// Close sends what is buffered, ends the subscriptions and waits until the
// connection is closed, for some seconds at most. Consumers, watches and
// services are to be ended first, through their contexts.
func (c *Conn) Close() {
	if err := c.nc.Drain(); err != nil {
		c.nc.Close()
	}
	select {
	case <-c.closed:
	case <-time.After(drainTimeout + time.Second):
		c.nc.Close()
		<-c.closed
	}
}

// NATS is the connection beneath, for what this package does not cover.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream is the JetStream context beneath.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

func (c *Conn) connected() {
	c.mu.Lock()
	select {
	case <-c.up:
	default:
		close(c.up)
	}
	c.mu.Unlock()
	c.state(true)
}

func (c *Conn) disconnected(err error) {
	c.mu.Lock()
	was := false
	select {
	case <-c.up:
		was = true
		c.up = make(chan struct{})
	default:
	}
	for g := range c.guards {
		g.cancel(errLost)
	}
	c.mu.Unlock()
	if !was {
		return
	}
	if err != nil {
		c.log.Warn("bus connection lost", "err", err)
	}
	c.state(false)
}

// awaitUp blocks until the connection stands or ctx ends.
func (c *Conn) awaitUp(ctx context.Context) error {
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	select {
	case <-up:
		return nil
	default:
	}
	select {
	case <-up:
		return nil
	case <-c.closed:
		return fmt.Errorf("%w: %w", ErrUnreachable, nats.ErrConnectionClosed)
	case <-ctx.Done():
		return fmt.Errorf("%w: not connected: %w", ErrUnreachable, ctx.Err())
	}
}

// guard derives a context that ends, with its cause, when the server denies a
// matching subject to this connection (ErrDenied) or when the connection is
// lost (errLost). Denials come asynchronously: without this they would look
// like timeouts.
func (c *Conn) guard(ctx context.Context, match func(subject string) bool) (context.Context, func()) {
	gctx, cancel := context.WithCancelCause(ctx)
	g := &guard{match: match, cancel: cancel}
	c.mu.Lock()
	c.guards[g] = struct{}{}
	c.mu.Unlock()
	return gctx, func() {
		c.mu.Lock()
		delete(c.guards, g)
		c.mu.Unlock()
		cancel(nil)
	}
}

// api is a guard for one exchange with the API of JetStream: it has apiTimeout
// to answer, whatever ctx has, because a cluster without a leader does not.
func (c *Conn) api(ctx context.Context) (context.Context, func()) {
	tctx, cancel := context.WithTimeout(ctx, apiTimeout)
	gctx, done := c.guard(tctx, onAPI)
	return gctx, func() {
		done()
		cancel()
	}
}

func onSubject(subject string) func(string) bool {
	return func(s string) bool { return s == subject }
}

func onAPI(subject string) bool {
	return strings.HasPrefix(subject, "$JS.API.") || strings.HasPrefix(subject, "$KV.")
}

func (c *Conn) asyncError(sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		c.counts.denied.Add(1)
		subject := deniedSubject(err.Error())
		denied := fmt.Errorf("%w: %s", ErrDenied, strings.TrimPrefix(err.Error(), nats.ErrPermissionViolation.Error()+": "))
		c.mu.Lock()
		for g := range c.guards {
			if g.match(subject) {
				g.cancel(denied)
			}
		}
		c.mu.Unlock()
		c.log.Warn("bus denied a subject", "subject", subject)
		return
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	c.log.Warn("bus error", "subject", subject, "err", err)
}

// deniedSubject finds the subject in `Permissions Violation for Publish to "x"`.
func deniedSubject(text string) string {
	_, rest, ok := strings.Cut(text, "\"")
	if !ok {
		return ""
	}
	subject, _, _ := strings.Cut(rest, "\"")
	return subject
}
