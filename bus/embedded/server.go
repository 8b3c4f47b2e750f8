package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"loadnode/bus"
)

// InProcessOnly is the value of Config.Listen for a server without a socket.
const InProcessOnly = "none"

// maxPerRequest is how many messages may answer a request. One is all that
// anybody sends, but the server also counts each further delivery of the
// request to the same client: a subscription left over from a lost connection
// would use the only answer up.
const maxPerRequest = 4

const (
	startTimeout = 15 * time.Second
	memoryLimit  = 256 << 20 // bytes of streams in memory
	defaultStore = 16 << 30  // bytes of streams on disk
	responseTTL  = 5 * time.Minute
	authTimeout  = 6.0  // seconds; the record of a boot may have to be waited for
	tlsTimeout   = 10.0 // seconds; machines that boot are busy
)

var (
	// ErrStoreFailed is what Failed delivers.
	ErrStoreFailed = errors.New("the store of the bus failed")
	// ErrStoreInUse is returned when another server works on the same store.
	ErrStoreInUse = errors.New("store is in use")

	// ErrPortInUse is returned when something else listens on the address.
	ErrPortInUse = errors.New("address is in use")
)

// AuthConfig says who may connect without a credential.
type AuthConfig struct {
	// Required refuses connections without a credential. Otherwise they have
	// full rights if they come from this machine (loopback or in process);
	// from elsewhere they are refused in any case.
	Required bool
}

// Config says what server to run.
type Config struct {
	StoreDir string       // created if missing; one server at a time
	Listen   string       // "host:port"; "" or port -1: a free port of 127.0.0.1; InProcessOnly: none
	Logger   *slog.Logger // nil: silent
	Auth     AuthConfig
	// NoSync acknowledges before the disk has the data: for simulations and
	// tests whose machine does not lose power. Otherwise everything but
	// telemetry is synced before it is acknowledged.
	NoSync   bool
	MaxStore int64 // bytes of all streams on disk; 0: 16 GiB
	TLS      *TLS  // nil: clients speak in the clear
}

// TLS has the server prove itself to clients that come over the network, and
// encrypt what they say. Connections inside the process need neither.
type TLS struct {
	Config *tls.Config // with a certificate; package bus/certificate makes some
	CA     string      // PEM, handed out with each credential; empty: the clients' machines trust the certificate by themselves
}

// Server is a running server.
type Server struct {
	ns   *server.Server
	log  *logger
	gate *gate
	ca   string
	lock *os.File
	once sync.Once
}

// Failed delivers one error, wrapping ErrStoreFailed, when the store took no
// more: its disk is full or broken. What was acknowledged is safe; nothing is
// stored any more until the server is started again, on a disk with room.
func (s *Server) Failed() <-chan error { return s.log.failed }

// Start runs a server and returns when it accepts connections. Its errors name
// what is in the way: ErrPortInUse with the address, ErrStoreInUse with the
// process that has the store.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.StoreDir == "" {
		return nil, errors.New("embedded bus: a store directory is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	lock, err := lockStore(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, log: &logger{log: cfg.Logger, failed: make(chan error, 1)}}
	if cfg.TLS != nil {
		s.ca = cfg.TLS.CA
	}
	if err := s.start(ctx, cfg, opts); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg Config, opts *server.Options) error {
	var err error
	if s.gate, err = newGate(filepath.Join(cfg.StoreDir, "auth"), cfg.Auth.Required, cfg.Logger); err != nil {
		return err
	}
	opts.CustomClientAuthentication = s.gate
	s.gate.close = func(id uint64) { _ = s.ns.DisconnectClientByID(id) } // it may be gone already
	if s.ns, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("embedded bus: %w", err)
	}
	l := s.log
	s.ns.SetLoggerV2(l, false, false, false)
	s.ns.Start()
	deadline := time.Now().Add(startTimeout)
	for !s.ns.ReadyForConnections(50 * time.Millisecond) {
		if fatal := l.fatal(); fatal != "" {
			return fmt.Errorf("embedded bus: %s", fatal)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("embedded bus: %w", ctx.Err())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("embedded bus: not ready after %s, store %s", startTimeout, cfg.StoreDir)
		}
	}
	if !s.ns.JetStreamEnabled() {
		return fmt.Errorf("embedded bus: JetStream did not start on %s: %s", cfg.StoreDir, l.last())
	}
	return nil
}

func options(cfg Config) (*server.Options, error) {
	opts := &server.Options{
		ServerName:            "loadnode",
		Host:                  "127.0.0.1",
		Port:                  server.RANDOM_PORT,
		NoSigs:                true, // signals belong to the process
		JetStream:             true,
		StoreDir:              cfg.StoreDir,
		JetStreamMaxMemory:    memoryLimit,
		JetStreamMaxStore:     cfg.MaxStore,
		SyncAlways:            !cfg.NoSync,
		MaxPayload:            1 << 20,
		MaxControlLine:        8192, // escaped names make long subjects
		WriteDeadline:         10 * time.Second,
		PingInterval:          20 * time.Second,
		MaxPingsOut:           2,
		DisableShortFirstPing: true,
		AuthTimeout:           authTimeout,
	}
	if cfg.TLS != nil {
		opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, cfg.TLS.Config, tlsTimeout
	}
	if opts.JetStreamMaxStore <= 0 {
		opts.JetStreamMaxStore = defaultStore
	}
	switch cfg.Listen {
	case "":
		return opts, nil
	case InProcessOnly:
		opts.DontListen = true
		return opts, nil
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded bus: listen address %q: want host:port or %q", cfg.Listen, InProcessOnly)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < -1 || n > 65535 {
		return nil, fmt.Errorf("embedded bus: port %q: want 0 to 65535", port)
	}
	opts.Host, opts.Port = host, n
	if n == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if opts.Port > 0 {
		// The server would only log it.
		address := net.JoinHostPort(host, port)
		l, err := net.Listen("tcp", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("embedded bus: listen on %s: %w", address, ErrPortInUse)
		case err != nil:
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
		_ = l.Close()
	}
	return opts, nil
}

// CA is what clients have to trust, PEM; empty without TLS, and where they need
// nothing.
func (s *Server) CA() string { return s.ca }

// ClientURL is where clients on this machine connect, "" without a socket.
func (s *Server) ClientURL() string {
	if s.ns.Addr() == nil {
		return ""
	}
	return s.ns.ClientURL()
}

// Shutdown ends the server, waits until everything is on disk, and frees the
// store.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		if s.ns != nil {
			s.ns.Shutdown()
			s.ns.WaitForShutdown()
		}
		_ = s.lock.Close() // gives the lock back
	})
}

// subjects converts permissions to those of the server.
func subjects(p bus.Permissions) *server.Permissions {
	out := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.Publish},
		Subscribe: &server.SubjectPermission{Allow: p.Subscribe},
	}
	if len(p.Publish) == 0 {
		out.Publish = &server.SubjectPermission{Deny: []string{">"}}
	}
	if p.Responses {
		out.Response = &server.ResponsePermission{MaxMsgs: maxPerRequest, Expires: responseTTL}
	}
	return out
}
