package frisbeesvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/frisbeesvc/session"
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
)

// Defaults of Config.
const (
	DefaultIdle      = 5 * time.Minute
	DefaultPort      = 7000
	DefaultSaveLife  = 2 * time.Hour
	DefaultSavePort  = 9000 // as in OMF 5
	DefaultSavePorts = maxPlaces
)

const (
	// ownerTTL is how long a dead service keeps the testbed.
	ownerTTL = 15 * time.Second
	// guardEvery is how often the files of running sessions are looked at.
	guardEvery = 5 * time.Second
	// appendTime bounds how long a fact may take to be stored.
	appendTime = 15 * time.Second
)

// ErrConfig is wrapped by every error about a Config.
var ErrConfig = errors.New("bad configuration of the image service")

// Clock is the time by which sessions idle.
type Clock interface {
	Now() time.Time
	// After sends once when d has passed.
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Config says what an image service needs.
type Config struct {
	Testbed string
	Images  string // directory of the images; must exist
	Conn    *bus.Conn
	// Interface is the own address that sends the data; 127.0.0.1 if zero.
	// On loopback only nodes on this machine hear it.
	Interface netip.Addr
	// HTTPBase is where Register's routes are reached from nodes, without a
	// slash at the end: "http://10.0.0.200:5012".
	HTTPBase string

	// ID tells image services apart and stays the same over restarts; if empty
	// it is made from the machine and the directory.
	ID        string
	GroupBase netip.Addr // its /24 is used; 239.192.77.0 if zero
	PortBase  uint16     // DefaultPort if zero
	OneGroup  bool       // all sessions on GroupBase itself: for readers of the legacy status
	// Rate is the cap of one session, bit/s on the wire; 0 means
	// server.DefaultRate, server.Unlimited none.
	Rate int64
	// LinkRate is what all sessions together send over Interface at most,
	// bit/s; they share it fairly. 0 means Rate, server.Unlimited no limit.
	LinkRate int64
	// Idle is how long a session without leases waits for clients; DefaultIdle
	// if zero.
	Idle time.Duration
	// SaveLife is how long a place for a new image waits and receives unless it
	// is asked for with a life of its own; DefaultSaveLife if zero.
	SaveLife time.Duration
	// SaveStall is how long whoever sends an image may be silent; a minute if zero.
	SaveStall time.Duration
	// SavePort and SavePorts are the TCP ports on Interface for places without
	// HTTP: the first, DefaultSavePort if zero, and how many, DefaultSavePorts if zero.
	SavePort  uint16
	SavePorts int
	// SaveDir is a directory that nodes of OMF 4.4 write images to by NFS; empty
	// if there is none. Nobody else may use its files "loadnode-*.ndz".
	SaveDir string
	Version string // of the program
	Logger  *slog.Logger
	Clock   Clock
	// Authorize decides who may change images over HTTP; if nil, clients on this
	// machine may, and others with an events.UploadPermit. Its error is shown to
	// the client.
	Authorize func(*http.Request) error
	// Listen opens a group for sending; server.Listen if nil.
	Listen func(mcast.Options) (mcast.Conn, error)
}

func (cfg *Config) defaults() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	if err := events.CheckName(cfg.Testbed); err != nil {
		return bad("testbed %q: %v", cfg.Testbed, err)
	}
	if cfg.Conn == nil {
		return bad("no connection to the bus")
	}
	if !cfg.Interface.IsValid() {
		cfg.Interface = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if !cfg.Interface.Is4() || cfg.Interface.IsUnspecified() || cfg.Interface.IsMulticast() {
		return bad("interface %v is not an IPv4 address of this machine", cfg.Interface)
	}
	if !cfg.GroupBase.IsValid() {
		cfg.GroupBase = netip.AddrFrom4([4]byte{239, 192, 77, 0})
	}
	if cfg.PortBase == 0 {
		cfg.PortBase = DefaultPort
	}
	if err := cfg.pool().Validate(); err != nil {
		return bad("%v", err)
	}
	if cfg.Rate < server.Unlimited || cfg.LinkRate < server.Unlimited || cfg.Idle < 0 {
		return bad("negative rate or idle time")
	}
	if cfg.Rate == 0 {
		cfg.Rate = server.DefaultRate
	}
	if cfg.LinkRate == 0 {
		cfg.LinkRate = cfg.Rate
	}
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.SaveLife == 0 {
		cfg.SaveLife = DefaultSaveLife
	}
	if cfg.SaveStall == 0 {
		cfg.SaveStall = stallTime
	}
	if cfg.SavePort == 0 {
		cfg.SavePort = DefaultSavePort
	}
	if cfg.SavePorts == 0 {
		cfg.SavePorts = DefaultSavePorts
	}
	if cfg.SaveLife < 0 || cfg.SaveStall < 0 || cfg.SavePorts < 0 || int(cfg.SavePort)+cfg.SavePorts > 1<<16 {
		return bad("life, patience or ports for saved images out of range")
	}
	if cfg.SaveDir != "" {
		if st, err := os.Stat(cfg.SaveDir); err != nil || !st.IsDir() {
			return bad("directory for saved images %s is not there, or is none", cfg.SaveDir)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Listen == nil {
		cfg.Listen = server.Listen
	}
	if cfg.ID == "" {
		cfg.ID = machineID(cfg.Images)
	}
	return nil
}

// sessionRate is what one session sends at most, bit/s, 0 if nothing limits it.
func (cfg *Config) sessionRate() int64 {
	if cfg.Rate > 0 && cfg.LinkRate > 0 {
		return min(cfg.Rate, cfg.LinkRate)
	}
	return max(cfg.Rate, cfg.LinkRate, 0)
}

func (cfg *Config) pool() session.Pool {
	return session.Pool{Group: cfg.GroupBase, Port: cfg.PortBase, OneGroup: cfg.OneGroup}
}

// machineID names a directory on a machine: who restarts there is the same
// image service. Two at once are kept apart by the lock of the directory.
func machineID(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id = []byte(host)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", id, host, dir))
	return host + "-" + hex.EncodeToString(sum[:6])
}

// Service is an image service. New, Register, then Run.
type Service struct {
	cfg     Config
	log     *slog.Logger
	cat     *catalogue.Catalogue
	link    *server.Link // of Interface, shared by all sessions
	clock   *server.FineClock
	permits *permits
	nonce   string // tells the facts of this process from those of others

	facts   pending
	ended   atomic.Int64 // blocks sent by sessions that have ended
	mu      sync.Mutex
	current *term // nil while not active
}

// New takes hold of the image directory. The error says what is wrong with
// the configuration or the directory (catalogue.ErrInUse: another image
// service on this machine has it). Run gives it back.
func New(cfg Config) (*Service, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	nonce, err := events.NewULID(time.Now(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("image service: %w", err)
	}
	clock := server.NewFineClock()
	s := &Service{cfg: cfg, log: cfg.Logger, link: server.NewLink(cfg.LinkRate, clock), clock: clock, nonce: nonce, permits: newPermits()}
	s.facts.wake = make(chan struct{}, 1)
	s.cat, err = catalogue.Open(catalogue.Config{Dir: cfg.Images, Observer: &s.facts, Now: cfg.Clock.Now})
	if err != nil {
		return nil, fmt.Errorf("image service of %s: %w", cfg.Testbed, err)
	}
	return s, nil
}

// Run serves until ctx ends. It waits for the streams, stands by while another
// image service owns the testbed, and takes over when that one is gone. What
// it serves is still recorded on the bus when it returns: the next one goes on
// with it.
func (s *Service) Run(ctx context.Context) error {
	defer s.cat.Close()
	defer s.clock.Close()
	if err := s.cfg.Conn.AwaitStreams(ctx); err != nil {
		return quiet(ctx, fmt.Errorf("image service of %s: %w", s.cfg.Testbed, err))
	}
	owners, err := s.cfg.Conn.Owners(ctx, ownerTTL)
	for err != nil && bus.IsTransient(err) && ctx.Err() == nil {
		s.log.Warn("ownership of testbeds is not there yet", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		owners, err = s.cfg.Conn.Owners(ctx, ownerTTL)
	}
	if err != nil {
		return quiet(ctx, fmt.Errorf("image service of %s: %w", s.cfg.Testbed, err))
	}
	key := "frisbee." + events.Escape(s.cfg.Testbed)
	for told := false; ; {
		ok, err := owners.Acquire(ctx, key, s.cfg.ID)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !bus.IsTransient(err):
			return fmt.Errorf("image service of %s: %w", s.cfg.Testbed, err)
		case ok:
			told = false
			err := s.serveTerm(ctx, owners, key)
			if ctx.Err() != nil {
				// Whoever stands by may have it at once.
				rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				if rerr := owners.Release(rctx, key, s.cfg.ID); rerr != nil {
					s.log.Debug("ownership of the testbed not given back, it expires", "err", rerr)
				}
				return nil
			}
			s.log.Warn("image service begins a new term", "testbed", s.cfg.Testbed, "err", err)
		case !told:
			holder, _ := owners.Holder(ctx, key) // only for the message
			s.log.Info("another image service owns the testbed, standing by", "testbed", s.cfg.Testbed, "holder", holder, "err", err)
			told = true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// quiet turns the end of ctx into a regular end.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// active returns the running term, or an error to be shown to whoever asks.
func (s *Service) active() (*term, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, &events.Error{Code: events.CodeUnavailable, Retryable: true,
			Message: "the image service of " + s.cfg.Testbed + " is starting, or standing by for another one"}
	}
	return s.current, nil
}

// State is what the endpoint status answers.
func (s *Service) State(q events.StatusQuery) events.FrisbeeState {
	st := events.FrisbeeState{Sessions: []events.SessionState{}, BlocksSent: s.ended.Load(), HTTP: s.cfg.HTTPBase, Directory: s.cfg.SaveDir != ""}
	if t, err := s.active(); err == nil {
		st.Sessions = t.states(q.Session)
		for _, x := range st.Sessions {
			st.BlocksSent += x.BlocksSent
		}
	}
	return st
}
