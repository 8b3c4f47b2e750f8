package frisbeesvc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/frisbeesvc/session"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
)

// Reasons of image.released.
const (
	reasonIdle    = "idle"
	reasonDamaged = "damaged"
	reasonRemoved = "removed"
)

const (
	maxLeases = 4096 // of one session; its record must fit an event
	maxLease  = 128  // bytes of a lease id
	// portTries is how many busy ports are passed over.
	portTries = 256
)

// live is a session that the registry knows. Its record does not change in
// place: each change makes a new live.
type live struct {
	record  events.ImageServed
	address session.Address

	run   *session.Session // nil while it could not be started
	share *server.Share    // of the link, that run sends by
	file  *catalogue.File
	heard uint64       // run's count when it was looked at last
	quiet time.Time    // since when neither leases nor clients
	sent  server.Stats // of earlier runs
	told  bool         // that it cannot be started
}

// with returns a copy with other leases.
func (l *live) with(leases []string) *live {
	n := *l
	n.record.Leases = leases
	return &n
}

// joined returns a copy with one more lease. Its weight is the session's if it
// is larger than those before.
func (l *live) joined(lease string, weight int) *live {
	n := l.with(append(slices.Clone(l.record.Leases), lease))
	n.record.Session.Weight = max(n.record.Session.Weight, weight)
	return n
}

// weight is that of the session's share of the link.
func (l *live) weight() float64 { return float64(max(l.record.Session.Weight, 1)) }

func (l *live) blocks() (sent, resent int64) {
	st := l.sent
	if l.run != nil {
		now := l.run.Stats()
		st.BlocksSent += now.BlocksSent
		st.Resent += now.Resent
	}
	return int64(st.BlocksSent), int64(st.Resent)
}

// serve gives a lease a session of an image.
func (t *term) serve(ctx context.Context, req events.ServeRequest) (events.ImageServed, error) {
	var none events.ImageServed
	if err := t.checkServe(req); err != nil {
		return none, err
	}
	// A long check of the file must not hold up whoever gives leases back.
	im, err := t.s.cat.Get(ctx, req.Image)
	if err != nil {
		return none, err
	}
	if req.Digest != "" && req.Digest != im.Digest.String() {
		return none, &events.Error{Code: events.CodeConflict, Message: fmt.Sprintf(
			"image %s has the content %s now, not %s", req.Image, im.Digest, req.Digest)}
	}
	img := t.image(req.Image)
	img.op.Lock()
	defer img.op.Unlock()
	if err := t.tell(img); err != nil {
		return none, err
	}
	l := img.session()
	if l == nil {
		if l, err = t.open(ctx, img, req.Lease, req.Weight); err != nil {
			return none, err
		}
		return t.answer(l), nil
	}
	if l.record.Image.Digest != im.Digest.String() {
		return none, &events.Error{Code: events.CodeConflict, Retryable: true, Message: fmt.Sprintf(
			"image %s is still being served with its former content %s", req.Image, l.record.Image.Digest)}
	}
	if err := t.start(ctx, img, l); err != nil {
		return none, err
	}
	if l = img.session(); l == nil { // it was found damaged
		_, err := t.s.cat.Get(ctx, req.Image)
		return none, errors.Join(errors.New("the session has ended"), err)
	}
	if slices.Contains(l.record.Leases, req.Lease) {
		return t.answer(l), nil
	}
	if len(l.record.Leases) >= maxLeases {
		return none, &events.Error{Code: events.CodeBusy, Retryable: true, Message: fmt.Sprintf("image %s has %d leases already", req.Image, maxLeases)}
	}
	l = l.joined(req.Lease, req.Weight)
	if err := t.record(img, l); err != nil {
		return none, err
	}
	if l.share != nil {
		if err := l.share.SetWeight(l.weight()); err != nil {
			return none, err
		}
	}
	return t.answer(l), nil
}

