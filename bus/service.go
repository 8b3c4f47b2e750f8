package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"loadnode/events"
)

const (
	defaultEndpointWorkers = 4
	defaultQueue           = "omf"
)

// Endpoint is one subject of a service.
type Endpoint struct {
	Name    string // letters, digits, "-" and "_"; for operators
	Subject string
	// Handle returns the answer, which is sent as JSON, or an error, which is
	// sent as events.AsError makes it data.
	Handle  func(context.Context, Request) (any, error)
	Workers int // requests handled at once; 0: 4
}

// ServiceConfig describes a service.
type ServiceConfig struct {
	Name        string // letters, digits, "-" and "_"
	Version     string // of the program, semantic; anything else becomes 0.0.0
	Description string
	Endpoints   []Endpoint
	Queue       string // queue group; "" the default one: one of several instances answers
	NoQueue     bool   // every instance answers
	// Plain serves by plain subscriptions, without $SRV.PING, INFO and STATS:
	// for agents, whose credentials forbid those.
	Plain bool
}

// Service is a running service.
type Service struct {
	cancel context.CancelFunc
	micro  micro.Service
	subs   []*subscription
	once   sync.Once
	ended  chan struct{}
	whole  chan struct{} // closed when every endpoint is there

	mu      sync.Mutex
	stopped bool           // nothing is added to work any more
	work    sync.WaitGroup // the requests being handled
}

// Serve answers requests until Stop is called or ctx ends. It returns when
// the server has accepted the subscriptions; the error wraps ErrDenied when
// the credential forbids one.
func (c *Conn) Serve(ctx context.Context, cfg ServiceConfig) (*Service, error) {
	if err := c.awaitUp(ctx); err != nil {
		return nil, fmt.Errorf("serve %s: %w", cfg.Name, err)
	}
	sctx, cancel := context.WithCancel(ctx)
	s := &Service{cancel: cancel, ended: make(chan struct{}), whole: make(chan struct{})}
	start := s.startMicro
	if cfg.Plain {
		start = s.startPlain
	}
	if err := start(sctx, c, cfg); err != nil {
		s.Stop()
		return nil, fmt.Errorf("serve %s: %w", cfg.Name, err)
	}
	close(s.whole)
	context.AfterFunc(sctx, s.stop)
	return s, nil
}

// Stop ends the service: no new requests are taken, the running ones see
// their context end and are answered, then it returns. What arrives in the
// same moment is answered with CodeUnavailable.
func (s *Service) Stop() {
	s.cancel()
	s.stop()
}

func (s *Service) stop() {
	s.once.Do(func() {
		defer close(s.ended)
		if s.micro != nil {
			_ = s.micro.Stop() // fails only on a closed connection, where nothing is left to stop
		}
		for _, sub := range s.subs {
			sub.stop()
		}
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.work.Wait()
	})
	<-s.ended
}

// begin reports whether a request may still be handled; then end is owed.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Add(1)
	return true
}

func (s *Service) end() { s.work.Done() }

func (cfg ServiceConfig) queue() string {
	switch {
	case cfg.NoQueue:
		return ""
	case cfg.Queue != "":
		return cfg.Queue
	}
	return defaultQueue
}

func (s *Service) startPlain(ctx context.Context, c *Conn, cfg ServiceConfig) error {
	for _, e := range cfg.Endpoints {
		slots := e.slots()
		sub, err := c.subscribe(ctx, e.Subject, cfg.queue(), func(m *nats.Msg) {
			s.dispatch(ctx, slots, func(stopped bool) {
				e.answer(ctx, c, stopped, Request{Subject: m.Subject, Data: m.Data}, m.Reply)
			})
		})
		if err != nil {
			return fmt.Errorf("endpoint %s: %w", e.Subject, err)
		}
		s.subs = append(s.subs, sub)
	}
	return nil
}

