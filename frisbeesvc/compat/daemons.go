package compat

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"loadnode/events"
)

// leasePrefix begins the leases of these services, so that they are known again after a restart.
const leasePrefix = "omf:"

// fresh is how long an address is given again without asking the image service.
const fresh = time.Second

type key struct{ testbed, image string }

// daemon is what a legacy client takes for a frisbeed: a lease on a session.
type daemon struct {
	session events.Session
	opened  time.Time // or renewed: the lease is known to stand
	until   time.Time
	users   int // getAddress less stop
}

// daemons are the leases of these services.
type daemons struct {
	mu  sync.Mutex
	all map[key]*daemon
	ops sync.Map // key → *sync.Mutex: one bus request for an image at a time
}

func (d *daemons) lock(k key) func() {
	m, _ := d.ops.LoadOrStore(k, &sync.Mutex{})
	m.(*sync.Mutex).Lock()
	return m.(*sync.Mutex).Unlock
}

// errMany says that no more daemons may be had (§b.2).
var errMany = &refusal{http.StatusBadRequest, "Max. number of daemons reached. Shutdown others and try again", true}

// open gives the session of an image and renews its lease.
func (d *daemons) open(r *request, image string) (events.Session, error) {
	if len(image) > events.MaxNameLen {
		return events.Session{}, &events.Error{Code: events.CodeBadRequest, Message: "the name of the image is too long"}
	}
	k := key{r.testbed, image}
	now := r.s.cfg.Now()
	d.mu.Lock()
	x := d.all[k]
	if x != nil && now.Sub(x.opened) < fresh {
		x.until, x.users = now.Add(r.s.cfg.Timeout), x.users+1
		session := x.session
		d.mu.Unlock()
		return session, nil
	}
	full := x == nil && len(d.all) >= r.s.cfg.MaxDaemons
	d.mu.Unlock()
	if full {
		return events.Session{}, errMany
	}
	defer d.lock(k)()
	var served events.ImageServed
	if err := r.frisbee(events.FrisbeeServe, events.ServeRequest{Image: image, Lease: leasePrefix + image}, &served); err != nil {
		return events.Session{}, err
	}
	d.mu.Lock()
	if x = d.all[k]; x == nil {
		if len(d.all) >= r.s.cfg.MaxDaemons { // others came first
			d.mu.Unlock()
			return events.Session{}, errors.Join(errMany, d.release(r.ctx, r.s, k))
		}
		x = &daemon{}
		d.all[k] = x
	}
	x.session, x.opened, x.until, x.users = served.Session, now, now.Add(r.s.cfg.Timeout), x.users+1
	d.mu.Unlock()
	r.s.poke()
	return served.Session, nil
}

// stop gives back one user's share of a daemon; with the last one the lease goes.
func (d *daemons) stop(r *request, image string) (session events.Session, stopped bool, err error) {
	k := key{r.testbed, image}
	d.mu.Lock()
	x := d.all[k]
	if x != nil {
		session = x.session
		x.users--
		stopped = x.users <= 0
	}
	d.mu.Unlock()
	if !stopped {
		return session, false, nil
	}
	defer d.lock(k)()
	return session, true, d.release(r.ctx, r.s, k)
}

// release gives the lease of a daemon back.
func (d *daemons) release(ctx context.Context, s *Service, k key) error {
	err := s.cfg.Ask(ctx, events.FrisbeeSubject(k.testbed, events.FrisbeeRelease), events.LeaseRelease{Image: k.image, Lease: leasePrefix + k.image}, nil)
	if err == nil {
		d.mu.Lock()
		delete(d.all, k)
		d.mu.Unlock()
	}
	return err
}

// left is how long a daemon is still wanted; 0 for what is none.
func (d *daemons) left(r *request, image string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.all[key{r.testbed, image}]; x != nil {
		return max(0, x.until.Sub(r.s.cfg.Now()))
	}
	return 0
}

// next is when the first daemon's time is over, zero if there are none.
func (d *daemons) next() (due []key, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, x := range d.all {
		switch {
		case at.IsZero() || x.until.Before(at):
			due, at = []key{k}, x.until
		case x.until.Equal(at):
			due = append(due, k)
		}
	}
	return due, at
}

// poke wakes Run.
func (s *Service) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// retry is how long after a lease could not be given back it is tried again.
const retry = 5 * time.Second

// Run ends daemons whose time is over, until ctx ends. First it finds those which were there before a restart.
func (s *Service) Run(ctx context.Context) error {
	for s.recover(ctx) != nil && ctx.Err() == nil {
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		due, at := s.daemons.next()
		var timer <-chan time.Time
		if len(due) > 0 {
			wait := at.Sub(s.cfg.Now())
			if wait <= 0 {
				for _, k := range due {
					s.end(ctx, k)
				}
				continue
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-s.changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// end gives a lease back whose time is over. While clients receive the session lives without it.
func (s *Service) end(ctx context.Context, k key) {
	defer s.daemons.lock(k)()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if s.daemons.release(ctx, s, k) != nil {
		s.daemons.mu.Lock()
		if x := s.daemons.all[k]; x != nil {
			x.until = s.cfg.Now().Add(retry)
		}
		s.daemons.mu.Unlock()
	}
}

// recover takes over the leases of the process before this one, with all of their time.
func (s *Service) recover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var st events.FrisbeeState
	if err := s.cfg.Ask(ctx, events.FrisbeeSubject(s.cfg.Testbed, events.FrisbeeStatus), events.StatusQuery{}, &st); err != nil {
		return err
	}
	now := s.cfg.Now()
	s.daemons.mu.Lock()
	defer s.daemons.mu.Unlock()
	for _, x := range st.Sessions {
		k := key{s.cfg.Testbed, x.Image}
		for _, lease := range x.Leases {
			if lease == leasePrefix+x.Image && s.daemons.all[k] == nil {
				s.daemons.all[k] = &daemon{session: x.Session, until: now.Add(s.cfg.Timeout), users: 1}
			}
		}
	}
	return nil
}
