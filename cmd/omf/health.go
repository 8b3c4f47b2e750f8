package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// errBusAway is the state of a process whose external bus cannot be reached:
// it waits, and to start it anew would not bring the bus back.
var errBusAway = errors.New("waiting for the bus, which cannot be reached")

// lives asks a role until it answers, for as long as ctx lasts: where other
// processes play the same role, the bus may choose one that is dead.
func (s *server) lives(ctx context.Context, r role) error {
	if r.touch != nil {
		r.touch()
	}
	for {
		if s.nats == nil && !s.conn.NATS().IsConnected() {
			return errBusAway
		}
		once, cancel := context.WithTimeout(ctx, probeTimeout)
		err := s.probe(once, r.name)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(probeTimeout / 4):
		}
	}
}

// health asks the roles of a process, side by side, whether they live. One
// goroutine uses it.
type health struct {
	asks  map[string]func(context.Context) error // by role
	asked map[string]chan error                  // those that have not answered yet
}

func (s *server) health(roles []role) *health {
	asks := map[string]func(context.Context) error{}
	for _, r := range roles {
		asks[r.name] = func(ctx context.Context) error { return s.lives(ctx, r) }
	}
	return newHealth(asks)
}

func newHealth(asks map[string]func(context.Context) error) *health {
	return &health{asks: asks, asked: map[string]chan error{}}
}

// check returns when all roles have answered, at the end of ctx at the latest,
// with an error that names those which did not. One that hangs is asked once,
// not again and again: at most one goroutine is stuck with it.
func (h *health) check(ctx context.Context) error {
	for name, ask := range h.asks {
		if h.asked[name] == nil {
			answer := make(chan error, 1)
			h.asked[name] = answer
			go func() { answer <- ask(ctx) }()
		}
	}
	var dead, away error
	for _, name := range slices.Sorted(maps.Keys(h.asked)) {
		err := errors.New("it hangs")
		select {
		case err = <-h.asked[name]:
			delete(h.asked, name)
		case <-ctx.Done():
			select {
			case err = <-h.asked[name]:
				delete(h.asked, name)
			default:
			}
		}
		switch {
		case errors.Is(err, errBusAway):
			away = err
		case err != nil:
			dead = errors.Join(dead, fmt.Errorf("role %s does not answer: %w", name, err))
		}
	}
	if dead != nil {
		return dead
	}
	return away
}
