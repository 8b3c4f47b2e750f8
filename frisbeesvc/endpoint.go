package frisbeesvc

import (
	"context"
	"errors"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
)

// endpoints are svc.<tb>.frisbee.*.
func (t *term) endpoints() []bus.Endpoint {
	return []bus.Endpoint{
		endpoint(t, events.FrisbeeServe, 8, t.serve),
		endpoint(t, events.FrisbeeRelease, 4, func(_ context.Context, req events.LeaseRelease) (events.Empty, error) {
			return events.Empty{}, t.release(req)
		}),
		endpoint(t, events.FrisbeeStatus, 4, func(_ context.Context, q events.StatusQuery) (events.FrisbeeState, error) {
			return t.s.State(q), nil
		}),
		endpoint(t, events.FrisbeeCheck, 8, t.get),
		endpoint(t, events.FrisbeeAdd, 4, t.add),
		endpoint(t, events.FrisbeeVerify, 2, t.verify),
		endpoint(t, events.FrisbeeImages, 4, func(ctx context.Context, _ events.Empty) (events.ImageList, error) {
			return t.s.list(ctx)
		}),
		endpoint(t, events.FrisbeeInspect, 4, t.inspect),
		endpoint(t, events.FrisbeeRemove, 2, func(_ context.Context, q events.ImageQuery) (events.Empty, error) {
			return events.Empty{}, t.remove(q.Image)
		}),
		endpoint(t, events.FrisbeeUpload, 4, func(_ context.Context, q events.UploadQuery) (events.UploadPermit, error) {
			return t.s.permits.give(&t.s.cfg, q)
		}),
		endpoint(t, events.FrisbeeReceive, 4, t.receive),
		endpoint(t, events.FrisbeeAbandon, 4, func(ctx context.Context, req events.LeaseRelease) (events.Empty, error) {
			return events.Empty{}, t.abandon(ctx, req)
		}),
		endpoint(t, events.FrisbeePlaces, 2, func(context.Context, events.Empty) (events.PlaceList, error) {
			return t.places.views(t), nil
		}),
	}
}

// endpoint makes an endpoint of a typed function.
func endpoint[Q, A any](t *term, verb string, workers int, fn func(context.Context, Q) (A, error)) bus.Endpoint {
	return bus.Endpoint{
		Name: verb, Subject: events.FrisbeeSubject(t.s.cfg.Testbed, verb), Workers: workers,
		Handle: func(ctx context.Context, r bus.Request) (any, error) {
			var q Q
			if err := r.Decode(&q); err != nil {
				return nil, err
			}
			a, err := fn(ctx, q)
			if err != nil {
				return nil, refuse(err)
			}
			return a, nil
		},
	}
}

// add takes a file of the image directory into the catalogue.
func (t *term) add(ctx context.Context, q events.ImageQuery) (events.Image, error) {
	im, err := t.get(ctx, q) // a file without a manifest is taken in at once
	if errors.Is(err, catalogue.ErrNotFound) {
		return im, &events.Error{Code: events.CodeImage, Message: fmt.Sprintf("there is no file %s in the server's image directory", q.Image),
			Hint: "put it there, or send it from here with: omf images upload " + q.Image}
	}
	return im, err
}

// get checks an image, and takes it into the catalogue if it is new.
func (t *term) get(ctx context.Context, q events.ImageQuery) (events.Image, error) {
	im, err := t.s.cat.Get(ctx, q.Image)
	return t.told(q.Image, im, err)
}

// verify reads the whole image.
func (t *term) verify(ctx context.Context, q events.ImageQuery) (events.Image, error) {
	im, err := t.s.cat.Verify(ctx, q.Image)
	return t.told(q.Image, im, err)
}

// told has the facts stored before the answer is given, if the bus takes
// them; if not, narrate does it later.
func (t *term) told(name string, im catalogue.Image, err error) (events.Image, error) {
	// Even with nothing pending: narrate may be storing it at this moment, and
	// holds the lock while it does.
	if err == nil || t.s.facts.has(name) || t.known(name) != nil {
		img := t.image(name)
		img.op.Lock()
		if terr := t.tell(img); terr != nil {
			t.s.log.Warn("fact of an image not stored yet", "image", name, "err", terr)
		}
		img.op.Unlock()
	}
	if err != nil {
		return events.Image{}, err
	}
	return t.s.image(im), nil
}

func (s *Service) list(ctx context.Context) (events.ImageList, error) {
	entries, err := s.cat.List(ctx)
	if err != nil {
		return events.ImageList{}, err
	}
	out := events.ImageList{Images: make([]events.ImageEntry, len(entries))}
	for i, e := range entries {
		out.Images[i] = s.entry(e)
	}
	return out, nil
}

func (t *term) inspect(ctx context.Context, q events.ImageQuery) (events.ImageDetail, error) {
	d, err := t.s.cat.Inspect(ctx, q.Image)
	if err != nil {
		return events.ImageDetail{}, err
	}
	out := events.ImageDetail{ImageEntry: t.s.entry(d.Entry), Version: d.Info.Version, Regions: d.Info.Regions, Relocs: d.Relocs, UUID: d.Info.UUID,
		Ratio: float64(d.Info.DataBytes) / float64(d.Info.Size), Filesystem: d.Filesystem}
	if d.Provenance != nil {
		out.Provenance = &d.Provenance.Provenance
	}
	return out, nil
}
