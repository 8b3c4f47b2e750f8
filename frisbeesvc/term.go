package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/frisbeesvc/session"
)

// term is the time during which this service owns the testbed.
type term struct {
	s    *Service
	ctx  context.Context
	lose context.CancelCauseFunc // ends the term
	work sync.WaitGroup

	scanned atomic.Bool // all images of the directory were looked at
	places  places

	mu     sync.Mutex // never held while waiting
	images map[string]*image
	taken  map[session.Address]bool // by sessions of this term
	next   int                      // slot of the pool to try first
}

// image is what the bus knows of an image, and its session.
type image struct {
	name string
	// op is held by whoever changes anything; the fields below are read and
	// written under it.
	op      sync.Mutex
	seq     uint64 // of its last fact
	digest  string // of the last image.added; "" if it was removed
	damaged string // digest of the last image.damaged, if nothing good came after

	mu   sync.Mutex // guards live against readers of the status
	live *live
}

func (im *image) session() *live {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.live
}

func (im *image) setSession(l *live) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.live = l
}

// image returns the record of an image, which begins empty.
func (t *term) image(name string) *image {
	t.mu.Lock()
	defer t.mu.Unlock()
	im := t.images[name]
	if im == nil {
		im = &image{name: name}
		t.images[name] = im
	}
	return im
}

// known returns the record of an image, or nil.
func (t *term) known(name string) *image {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.images[name]
}

// all lists the images of which anything is known, by name.
func (t *term) all() []*image {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*image, 0, len(t.images))
	for _, im := range t.images {
		list = append(list, im)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list
}

// serveTerm folds the facts, resumes the sessions and answers requests until
// ctx ends or the testbed belongs to somebody else.
func (s *Service) serveTerm(ctx context.Context, owners *bus.Owners, key string) error {
	tctx, lose := context.WithCancelCause(ctx)
	s.sweepShared()
	t := &term{s: s, ctx: tctx, lose: lose, images: map[string]*image{}, taken: map[session.Address]bool{}}
	defer t.close()
	t.work.Go(func() { t.renew(owners, key) })
	if err := t.fold(); err != nil {
		return err
	}
	for _, im := range t.all() {
		if im.session() != nil {
			t.work.Go(func() { t.resume(im) })
		}
	}
	endpoints, err := s.cfg.Conn.Serve(tctx, bus.ServiceConfig{
		Name: "frisbee", Version: s.cfg.Version, Description: "image service of " + s.cfg.Testbed, Endpoints: t.endpoints(),
	})
	if err != nil {
		return fmt.Errorf("image service of %s: %w", s.cfg.Testbed, err)
	}
	defer endpoints.Stop()
	s.mu.Lock()
	s.current = t
	s.mu.Unlock()
	s.log.Info("image service is active", "testbed", s.cfg.Testbed, "id", s.cfg.ID, "images", s.cat.Dir())
	t.work.Go(t.narrate)
	t.work.Go(t.idle)
	t.work.Go(t.guard)
	t.work.Go(func() {
		if err := s.cat.Scan(tctx); err != nil && tctx.Err() == nil {
			s.log.Warn("some files of the image directory cannot be used", "err", err)
		}
		t.scanned.Store(true)
	})
	<-tctx.Done()
	return context.Cause(tctx)
}

// close ends everything that the term runs, without a word on the bus.
func (t *term) close() {
	t.lose(nil)
	t.s.mu.Lock()
	if t.s.current == t {
		t.s.current = nil
	}
	t.s.mu.Unlock()
	t.places.close()
	for _, im := range t.all() {
		im.op.Lock()
		if l := im.session(); l != nil {
			n := *l
			t.stop(&n)
			im.setSession(&n)
		}
		im.op.Unlock()
	}
	t.work.Wait()
}

