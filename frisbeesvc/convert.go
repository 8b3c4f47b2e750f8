package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/frisbeesvc/session"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
)

// image is an image as the bus knows it.
func (s *Service) image(im catalogue.Image) events.Image {
	return events.Image{
		Name: im.Name, Digest: im.Digest.String(), Size: im.Head.Size, Chunks: im.Chunks, DiskBytes: im.Head.Bytes(),
		DataBytes: im.Head.DataBytes, SectorSize: im.Head.SectorSize, Format: "ndz",
		ManifestURL: s.manifestURL(im.Digest.String()),
	}
}

func (s *Service) manifestURL(digest string) string {
	return s.cfg.HTTPBase + "/v1/manifests/" + digest
}

func (s *Service) entry(e catalogue.Entry) events.ImageEntry {
	out := events.ImageEntry{Image: events.Image{Name: e.Name}, State: e.State, Message: e.Message, Modified: e.Modified,
		Owner: e.Owner, Serving: e.Served}
	if e.Digest != (ndz.Digest{}) {
		out.Image = s.image(e.Image)
	}
	out.Size = e.Size
	return out
}

func damagedFact(d *catalogue.DamagedError) events.ImageDamaged {
	f := events.ImageDamaged{Image: d.Image, Message: d.Err.Error()}
	if d.Digest != (ndz.Digest{}) {
		f.Digest = d.Digest.String()
	}
	if d.Chunk >= 0 {
		f.Chunk, f.First, f.Last = &d.Chunk, &d.First, &d.Last
	}
	return f
}

func addressOf(s events.Session) (session.Address, error) {
	g, err := netip.ParseAddr(s.Group)
	if err != nil || !g.Is4() || !g.IsMulticast() || s.Port == 0 {
		return session.Address{}, fmt.Errorf("session %s on %.40q port %d is not a multicast address", s.ID, s.Group, s.Port)
	}
	return session.Address{Group: g, Port: s.Port}, nil
}

// refuse makes of any error the one that is shown to whoever asked.
func refuse(err error) *events.Error {
	var e *events.Error
	if errors.As(err, &e) {
		return events.AsError(err)
	}
	out := &events.Error{Code: events.CodeInternal, Message: err.Error()}
	var damaged *catalogue.DamagedError
	var offset *catalogue.OffsetError
	switch {
	case errors.As(err, &damaged):
		out.Code, out.Hint = events.CodeDamaged, "restore the file, or remove its .manifest.json to accept it as it is; then: omf images verify "+damaged.Image
	case errors.Is(err, catalogue.ErrName), errors.Is(err, catalogue.ErrNeedDigest):
		out.Code = events.CodeBadRequest
	case errors.Is(err, catalogue.ErrNotFound):
		out.Code, out.Hint = events.CodeImage, "run: omf images ls"
	case errors.Is(err, catalogue.ErrInvalid), errors.Is(err, catalogue.ErrDigest):
		out.Code, out.Hint = events.CodeDamaged, "copy the image again, completely"
	case errors.Is(err, catalogue.ErrExists), errors.As(err, &offset):
		out.Code = events.CodeConflict
	case errors.Is(err, catalogue.ErrChanged), errors.Is(err, catalogue.ErrBusy):
		out.Code, out.Retryable = events.CodeBusy, true
	case errors.Is(err, catalogue.ErrServed):
		out.Code, out.Hint = events.CodeBusy, "wait for the jobs and the clients that load it"
	case errors.Is(err, catalogue.ErrSpace), errors.Is(err, catalogue.ErrReadOnly), errors.Is(err, catalogue.ErrTooLarge):
		out.Code = events.CodeFailed
	case errors.Is(err, catalogue.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, mcast.ErrPortInUse), errors.Is(err, bus.ErrUnreachable):
		out.Code, out.Retryable = events.CodeUnavailable, true
	}
	return out
}