func (t *term) checkServe(req events.ServeRequest) error {
	bad := func(format string, args ...any) error {
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	if req.Digest != "" {
		if _, err := ndz.ParseDigest(req.Digest); err != nil {
			return bad("serve %s: %v", req.Image, err)
		}
	}
	if err := checkLease("serve", req.Image, req.Lease); err != nil {
		return err
	}
	if req.Weight < 0 || req.Weight > events.MaxWeight {
		return bad("serve %s: weight %d: want 1 to %d, or nothing", req.Image, req.Weight, events.MaxWeight)
	}
	if req.Local && !t.s.cfg.Interface.IsLoopback() {
		return &events.Error{Code: events.CodeUnsupported, Message: fmt.Sprintf("this image service sends from %v, where simulated nodes hear nothing", t.s.cfg.Interface),
			Hint: "run an image service with the interface 127.0.0.1 for simulated nodes"}
	}
	return nil
}

func checkLease(what, image, lease string) error {
	if lease == "" || len(lease) > maxLease {
		return badRequest(fmt.Sprintf("%s %s: a lease id has 1 to %d bytes", what, image, maxLease))
	}
	for i := range len(lease) {
		if lease[i] <= ' ' || lease[i] > '~' {
			return badRequest(fmt.Sprintf("%s %s: a lease id is made of printable characters without blanks", what, image))
		}
	}
	return nil
}

// answer is the record as the asker gets it.
func (t *term) answer(l *live) events.ImageServed {
	out := l.record
	out.Leases = nil
	out.Image.ManifestURL = t.s.manifestURL(out.Image.Digest) // the recorded one may be that of another machine
	return out
}

// record stores a new state of a session and makes it the current one; op is
// held.
func (t *term) record(img *image, l *live) error {
	if err := t.append(img, l.record); err != nil {
		return err
	}
	if len(l.record.Leases) == 0 {
		l.quiet = t.s.cfg.Clock.Now()
	}
	img.setSession(l)
	return nil
}

// open begins a new session: an address of its own, the socket, the fact, and
// then the first block. op is held.
func (t *term) open(ctx context.Context, img *image, lease string, weight int) (*live, error) {
	id, err := events.NewULID(t.s.cfg.Clock.Now(), rand.Reader)
	if err != nil {
		return nil, err
	}
	f, err := t.s.cat.Open(ctx, img.name)
	if err != nil {
		return nil, err
	}
	l := &live{file: f, quiet: t.s.cfg.Clock.Now()}
	l.record.Session.Weight = weight
	if err := t.find(l); err != nil {
		f.Close()
		return nil, err
	}
	l.record = events.ImageServed{Image: t.s.image(f.Image), Leases: []string{lease}, Session: events.Session{
		ID: id, Group: l.address.Group.String(), Port: l.address.Port, Server: t.s.cfg.Interface.String(),
		Rate: t.s.cfg.sessionRate(), Weight: weight, Local: t.s.cfg.Interface.IsLoopback(),
	}}
	if err := t.record(img, l); err != nil {
		t.stop(l)
		t.free(l.address)
		return nil, err
	}
	t.watch(img, l.run)
	t.s.log.Info("session begins", "image", img.name, "session", id, "address", l.address, "lease", lease)
	return l, nil
}

// find starts l on the first address that neither a session nor another
// program has.
func (t *term) find(l *live) error {
	pool := t.s.cfg.pool()
	for tries := 0; tries < portTries; {
		a, ok := t.take(pool)
		if !ok {
			break
		}
		l.address = a
		err := t.run(l)
		if err == nil {
			return nil
		}
		t.free(a)
		if !errors.Is(err, mcast.ErrPortInUse) {
			return &events.Error{Code: events.CodeFailed, Message: err.Error(), Hint: "is " + t.s.cfg.Interface.String() + " an address of this machine?"}
		}
		tries++
	}
	return &events.Error{Code: events.CodeUnavailable, Retryable: true,
		Message: fmt.Sprintf("no free address for a session in %v from port %d on", pool.Group, pool.Port)}
}

func (t *term) take(pool session.Pool) (session.Address, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range pool.Slots() {
		a := pool.At(t.next)
		t.next = (t.next + 1) % pool.Slots()
		if !t.taken[a] {
			t.taken[a] = true
			return a, true
		}
	}
	return session.Address{}, false
}

func (t *term) free(a session.Address) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, a)
}

// run starts l on its address.
func (t *term) run(l *live) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	share, err := t.s.link.Session(l.weight(), 0)
	if err != nil {
		return err
	}
	run, err := session.Start(session.Config{
		Image: l.file, Address: l.address, Local: t.s.cfg.Interface, Rate: t.s.cfg.Rate, Limiter: share, Listen: t.s.cfg.Listen,
	})
	if err != nil {
		return err
	}
	l.run, l.share, l.heard = run, share, 0
	return nil
}

// resume starts a recorded session; what cannot be done now is tried again by
// idle.
func (t *term) resume(img *image) {
	// Without the lock: the file may have to be read.
	if _, err := t.s.cat.Get(t.ctx, img.name); err != nil && t.ctx.Err() == nil {
		t.s.log.Warn("image of a recorded session", "image", img.name, "err", err)
	}
	img.op.Lock()
	defer img.op.Unlock()
	l := img.session()
	if l == nil || l.run != nil || t.ctx.Err() != nil {
		return
	}
	if err := t.start(t.ctx, img, l); err != nil && !l.told {
		n := *l
		n.told = true
		img.setSession(&n)
		t.s.log.Error("session cannot be resumed yet", "image", img.name, "session", l.record.Session.ID, "address", l.address, "err", err)
	}
}