// renew keeps the ownership. Only the answer that somebody else has it ends
// the term: while the bus is away, nobody can take over.
func (t *term) renew(owners *bus.Owners, key string) {
	for {
		select {
		case <-time.After(ownerTTL / 3):
		case <-t.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(t.ctx, ownerTTL/3)
		ok, err := owners.Acquire(ctx, key, t.s.cfg.ID)
		cancel()
		switch {
		case t.ctx.Err() != nil:
			return
		case err != nil:
			t.s.log.Warn("ownership of the testbed not renewed, going on", "testbed", t.s.cfg.Testbed, "err", err)
		case !ok:
			t.lose(errors.New("another image service owns the testbed"))
			return
		}
	}
}

// fold reads the last facts of every image.
func (t *term) fold() error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	caughtUp := false
	var newest uint64
	served := map[string]events.ImageServed{}
	err := t.s.cfg.Conn.Watch(ctx, bus.WatchConfig{
		Stream: bus.StreamFacts, Filters: []string{events.AllImageFacts(t.s.cfg.Testbed)}, LastPerSubject: true,
		CaughtUp: func() { caughtUp = true; cancel() },
	}, func(m bus.Message) error {
		name := m.Address.Image
		if name == "" {
			return nil
		}
		im := t.image(name)
		im.seq = max(im.seq, m.Seq)
		if m.Err != nil {
			t.s.log.Warn("undecodable fact of an image", "image", name, "seq", m.Seq, "err", m.Err)
			return nil
		}
		d, err := events.Decode(m.Event)
		if err != nil {
			t.s.log.Warn("unknown fact of an image", "image", name, "seq", m.Seq, "err", err)
			return nil
		}
		// Facts come in the order of the stream: the later one holds.
		switch d := d.(type) {
		case events.ImageAdded:
			im.digest, im.damaged = d.Image.Digest, ""
		case events.ImageDamaged:
			im.damaged = d.Digest
		case events.ImageServed:
			served[name] = d
			if m.Seq > newest {
				newest, t.next = m.Seq, t.s.cfg.pool().After(d.Session.Port)
			}
		case events.ImageReleased:
			delete(served, name)
			if d.Reason == reasonRemoved {
				im.digest, im.damaged = "", ""
			}
		}
		return nil
	})
	if !caughtUp {
		return fmt.Errorf("read the facts of images: %w", err)
	}
	for name, rec := range served {
		a, err := addressOf(rec.Session)
		if err != nil {
			t.s.log.Error("recorded session cannot be resumed", "image", name, "err", err)
			continue
		}
		t.taken[a] = true
		t.image(name).live = &live{record: rec, address: a, quiet: t.s.cfg.Clock.Now()}
	}
	return nil
}

// append stores facts of an image; im.op is held. When somebody else has
// written meanwhile, the term is over: what it knows is no longer true.
func (t *term) append(im *image, data ...events.Data) error {
	records := make([]bus.Record, len(data))
	for i, d := range data {
		ev, err := events.New(events.Meta{
			ID:      fmt.Sprintf("%s:%s:%s:%d:%d", t.s.nonce, im.name, d.Kind(), im.seq, i),
			Source:  events.Source(t.s.cfg.Testbed, "frisbee", t.s.cfg.ID),
			Subject: "image/" + im.name,
			Time:    t.s.cfg.Clock.Now(),
		}, d)
		if err != nil {
			return err
		}
		records[i] = bus.Record{Subject: events.ImageFactSubject(t.s.cfg.Testbed, im.name, d.Kind()), Event: ev}
	}
	ctx, cancel := context.WithTimeout(t.ctx, appendTime)
	defer cancel()
	seq, err := t.s.cfg.Conn.Append(ctx, events.ImageFacts(t.s.cfg.Testbed, im.name), im.seq, records...)
	if err != nil {
		if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrDuplicate) {
			t.lose(fmt.Errorf("image %s: %w", im.name, err))
		}
		return &events.Error{Code: events.CodeUnavailable, Retryable: true,
			Message: fmt.Sprintf("image %s: what was done could not be recorded on the bus: %v", im.name, err)}
	}
	im.seq = seq
	return nil
}
