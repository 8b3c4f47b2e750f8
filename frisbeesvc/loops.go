package frisbeesvc

import (
	"errors"
	"fmt"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
)

// idle ends sessions and places that nobody needs any more, and starts sessions
// again that could not be started.
func (t *term) idle() {
	every := min(max(t.s.cfg.Idle/10, 50*time.Millisecond), 5*time.Second)
	for {
		select {
		case <-t.s.cfg.Clock.After(every):
		case <-t.ctx.Done():
			return
		}
		t.places.expire(t.s.cfg.Clock.Now())
		for _, img := range t.all() {
			if img.session() != nil {
				t.look(img)
			}
		}
	}
}

// look decides what becomes of one session.
func (t *term) look(img *image) {
	img.op.Lock()
	l := img.session()
	if l == nil {
		img.op.Unlock()
		return
	}
	now, n := t.s.cfg.Clock.Now(), *l
	if n.run != nil {
		if heard := n.run.Heard(); heard != n.heard {
			n.heard, n.quiet = heard, now
		}
	}
	if len(n.record.Leases) > 0 {
		n.quiet = now
	}
	img.setSession(&n)
	if t.left(&n, now) <= 0 {
		if err := t.end(img, reasonIdle); err != nil {
			t.s.log.Warn("idle session not ended yet", "image", img.name, "err", err)
		}
		img.op.Unlock()
		return
	}
	img.op.Unlock()
	if n.run == nil {
		t.resume(img)
	}
}

// silence is how long no client must have been heard from before its session
// is taken as not needed. One that receives says something every few seconds.
const silence = 10 * time.Second

// dismiss ends the session of an image, if there is one that no job and no
// client needs. op is held.
func (t *term) dismiss(img *image) error {
	l := img.session()
	switch {
	case l == nil:
		return nil
	case len(l.record.Leases) > 0:
		return fmt.Errorf("%w: session %s with the leases %v", catalogue.ErrServed, l.record.Session.ID, l.record.Leases)
	case l.run != nil && l.run.Heard() != l.heard, t.s.cfg.Clock.Now().Sub(l.quiet) < silence:
		return fmt.Errorf("%w: clients of session %s were heard in the last %v", catalogue.ErrServed, l.record.Session.ID, silence)
	}
	return t.end(img, reasonIdle)
}

// left is how long a session stays if nobody asks for it.
func (t *term) left(l *live, now time.Time) time.Duration {
	if len(l.record.Leases) > 0 {
		return t.s.cfg.Idle
	}
	return l.quiet.Add(t.s.cfg.Idle).Sub(now)
}

// guard looks at the files of running sessions. What the catalogue finds out
// comes back through narrate.
func (t *term) guard() {
	for {
		select {
		case <-t.s.cfg.Clock.After(guardEvery):
		case <-t.ctx.Done():
			return
		}
		for _, img := range t.all() {
			l := img.session()
			if l == nil || l.run == nil {
				continue
			}
			now, err := t.s.cat.Get(t.ctx, img.name)
			if err != nil || now.Digest.String() == l.record.Image.Digest {
				continue
			}
			// The manifest was taken away, and the file adopted with another
			// content.
			img.op.Lock()
			if cur := img.session(); cur != nil && cur.record.Session.ID == l.record.Session.ID {
				err = t.end(img, reasonDamaged)
			}
			img.op.Unlock()
			if err != nil {
				t.s.log.Error("session of a replaced image", "image", img.name, "err", err)
			}
		}
	}
}

// narrate tells the bus what the catalogue found out.
func (t *term) narrate() {
	for {
		failed := false
		for _, name := range t.s.facts.names() {
			img := t.image(name)
			img.op.Lock()
			err := t.tell(img)
			img.op.Unlock()
			if err != nil && t.ctx.Err() == nil {
				failed = true
				t.s.log.Warn("fact of an image not stored yet", "image", name, "err", err)
			}
		}
		var again <-chan time.Time
		if failed {
			again = time.After(time.Second)
		}
		select {
		case <-t.s.facts.wake:
		case <-again:
		case <-t.ctx.Done():
			return
		}
	}
}

// tell stores the facts that are due for an image, and ends its session if it
// is damaged. op is held.
func (t *term) tell(img *image) error {
	items := t.s.facts.take(img.name)
	for i, item := range items {
		var err error
		switch item := item.(type) {
		case catalogue.Image:
			err = t.tellAdded(img, item)
		case *catalogue.DamagedError:
			err = t.tellDamaged(img, item)
		}
		if err != nil {
			t.s.facts.back(img.name, items[i:])
			return err
		}
	}
	return nil
}

func (t *term) tellAdded(img *image, im catalogue.Image) error {
	if img.digest == im.Digest.String() && img.damaged == "" {
		return nil // told before, perhaps before a restart
	}
	fact := events.ImageAdded{Image: t.s.image(im), Owner: im.Owner, Origin: im.Origin}
	if im.Provenance != nil {
		fact.Provenance = &im.Provenance.Provenance
	}
	if err := t.append(img, fact); err != nil {
		return err
	}
	img.digest, img.damaged = im.Digest.String(), ""
	return nil
}

func (t *term) tellDamaged(img *image, d *catalogue.DamagedError) error {
	fact := damagedFact(d)
	mark := fact.Digest
	if mark == "" {
		mark = "unreadable manifest"
	}
	l := img.session()
	switch {
	case l != nil && (d.Chunk < 0 || l.record.Image.Digest == fact.Digest):
		// An image whose manifest is unreadable cannot be checked any more.
		if err := t.end(img, reasonDamaged, fact); err != nil {
			return err
		}
	case img.damaged == mark:
		return nil
	default:
		if err := t.append(img, fact); err != nil {
			return err
		}
	}
	img.damaged = mark
	t.s.log.Error("image is damaged and not served", "image", img.name, "err", d.Err)
	return nil
}

// states lists the sessions, one of them with its clients.
func (t *term) states(detailed string) []events.SessionState {
	out := []events.SessionState{}
	now := t.s.cfg.Clock.Now()
	for _, img := range t.all() {
		l := img.session()
		if l == nil {
			continue
		}
		st := events.SessionState{
			Session: l.record.Session, Image: img.name, Digest: l.record.Image.Digest, Leases: append([]string{}, l.record.Leases...),
			ImageBlocks: int64(l.record.Image.Chunks) * 1024, IdleLeft: events.Duration(max(t.left(l, now), 0)),
		}
		st.BlocksSent, st.BlocksResent = l.blocks()
		if l.run != nil {
			st.Clients = l.run.Clients()
			if st.ID == detailed {
				st.Peers = l.run.Peers()
			}
		}
		out = append(out, st)
	}
	return out
}

// remove removes an image that no session needs.
func (t *term) remove(name string) error {
	if err := catalogue.CheckName(name); err != nil {
		return err
	}
	if !t.s.cat.Has(name) { // and no record is made for whatever name is asked
		return fmt.Errorf("remove: %w: %s", catalogue.ErrNotFound, name)
	}
	img := t.image(name)
	img.op.Lock()
	defer img.op.Unlock()
	if err := t.dismiss(img); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := t.s.cat.Remove(name); err != nil {
		return err
	}
	t.s.facts.take(name) // what was known of it is over
	if img.digest == "" && img.damaged == "" {
		return nil
	}
	err := t.append(img, events.ImageReleased{Image: name, Reason: reasonRemoved})
	if err != nil {
		return errors.Join(fmt.Errorf("image %s is removed", name), err)
	}
	img.digest, img.damaged = "", ""
	return nil
}
