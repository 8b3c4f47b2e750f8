package frisbeesvc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/ndz"
)

// Trailers of a save: what the sender sent, by its own count.
const (
	trailerLength = "Loadnode-Length" // bytes, in decimal
	trailerDigest = "Loadnode-Sha256" // 64 lower-case hexadecimal digits
)

var (
	errNoPlace    = errors.New("no image is expected here")
	errNoToken    = errors.New("a save needs Authorization: Bearer and the token of its place")
	errWrongToken = errors.New("this is not the token of this place")
	errTokenUsed  = errors.New("the token of this place has been used; it is good for one request")
	errPlaceOver  = errors.New("this place is over")
	// errTrailer says that what came is not what the sender says it sent.
	errTrailer = errors.New("the image did not come whole")
)

// registerSave adds the routes by which nodes send images:
//
//	PUT /v1/save/{id}   the image, chunked, from whoever has the token: events.Image
//	GET /v1/save/{id}   events.Place, without the token
//
// A PUT has "Authorization: Bearer TOKEN" and, after its body, the trailers
// Loadnode-Length (bytes) and Loadnode-Sha256 (hexadecimal) of what was sent.
// Without them, or with others than the service counted, nothing is kept. The
// token is good for one request, whatever becomes of it. The answer comes when
// the image is checked, stored and told on the bus, which takes its time.
func (s *Service) registerSave(mux *http.ServeMux) {
	const path = "/v1/save/{id}"
	for method, fn := range map[string]func(*term, http.ResponseWriter, *http.Request) error{"GET": s.getSave, "PUT": s.putSave} {
		mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, req *http.Request) {
			t, err := s.active()
			if err == nil {
				err = fn(t, w, req)
			}
			if err != nil {
				s.fail(w, req, saveError(err))
			}
		})
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) { s.wrongMethod(w, req, "GET, HEAD, PUT") })
}

// saveError gives errors of a place their status.
func saveError(err error) error {
	e := &events.Error{Code: events.CodeRefused, Message: err.Error()}
	switch {
	case errors.Is(err, errNoPlace):
		return &statusError{http.StatusNotFound, e}
	case errors.Is(err, errNoToken):
		return &statusError{http.StatusUnauthorized, e}
	case errors.Is(err, errWrongToken):
		return &statusError{http.StatusForbidden, e}
	case errors.Is(err, errTokenUsed), errors.Is(err, errPlaceOver), errors.Is(err, errAbandoned), errors.Is(err, errExpired):
		return &statusError{http.StatusConflict, e}
	case errors.Is(err, errTermOver):
		e.Code, e.Retryable = events.CodeUnavailable, true
		return &statusError{http.StatusServiceUnavailable, e}
	case errors.Is(err, errStalled):
		e.Code, e.Retryable = events.CodeFailed, true
		return &statusError{http.StatusRequestTimeout, e}
	case errors.Is(err, errTrailer):
		e.Code, e.Retryable = events.CodeFailed, true
		return &statusError{http.StatusBadRequest, e}
	}
	return err
}

func (s *Service) getSave(t *term, w http.ResponseWriter, req *http.Request) error {
	p, err := t.places.byID(req.PathValue("id"))
	if err != nil {
		return err
	}
	view := t.places.view(t, p)
	view.Token = ""
	return writeJSON(w, http.StatusOK, view)
}

func (s *Service) putSave(t *term, w http.ResponseWriter, req *http.Request) error {
	// Whatever is left of a body that is refused must not be taken for the
	// next request.
	w.Header().Set("Connection", "close")
	id, token, err := req.PathValue("id"), "", error(nil)
	if token, err = bearer(req.Header.Values("Authorization")); err != nil {
		return err
	}
	p, again, err := t.places.claim(id, token)
	if err != nil {
		if again {
			s.log.Error("the token of a save was shown a second time: somebody else has it, or the node sent twice",
				"image", p.image, "lease", p.lease, "node", p.provenance.Node, "from", req.RemoteAddr)
		} else if p != nil {
			s.log.Warn("a save was refused", "image", p.image, "lease", p.lease, "from", req.RemoteAddr, "err", err)
		}
		return err
	}
	rc := http.NewResponseController(w)
	body := &impatient{r: req.Body, setDeadline: rc.SetReadDeadline, first: s.cfg.SaveStall, rest: s.cfg.SaveStall}
	stopped := context.AfterFunc(p.ctx, func() { body.stop(context.Cause(p.ctx)) })
	defer stopped()
	err = rc.SetWriteDeadline(time.Time{}) // the check takes as long as the image is large
	if errors.Is(err, http.ErrNotSupported) {
		err = nil
	}
	if err != nil {
		t.places.end(p, nil, err)
		return err
	}
	gone := func() bool { return true }
	im, err := t.store(p, body, func(size int64, digest ndz.Digest) error { return checkTrailers(req.Trailer, size, digest) }, func() {
		body.release()
		// A sender that is gone does not hear that its image was stored, and
		// reports that it failed: so nothing is stored behind its back.
		gone = context.AfterFunc(req.Context(), func() {
			p.cancel(fmt.Errorf("%w: the sender did not wait for the answer", catalogue.ErrIncomplete))
		})
	})
	gone()
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/images/"+im.Name)
	w.Header().Set("ETag", `"`+im.Digest+`"`)
	return writeJSON(w, http.StatusCreated, im)
}

// byID finds a place by the id in its URL.
func (ps *places) byID(id string) (*place, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.list {
		if p.id == id && !p.plain {
			return p, nil
		}
	}
	return nil, errNoPlace
}

// bearer reads the token of an Authorization header; its error is errNoToken.
func bearer(values []string) (string, error) {
	if len(values) != 1 || len(values[0]) > 256 {
		return "", errNoToken
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errNoToken
	}
	return token, nil
}

// checkTrailers compares what came with what the sender says it sent.
func checkTrailers(trailer http.Header, size int64, digest ndz.Digest) error {
	length, sum, err := parseTrailers(trailer)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errTrailer, err)
	case length != size:
		return fmt.Errorf("%w: %d bytes have come, the sender sent %d", errTrailer, size, length)
	case sum != digest:
		return fmt.Errorf("%w: its SHA-256 is %s, the sender sent %s", errTrailer, digest, sum)
	}
	return nil
}

// parseTrailers reads the trailers of a save, each of which must be there once.
func parseTrailers(trailer http.Header) (int64, ndz.Digest, error) {
	fail := func(format string, args ...any) (int64, ndz.Digest, error) {
		return 0, ndz.Digest{}, fmt.Errorf(format, args...)
	}
	lengths, digests := trailer.Values(trailerLength), trailer.Values(trailerDigest)
	if len(lengths) != 1 || len(digests) != 1 {
		return fail("the trailers %s and %s must follow the image, once each", trailerLength, trailerDigest)
	}
	length, ok := wholeNumber(lengths[0])
	if !ok {
		return fail("%s %.40q is not a number of bytes", trailerLength, lengths[0])
	}
	raw, err := hex.DecodeString(digests[0])
	if err != nil || len(raw) != len(ndz.Digest{}) {
		return fail("%s %.80q is not 64 hexadecimal digits", trailerDigest, digests[0])
	}
	return length, ndz.Digest(raw), nil
}
