package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"loadnode/bus"
	"loadnode/bus/embedded"
	"loadnode/events"
	"loadnode/handler"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/netboot"
)

// serverConfig says which roles one process plays and with what.
type serverConfig struct {
	roles        []string
	testbed      string // whose images and simulated nodes are served here
	inventory    *inventory.Inventory
	state        string // directory
	images       string // directory
	makeImages   bool   // where it does not exist
	natsListen   string
	tls          tlsConfig
	nats         []string // external bus
	credential   *events.Credential
	authUsers    string // file with the passwords of the users auth and sys
	replicas     int
	noSync       bool   // the demonstration's bus may forget after a power cut
	http         string // listening address; "none"
	httpBase     string // as nodes reach it; "": derived
	bridgeListen string // address for legacy agents that connect by themselves; "": none
	omf          string // OMF's services: on, off, auto
	frisbee      frisbeeConfig
	netboot      netbootConfig // with role netboot
	pxelinux     handler.Pxelinux
	policy       handler.Policy // zero fields: the handler's defaults
	sim          *simConfig
	notify       *notifier // of the service manager; nil: there is none
	log          *slog.Logger
}

// frisbeeConfig is what the image service is told about the network; zero
// values mean its own defaults.
type frisbeeConfig struct {
	iface    netip.Addr
	group    netip.Addr
	port     uint16
	rate     int64 // of one session
	linkRate int64 // of all together
	idle     time.Duration
	saveLife time.Duration
	savePort uint16
	saveDir  string
	oneGroup bool
}

// simPolicy is for nodes that boot in the given time at most: what is late
// by much will not come.
func simPolicy(boot time.Duration) handler.Policy {
	return handler.Policy{
		Policy: job.Policy{
			CheckIn: 4*time.Second + 3*boot, Join: 20 * time.Second, Stall: 10 * time.Second, Leave: 5 * time.Second,
			LoadMargin: 10 * time.Second,
		},
		Grace: 2 * time.Second, Silence: 5 * time.Second,
	}
}

// addresses are where a running server is reached.
type addresses struct {
	nats, http string
}

// readyTimeout is how long the services of a process may take to answer before
// that is remarkable.
const readyTimeout = 30 * time.Second

// ownerTTL is how long an instance that died keeps what it looked after from
// the others.
const ownerTTL = 15 * time.Second

// httpNone is the listening address that means no HTTP.
const httpNone = "none"

func (c serverConfig) has(role string) bool { return slices.Contains(c.roles, role) }

// server is a process that plays some roles.
type server struct {
	cfg  serverConfig
	log  *slog.Logger
	nats *embedded.Server // nil: external
	auth *calloutAuth     // nil: not the role of this process
	conn *bus.Conn        // of the process itself: streams, readiness, metrics
	addr addresses
	mux  *http.ServeMux
	// boots is the role netboot of this process, once it is there; for metrics.
	boots atomic.Pointer[netboot.Role]
}

// serve runs the roles until ctx ends, which is no error, or until one of
// them fails. Ready is called once when all of them answer.
func serve(ctx context.Context, cfg serverConfig, ready func(addresses)) error {
	s := &server{cfg: cfg, log: cfg.log, mux: http.NewServeMux()}
	if err := os.MkdirAll(cfg.state, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	for _, role := range cfg.roles {
		if role == roleNATS {
			continue // its store has a lock of its own
		}
		lock, err := lockRole(cfg.state, role)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	// The listener comes first: a taken port is told before anything starts,
	// and the other roles need the address.
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close()
	}
	closeBus, err := s.openBus(ctx)
	if err != nil {
		return err
	}
	defer closeBus()
	return s.run(ctx, listener, ready)
}

func (s *server) listen(ctx context.Context) (net.Listener, error) {
	if s.cfg.http == httpNone || s.cfg.http == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.http)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &exit{
			code: exitUnreachable,
			err:  fmt.Errorf("listen for HTTP on %s: address is in use", s.cfg.http),
			hint: "another omf serve? choose another address with --http, or none",
		}
	case err != nil:
		return nil, fmt.Errorf("HTTP: %w", err)
	}
	s.addr.http = "http://" + l.Addr().String()
	if s.cfg.httpBase == "" {
		s.cfg.httpBase = s.addr.http
		if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && s.cfg.frisbee.iface.IsValid() {
			s.cfg.httpBase = fmt.Sprintf("http://%s:%d", s.cfg.frisbee.iface, a.Port)
		}
	}
	return l, nil
}

