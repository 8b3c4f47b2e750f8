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
	work   sync.WaitGroup
	once   sync.Once
	ended  chan struct{}
}

// Serve answers requests until Stop is called or ctx ends. It returns when
// the server has accepted the subscriptions; the error wraps ErrDenied when
// the credential forbids one.
func (c *Conn) Serve(ctx context.Context, cfg ServiceConfig) (*Service, error) {
	if err := c.awaitUp(ctx); err != nil {
		return nil, fmt.Errorf("serve %s: %w", cfg.Name, err)
	}
	sctx, cancel := context.WithCancel(ctx)
	s := &Service{cancel: cancel, ended: make(chan struct{})}
	start := s.startMicro
	if cfg.Plain {
		start = s.startPlain
	}
	if err := start(sctx, c, cfg); err != nil {
		s.Stop()
		return nil, fmt.Errorf("serve %s: %w", cfg.Name, err)
	}
	context.AfterFunc(sctx, s.stop)
	return s, nil
}

// Stop ends the service: no new requests are taken, the running ones see
// their context end and are answered, then it returns.
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
		s.work.Wait()
	})
	<-s.ended
}

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
			s.dispatch(ctx, slots, func() {
				e.answer(ctx, c, Request{Subject: m.Subject, Data: m.Data},
					func(data []byte) error { return m.Respond(data) },
					func(code, text string, data []byte) error {
						return m.RespondMsg(&nats.Msg{Data: data, Header: nats.Header{
							micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {text},
						}})
					})
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
			s.dispatch(ctx, slots, func() {
				e.answer(ctx, c, Request{Subject: r.Subject(), Data: r.Data()},
					func(data []byte) error { return r.Respond(data) },
					func(code, text string, data []byte) error { return r.Error(code, text, data) })
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
// request after the other. It blocks while all workers are busy.
func (s *Service) dispatch(ctx context.Context, slots chan struct{}, f func()) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		// Stopping: answer what has been taken, without waiting for room.
		s.work.Go(f)
		return
	}
	s.work.Go(func() {
		defer func() { <-slots }()
		f()
	})
}

func (e Endpoint) answer(ctx context.Context, c *Conn, r Request, ok func([]byte) error, bad func(code, text string, data []byte) error) {
	v, err := e.Handle(ctx, r)
	var data []byte
	if err == nil {
		if v == nil {
			v = events.Empty{}
		}
		data, err = json.Marshal(v)
		if err == nil && len(data) > MaxEventBytes {
			err = fmt.Errorf("answer of %s: %w: %d bytes, allowed are %d", e.Subject, ErrTooLarge, len(data), MaxEventBytes)
		}
	}
	if err == nil {
		err = ok(data)
	} else {
		refusal := events.AsError(err)
		if refusal.Code == "" {
			refusal.Code = events.CodeInternal
		}
		if refusal.Message == "" {
			refusal.Message = string(refusal.Code)
		}
		var body []byte
		if body, err = json.Marshal(refusal); err == nil {
			err = bad(string(refusal.Code), oneLine(refusal), body)
		}
	}
	if err != nil {
		c.log.Warn("answer not sent", "subject", r.Subject, "err", err)
	}
}
