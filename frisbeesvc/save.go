package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/ndz"
)

// maxText bounds each text of a provenance, in bytes.
const maxText = 256

// receive gives a lease a place to send a new image to, or says what has
// become of the place it had.
func (t *term) receive(ctx context.Context, req events.ReceiveRequest) (events.Place, error) {
	if err := t.checkReceive(req); err != nil {
		return events.Place{}, err
	}
	if p := t.places.of(req.Lease); p != nil {
		if req.Complete {
			t.places.complete(p)
		}
		return t.same(p, req)
	}
	if err := t.s.cat.Vacant(req.Image); err != nil {
		if stored, ok := t.storedFor(ctx, req); ok && errors.Is(err, catalogue.ErrExists) {
			return stored, nil
		}
		return events.Place{}, err
	}
	life := time.Duration(req.Life)
	if life == 0 {
		life = t.s.cfg.SaveLife
	}
	p, err := newPlace(t.ctx, req, t.s.cfg.Clock.Now().Add(min(life, maxLife)))
	if err != nil {
		return events.Place{}, err
	}
	if p.plain {
		if p.listener, err = t.listen(); err != nil {
			return events.Place{}, err
		}
	}
	known, err := t.places.add(p)
	if known != p { // refused, or somebody asked for the same at the same time
		if p.listener != nil {
			err = errors.Join(err, p.listener.Close())
		}
		if err != nil {
			return events.Place{}, err
		}
		return t.same(known, req)
	}
	switch {
	case p.plain:
		t.work.Go(func() { t.receivePlain(p) })
	case p.file != "":
		t.work.Go(func() { t.receiveFile(p) })
	}
	t.s.log.Info("place for an image", "image", p.image, "lease", p.lease, "plain", p.plain, "file", p.file, "expires", p.expires)
	return t.places.view(t, p), nil
}

// same answers a lease that has a place.
func (t *term) same(p *place, req events.ReceiveRequest) (events.Place, error) {
	if p.image != req.Image || p.plain != req.Plain || (p.file != "") != req.Directory {
		return events.Place{}, &events.Error{Code: events.CodeConflict, Message: fmt.Sprintf("save %s: the lease has another place, for %s", req.Image, p.image)}
	}
	return t.places.view(t, p), nil
}

// storedFor finds the image that was stored for a lease before this service
// started.
func (t *term) storedFor(ctx context.Context, req events.ReceiveRequest) (events.Place, bool) {
	im, err := t.s.cat.Get(ctx, req.Image)
	if err != nil || im.Provenance == nil || im.Provenance.Lease != req.Lease {
		return events.Place{}, false
	}
	stored := t.s.image(im)
	return events.Place{Image: req.Image, State: events.PlaceStored, Bytes: stored.Size, Stored: &stored}, true
}

func (t *term) checkReceive(req events.ReceiveRequest) error {
	if err := catalogue.CheckName(req.Image); err != nil {
		return err
	}
	if err := checkLease("save", req.Image, req.Lease); err != nil {
		return err
	}
	v := req.Provenance
	for what, text := range map[string]string{"testbed": v.Testbed, "job": v.Job, "node": v.Node, "disk": v.Disk, "requester": v.Requester} {
		if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }) {
			return badRequest(fmt.Sprintf("save %s: the %s of the provenance is a text of at most %d bytes", req.Image, what, maxText))
		}
	}
	switch {
	case req.Life < 0:
		return badRequest(fmt.Sprintf("save %s: a place cannot live for %v", req.Image, req.Life))
	case req.Plain && req.Directory:
		return badRequest(fmt.Sprintf("save %s: an image comes to a port or to a directory, not to both", req.Image))
	case req.Directory && t.s.cfg.SaveDir == "":
		return &events.Error{Code: events.CodeUnsupported, Message: "this image service shares no directory with nodes that save to one", Hint: "start omf serve with --save-dir"}
	case !req.Plain && !req.Directory && t.s.cfg.HTTPBase == "":
		return &events.Error{Code: events.CodeUnsupported, Message: "this image service has no HTTP address that nodes could send images to"}
	}
	return nil
}

// abandon gives a place up and returns when nothing is left of what has come
// to it. An image that is stored already stays: it is whole, and nobody but
// its owner removes images. Unknown leases are fine.
func (t *term) abandon(ctx context.Context, req events.LeaseRelease) error {
	p := t.places.of(req.Lease)
	if p == nil || req.Image != "" && req.Image != p.image {
		return nil
	}
	t.places.stop(p, errAbandoned)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store takes an image in at its place. It returns when the fact is told, or
// when nothing is left of what came.
func (t *term) store(p *place, body io.Reader, check func(int64, ndz.Digest) error, complete func()) (events.Image, error) {
	provenance := catalogue.Provenance{Provenance: p.provenance, Lease: p.lease}
	im, err := t.s.cat.Save(p.ctx, p.image, catalogue.Capture{
		Owner: p.provenance.Requester, Provenance: provenance, Check: check, Complete: complete,
	}, &countingReader{body, p})
	var out events.Image
	if err == nil {
		out, err = t.told(p.image, im, nil)
	}
	if err != nil && p.ctx.Err() != nil {
		err = fmt.Errorf("save %s: %w", p.image, context.Cause(p.ctx)) // what follows from it says less
	}
	if err != nil {
		t.s.log.Warn("an image did not come whole, nothing of it is kept", "image", p.image, "lease", p.lease, "bytes", p.bytes.Load(), "err", err)
		t.places.end(p, nil, err)
		return events.Image{}, err
	}
	t.s.log.Info("image saved", "image", p.image, "lease", p.lease, "digest", out.Digest, "bytes", out.Size, "node", p.provenance.Node)
	t.places.end(p, &out, nil)
	return out, nil
}

// countingReader counts what comes to a place.
type countingReader struct {
	io.Reader
	p *place
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.p.bytes.Add(int64(n))
	return n, err
}

// errStalled says that a sender has been silent for too long.
var errStalled = errors.New("the sender has been silent for too long")

// impatient gives each read of a connection its own time, and ends them all
// at once when it is told to.
type impatient struct {
	r           io.Reader
	setDeadline func(time.Time) error
	first, rest time.Duration // for the first byte, and from then on

	mu    sync.Mutex
	ended error
}

func (b *impatient) Read(p []byte) (int, error) {
	b.mu.Lock()
	err := b.ended
	if err == nil {
		err = b.setDeadline(time.Now().Add(b.first))
	}
	patience := b.first
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 {
		b.first = b.rest
	}
	switch {
	case err == nil || err == io.EOF:
	case b.ended != nil:
		err = b.ended
	case isTimeout(err):
		err = fmt.Errorf("%w: %v", errStalled, patience)
	}
	return n, err
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// stop ends the reads, those to come as well.
func (b *impatient) stop(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = why
		_ = b.setDeadline(time.Unix(1, 0)) // a connection without deadlines is closed by its owner
	}
}

// release takes the deadline off: nothing is to be read any more.
func (b *impatient) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = io.EOF
		_ = b.setDeadline(time.Time{}) // likewise
	}
}