// openBus starts the embedded bus or finds the external one, and sees to the
// streams. The function it returns undoes it.
func (s *server) openBus(ctx context.Context) (func(), error) {
	down := func() {}
	if s.cfg.has(roleNATS) {
		secure, err := s.cfg.tls.open(s.cfg, s.log.With("role", roleNATS))
		if err != nil {
			return nil, err
		}
		ns, err := embedded.Start(ctx, embedded.Config{
			StoreDir: filepath.Join(s.cfg.state, "nats"), Listen: s.cfg.natsListen, Logger: s.log.With("role", roleNATS),
			Auth: embedded.AuthConfig{Required: !loopback(s.cfg.natsListen)}, NoSync: s.cfg.noSync, TLS: secure,
		})
		if err != nil {
			return nil, err
		}
		s.nats, down = ns, ns.Shutdown
		s.addr.nats = ns.ClientURL()
		if err := s.keepCredentials(); err != nil {
			down()
			return nil, err
		}
	} else {
		s.addr.nats = s.cfg.nats[0]
	}
	if s.cfg.has(roleAuth) {
		end, err := s.openCallout(ctx)
		if err != nil {
			return nil, err
		}
		down = end
	}
	conn, err := s.connect(ctx, "server")
	if err != nil {
		down()
		return nil, err
	}
	s.conn = conn
	undo := func() { conn.Close(); down() }
	if s.nats != nil || s.cfg.has(roleHandler) {
		err = conn.EnsureStreams(ctx, bus.StreamOptions{Replicas: s.cfg.replicas})
		if err == nil {
			// Made here once, so that the roles do not race to make it.
			_, err = conn.Owners(ctx, ownerTTL)
		}
	} else {
		err = conn.AwaitStreams(ctx)
	}
	if err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// keepCredentials writes the credentials that people and other processes
// need where the bus demands them.
func (s *server) keepCredentials() error {
	for name, c := range map[string]events.Credential{
		"operator.json": s.nats.OperatorCredential(), "service.json": s.nats.ServiceCredential(),
	} {
		if err := writeCredential(filepath.Join(s.cfg.state, name), c); err != nil {
			return fmt.Errorf("credential %s: %w", name, err)
		}
	}
	if s.cfg.tls.on || !loopback(s.cfg.natsListen) {
		s.log.Info("credentials for the bus", "people", filepath.Join(s.cfg.state, "operator.json"), "services", filepath.Join(s.cfg.state, "service.json"), "tls", s.cfg.tls.on)
	}
	return nil
}

// loopback reports whether a listening address is of this machine only.
func loopback(address string) bool {
	if address == "" || address == embedded.InProcessOnly {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// connect opens a connection for a role, with the rights of a service.
func (s *server) connect(ctx context.Context, role string) (*bus.Conn, error) {
	cfg := bus.Config{Name: "omf serve " + role, Logger: s.log.With("role", role), Wait: true}
	if s.nats != nil {
		c := s.nats.ServiceCredential()
		cfg.InProcess, cfg.Credential = s.nats.Conn(), &c
	} else {
		cfg.URLs, cfg.Credential = s.cfg.nats, s.cfg.credential
	}
	return bus.Connect(ctx, cfg)
}

// role is one part of a server: it runs until its context ends.
type role struct {
	name  string
	run   func(context.Context) error
	ready func(context.Context) error // returns when it answers
	touch func()                      // returns unless what it holds in memory is stuck; nil: nothing to touch
}

// run starts the roles, tells when all are ready, and ends them together.
func (s *server) run(ctx context.Context, listener net.Listener, ready func(addresses)) error {
	roles, closeRoles, err := s.roles(ctx)
	if err != nil {
		return err
	}
	defer closeRoles()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		s.cfg.notify.tell("STOPPING=1", statusLine("ending"))
		return nil
	})
	if listener != nil {
		s.routes()
		group.Go(func() error { return s.serveHTTP(ctx, listener) })
	}
	if s.nats != nil {
		group.Go(func() error {
			select {
			case err := <-s.nats.Failed():
				return &exit{
					code: exitUnreachable, err: err,
					hint: "make room on the disk of " + s.cfg.state + " and start omf serve again: what was acknowledged is safe, and jobs go on",
				}
			case <-ctx.Done():
				return nil
			}
		})
	}
	for _, r := range roles {
		group.Go(func() error {
			err := r.run(ctx)
			switch {
			case ctx.Err() != nil:
				return nil // told to end
			case err == nil:
				err = errors.New("ended by itself")
			}
			return fmt.Errorf("role %s: %w", r.name, err)
		})
	}
	group.Go(func() error {
		for _, r := range roles {
			// A long log takes its time, and a bus may be away: that is told, and
			// is no reason to give up.
			s.cfg.notify.tell(statusLine("waiting for role " + r.name))
			late := time.AfterFunc(readyTimeout, func() { s.log.Warn("role does not answer yet", "role", r.name, "dur", readyTimeout) })
			err := r.ready(ctx)
			late.Stop()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("role %s does not answer: %w", r.name, err)
			}
		}
		ready(s.addr)
		fine := strings.TrimSpace(fmt.Sprintf("%s; %s %s", strings.Join(s.cfg.roles, ", "), s.addr.nats, s.addr.http))
		s.cfg.notify.tell("READY=1", statusLine(fine))
		s.cfg.notify.watch(ctx, fine, s.health(roles).check)
		return nil
	})
	return group.Wait()
}

// answering waits until a service answers on the bus.
func (s *server) answering(ctx context.Context, subject string) error {
	for {
		err := s.conn.Request(ctx, subject, events.Empty{}, nil)
		if err == nil || !bus.IsTransient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) serveHTTP(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog:    slog.NewLogLogger(s.log.With("role", "http").Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(bye); err != nil {
		_ = srv.Close() // downloads are resumed by their clients
	}
	<-done
	return nil
}