// start makes sure that a session runs, on the address it always had and with
// the content it always had. If the content is gone, the session ends. op is
// held.
func (t *term) start(ctx context.Context, img *image, l *live) error {
	if l.run != nil {
		select {
		case <-l.run.Done():
			ended := *l
			t.stop(&ended)
			img.setSession(&ended)
			l = &ended
		default:
			return nil
		}
	}
	f, err := t.s.cat.Open(ctx, img.name)
	var damaged *catalogue.DamagedError
	switch {
	case errors.As(err, &damaged), errors.Is(err, catalogue.ErrInvalid):
		return errors.Join(err, t.tell(img), t.end(img, reasonDamaged))
	case errors.Is(err, catalogue.ErrNotFound):
		return errors.Join(err, t.end(img, reasonRemoved))
	case err != nil:
		return err
	}
	if f.Image.Digest.String() != l.record.Image.Digest {
		f.Close()
		return errors.Join(&events.Error{Code: events.CodeConflict, Message: fmt.Sprintf("image %s was replaced while it was served", img.name)},
			t.end(img, reasonDamaged))
	}
	n := *l
	n.file, n.told = f, false
	if err := t.run(&n); err != nil {
		f.Close()
		return err
	}
	img.setSession(&n)
	t.watch(img, n.run)
	t.s.log.Info("session resumed", "image", img.name, "session", n.record.Session.ID, "address", n.address, "leases", len(n.record.Leases))
	here := n.record.Session
	here.Server, here.Local = t.s.cfg.Interface.String(), t.s.cfg.Interface.IsLoopback()
	here.Rate = t.s.cfg.sessionRate()
	if here != n.record.Session { // another machine, or another network
		moved := n
		moved.record.Session = here
		return t.record(img, &moved)
	}
	return nil
}

// watch looks at a run until it ends, and finds out why.
func (t *term) watch(img *image, run *session.Session) {
	t.work.Go(func() {
		<-run.Done()
		err := run.Err()
		if err == nil {
			return // it was told to
		}
		img.op.Lock()
		l := img.session()
		if l == nil || l.run != run {
			img.op.Unlock()
			return
		}
		file := l.file
		var bad *server.DamagedError
		if errors.As(err, &bad) {
			d := t.s.cat.Spoiled(file, bad.Err)
			terr := t.tell(img)
			if cur := img.session(); terr == nil && cur != nil && cur.run == run {
				// The catalogue has another file under that name by now.
				terr = t.end(img, reasonDamaged, damagedFact(d))
			}
			img.op.Unlock()
			if terr != nil {
				t.s.log.Error("damage not told yet", "image", img.name, "err", terr)
			}
			return
		}
		n := *l
		t.stop(&n) // started again by idle
		img.setSession(&n)
		img.op.Unlock()
		t.s.log.Error("session broke off, it is started again", "image", img.name, "session", l.record.Session.ID, "err", err)
	})
}

// stop ends the run of a session and keeps its counters.
func (t *term) stop(l *live) {
	if l.run == nil {
		return
	}
	if err := l.run.Close(); err != nil {
		t.s.log.Debug("socket of a session", "address", l.address, "err", err)
	}
	st := l.run.Stats()
	l.sent.BlocksSent += st.BlocksSent
	l.sent.Resent += st.Resent
	t.s.ended.Add(int64(st.BlocksSent))
	l.run = nil
	l.file.Close()
	l.file = nil
}

// end ends a session for good: first the fact, then the socket, so that a
// crash in between leaves a session that is resumed and ends once more. Facts
// in front are stored with it. op is held.
func (t *term) end(img *image, reason string, front ...events.Data) error {
	l := img.session()
	if l == nil {
		return nil
	}
	sent, _ := l.blocks()
	fact := events.ImageReleased{Image: img.name, Session: l.record.Session.ID, Reason: reason, BlocksSent: sent}
	if reason != reasonIdle && l.run != nil {
		// What is wrong must not be sent while the bus takes its time.
		n := *l
		t.stop(&n)
		img.setSession(&n)
		l = &n
		sent, _ = l.blocks()
		fact.BlocksSent = sent
	}
	if err := t.append(img, append(front, fact)...); err != nil {
		return err
	}
	n := *l
	t.stop(&n)
	img.setSession(nil)
	t.free(l.address)
	t.s.log.Info("session ends", "image", img.name, "session", l.record.Session.ID, "reason", reason, "blocks", sent)
	return nil
}

// release takes a lease back. Unknown ones are fine.
func (t *term) release(req events.LeaseRelease) error {
	list := t.all()
	if req.Image != "" {
		list = nil
		if img := t.known(req.Image); img != nil {
			list = []*image{img}
		}
	}
	for _, img := range list {
		if err := t.releaseOf(img, req.Lease); err != nil {
			return err
		}
	}
	return nil
}

func (t *term) releaseOf(img *image, lease string) error {
	img.op.Lock()
	defer img.op.Unlock()
	l := img.session()
	if l == nil || !slices.Contains(l.record.Leases, lease) {
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(l.record.Leases), func(s string) bool { return s == lease })
	return t.record(img, l.with(rest))
}
