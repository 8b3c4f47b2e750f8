package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/events"
	"loadnode/frisbeesvc"
	"loadnode/frisbeesvc/compat"
	"loadnode/handler"
	dataplane "loadnode/transfer/server"
)

// roles makes the roles of this process with what they need. The function
// undoes it, once they have ended.
func (s *server) roles(ctx context.Context) (roles []role, undo func(), err error) {
	var opened []func()
	undo = func() {
		for _, f := range slices.Backward(opened) {
			f()
		}
	}
	for _, name := range s.cfg.roles {
		build := map[string]func(context.Context) (role, func(), error){
			roleNATS: s.natsRole, roleAuth: s.authRole, roleHandler: s.handlerRole, roleFrisbee: s.frisbeeRole, roleBridge: s.bridgeRole, roleNetboot: s.netbootRole, roleSim: s.simRole,
		}[name]
		r, end, err := build(ctx)
		if err != nil {
			undo()
			return nil, nil, fmt.Errorf("role %s: %w", name, err)
		}
		r.name = name
		roles = append(roles, r)
		opened = append(opened, end)
	}
	return roles, undo, nil
}

// natsRole hands out the credentials of nodes; the bus itself runs already.
func (s *server) natsRole(ctx context.Context) (role, func(), error) {
	var services []*bus.Service
	undo := func() {
		for _, svc := range services {
			svc.Stop()
		}
	}
	for _, tb := range s.cfg.inventory.Testbeds() {
		svc, err := s.nats.ServeCredentials(ctx, s.conn, tb.Name)
		if err != nil {
			undo()
			return role{}, nil, err
		}
		services = append(services, svc)
	}
	return role{
		run:   func(ctx context.Context) error { return s.nats.KeepBoots(ctx, s.conn) },
		ready: func(context.Context) error { return nil },
	}, undo, nil
}

func (s *server) handlerRole(ctx context.Context) (role, func(), error) {
	conn, err := s.connect(ctx, roleHandler)
	if err != nil {
		return role{}, nil, err
	}
	dir := filepath.Join(s.cfg.state, roleHandler)
	h, err := handler.New(handler.Config{
		Inventory: s.cfg.inventory, Conn: conn, StateDir: dir, Version: version, Logger: s.log.With("role", roleHandler),
		Policy: s.cfg.policy, Pxelinux: s.cfg.pxelinux,
	})
	if err != nil {
		conn.Close()
		return role{}, nil, err
	}
	return role{run: h.Run, touch: func() { h.State() }, ready: func(ctx context.Context) error {
		for _, tb := range s.cfg.inventory.Testbeds() {
			if err := s.answering(ctx, events.HandlerSubject(tb.Name, events.HandlerStatus)); err != nil {
				return err
			}
		}
		return nil
	}}, conn.Close, nil
}

func (s *server) frisbeeRole(ctx context.Context) (role, func(), error) {
	if s.cfg.makeImages {
		if err := os.MkdirAll(s.cfg.images, 0o755); err != nil {
			return role{}, nil, err
		}
	}
	conn, err := s.connect(ctx, roleFrisbee)
	if err != nil {
		return role{}, nil, err
	}
	f := s.cfg.frisbee
	svc, err := frisbeesvc.New(frisbeesvc.Config{
		Testbed: s.cfg.testbed, Images: s.cfg.images, Conn: conn, Interface: f.iface, HTTPBase: s.cfg.httpBase,
		GroupBase: f.group, PortBase: f.port, OneGroup: f.oneGroup, Rate: f.rate, LinkRate: f.linkRate, Idle: f.idle, SaveLife: f.saveLife, SavePort: f.savePort, SaveDir: f.saveDir, Version: version, Logger: s.log.With("role", roleFrisbee),
	})
	if err != nil {
		conn.Close()
		return role{}, nil, err
	}
	svc.Register(s.mux)
	run := svc.Run
	if s.cfg.omf == "on" || s.cfg.omf == "auto" && loopback(s.cfg.http) {
		omf, err := s.omfServices(conn)
		if err != nil {
			conn.Close()
			return role{}, nil, err
		}
		omf.Register(s.mux)
		run = func(ctx context.Context) error {
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return svc.Run(ctx) })
			group.Go(func() error { return omf.Run(ctx) })
			return group.Wait()
		}
	}
	return role{run: run, ready: func(ctx context.Context) error {
		return s.answering(ctx, events.FrisbeeSubject(s.cfg.testbed, events.FrisbeeStatus))
	}}, conn.Close, nil
}

// omfServices are the HTTP services of OMF, as clients of the bus.
func (s *server) omfServices(conn *bus.Conn) (*compat.Service, error) {
	cfg := compat.Config{
		Testbed: s.cfg.testbed, Ask: conn.Request, Base: s.cfg.httpBase, Bandwidth: cmp.Or(s.cfg.frisbee.rate, dataplane.DefaultRate),
		Known: func(testbed string) bool { _, ok := s.cfg.inventory.Testbed(testbed); return ok },
	}
	if s.cfg.frisbee.group.IsValid() {
		cfg.Group = s.cfg.frisbee.group.String()
	}
	return compat.New(cfg)
}

func (s *server) simRole(context.Context) (role, func(), error) {
	nodes, err := s.cfg.sim.build(s.cfg.testbed, s.source(), s.log.With("role", roleSim))
	if err != nil {
		return role{}, nil, err
	}
	return role{run: nodes.Run, ready: awaiting(nodes)}, func() {}, nil
}

// source connects nodes that live in this process.
func (s *server) source() busSource {
	source := busSource{conn: s.conn, testbed: s.cfg.testbed, urls: s.cfg.nats, log: s.log}
	if s.nats != nil {
		source.inProcess = s.nats
	}
	return source
}

// awaiting waits until the power of all simulated nodes is served.
func awaiting(nodes *sim.Sim) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-nodes.Ready():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