func (s *Service) startMicro(ctx context.Context, c *Conn, cfg ServiceConfig) error {
	svc, err := c.addService(cfg)
	if err != nil {
		return err
	}
	s.micro = svc
	for _, e := range cfg.Endpoints {
		slots := e.slots()
		gctx, done := c.guard(ctx, onSubject(e.Subject))
		err := svc.AddEndpoint(e.Name, micro.HandlerFunc(func(r micro.Request) {
			s.dispatch(ctx, slots, func(stopped bool) {
				e.answer(ctx, c, stopped, Request{Subject: r.Subject(), Data: r.Data()}, r.Reply())
			})
		}), micro.WithEndpointSubject(e.Subject))
		if err == nil {
			err = c.flush(gctx, e.Subject)
		}
		err = classify(err, context.Cause(gctx))
		done()
		if err != nil {
			return fmt.Errorf("endpoint %s: %w", e.Subject, err)
		}
	}
	return nil
}

// addService registers with the micro framework, which insists on a semantic
// version.
func (c *Conn) addService(cfg ServiceConfig) (micro.Service, error) {
	mc := micro.Config{
		Name: cfg.Name, Version: cfg.Version, Description: cfg.Description,
		QueueGroup: cfg.queue(), QueueGroupDisabled: cfg.NoQueue,
	}
	svc, err := micro.AddService(c.nc, mc)
	if errors.Is(err, micro.ErrConfigValidation) && cfg.Version != "0.0.0" {
		mc.Version = "0.0.0"
		svc, err = micro.AddService(c.nc, mc)
	}
	return svc, err
}

func (e Endpoint) slots() chan struct{} {
	n := e.Workers
	if n <= 0 {
		n = defaultEndpointWorkers
	}
	return make(chan struct{}, n)
}

// dispatch runs f beside the subscription, which would otherwise handle one
// request after the other. It blocks while all workers are busy. f is told
// when the service has stopped meanwhile. Nothing is answered before every
// endpoint is there: whoever hears one may ask the others.
func (s *Service) dispatch(ctx context.Context, slots chan struct{}, f func(stopped bool)) {
	held := true
	select {
	case slots <- struct{}{}:
	case <-ctx.Done(): // stopping: what has been taken is not left waiting
		held = false
	}
	if !s.begin() {
		f(true)
		return
	}
	go func() {
		defer s.end()
		select {
		case <-s.whole:
			f(false)
		case <-ctx.Done():
			f(true)
		}
		if held {
			<-slots
		}
	}()
}

// answer handles a request and publishes what comes of it on reply: the value
// as JSON, or the error as data with the headers of the micro framework. It
// does so itself, because micro's request may be answered only before its
// handler returns. A request that wants no answer is carried out all the same.
func (e Endpoint) answer(ctx context.Context, c *Conn, stopped bool, r Request, reply string) {
	var v any
	var err error = &events.Error{Code: events.CodeUnavailable, Message: "the service is stopping", Retryable: true}
	answered := make(chan struct{})
	defer close(answered)
	r.answered = answered
	if !stopped {
		v, err = e.Handle(ctx, r)
	}
	if reply == "" {
		return
	}
	m := &nats.Msg{Subject: reply}
	if err == nil {
		m.Data, err = e.encode(v)
	}
	if err != nil {
		m.Header, m.Data = refusal(err)
	}
	if err := c.nc.PublishMsg(m); err != nil {
		c.log.Warn("answer not sent", "subject", r.Subject, "err", err)
	}
}

func (e Endpoint) encode(v any) ([]byte, error) {
	if v == nil {
		v = events.Empty{}
	}
	data, err := json.Marshal(v)
	if err == nil && len(data) > MaxEventBytes {
		err = fmt.Errorf("answer of %s: %w: %d bytes, allowed are %d", e.Subject, ErrTooLarge, len(data), MaxEventBytes)
	}
	return data, err
}

// refusal is an error as headers and body of an answer.
func refusal(err error) (nats.Header, []byte) {
	e := events.AsError(err)
	if e.Code == "" {
		e.Code = events.CodeInternal
	}
	if e.Message == "" {
		e.Message = string(e.Code)
	}
	body, _ := json.Marshal(e) // strings and a flag always encode
	return nats.Header{micro.ErrorCodeHeader: {string(e.Code)}, micro.ErrorHeader: {oneLine(e)}}, body
}
