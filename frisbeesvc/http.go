package frisbeesvc

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
)

// stallTime is how long a client may be silent in the middle of a file.
const stallTime = time.Minute

// Register adds the routes of the image service:
//
//	GET    /v1/images                           events.ImageList
//	GET    /v1/images/{name}                    the file, with ranges; HEAD tells the state of an upload as well
//	PUT    /v1/images/{name}                    upload, in one go or in pieces: events.Image
//	DELETE /v1/images/{name}                    removes it; with ?partial=1 an unfinished upload of it
//	GET    /v1/manifests/{digest}?from=&n=      a ManifestPage
//	GET    /v1/sessions                         events.FrisbeeState
//	PUT    /v1/save/{id}                        an image that a node sends, see registerSave
//
// Errors are {"error": events.Error}. While the service is not the active one
// everything is answered with 503. Changes need Config.Authorize; without one they are made from this machine, or with
// the token of an events.UploadPermit. Saves need the token of their place.
func (s *Service) Register(mux *http.ServeMux) {
	routes := []struct {
		path, allow string
		methods     map[string]func(*term, http.ResponseWriter, *http.Request) error
	}{
		{"/v1/images", "GET, HEAD", map[string]func(*term, http.ResponseWriter, *http.Request) error{"GET": s.getImages}},
		{"/v1/images/{name...}", "GET, HEAD, PUT, DELETE", map[string]func(*term, http.ResponseWriter, *http.Request) error{
			"GET": s.getImage, "PUT": s.putImage, "DELETE": s.deleteImage}},
		{"/v1/manifests/{digest}", "GET, HEAD", map[string]func(*term, http.ResponseWriter, *http.Request) error{"GET": s.getManifest}},
		{"/v1/sessions", "GET, HEAD", map[string]func(*term, http.ResponseWriter, *http.Request) error{"GET": s.getSessions}},
	}
	for _, r := range routes {
		for method, fn := range r.methods {
			mux.HandleFunc(method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
				t, err := s.active()
				if err == nil && method != "GET" {
					err = s.authorize(req)
				}
				if err == nil {
					err = fn(t, w, req)
				}
				if err != nil {
					s.fail(w, req, err)
				}
			})
		}
		mux.HandleFunc(r.path, func(w http.ResponseWriter, req *http.Request) { s.wrongMethod(w, req, r.allow) })
	}
	s.registerSave(mux)
}

func (s *Service) wrongMethod(w http.ResponseWriter, req *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	s.fail(w, req, &statusError{http.StatusMethodNotAllowed, &events.Error{Code: events.CodeBadRequest,
		Message: "method " + strconv.QuoteToASCII(req.Method) + " is not possible here"}})
}

// authorize decides whether a request may change something.
func (s *Service) authorize(req *http.Request) error {
	if s.cfg.Authorize != nil {
		if err := s.cfg.Authorize(req); err != nil {
			return &statusError{http.StatusForbidden, &events.Error{Code: events.CodeRefused, Message: err.Error()}}
		}
		return nil
	}
	if req.Method == http.MethodPut && req.Header.Get("Authorization") != "" {
		return s.permits.check(s.cfg.Clock.Now(), req)
	}
	from, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return &statusError{http.StatusForbidden, &events.Error{Code: events.CodeRefused,
			Message: "from another machine an image is changed with a permit only", Hint: "upload with: omf images upload FILE; remove with: omf images rm NAME"}}
	}
	return nil
}

// statusError is an error with a status of its own.
type statusError struct {
	status int
	err    *events.Error
}

func (e *statusError) Error() string { return e.err.Message }
func (e *statusError) Unwrap() error { return e.err }

// fail answers with an error.
func (s *Service) fail(w http.ResponseWriter, req *http.Request, err error) {
	e := refuse(err)
	status := http.StatusInternalServerError
	var own *statusError
	var offset *catalogue.OffsetError
	switch {
	case errors.As(err, &own):
		status = own.status
	case errors.Is(err, catalogue.ErrSpace):
		status = http.StatusInsufficientStorage
	case errors.Is(err, catalogue.ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, catalogue.ErrIncomplete):
		e.Code, e.Retryable, status = events.CodeFailed, true, http.StatusBadRequest
	case e.Code == events.CodeBadRequest:
		status = http.StatusBadRequest
	case e.Code == events.CodeImage:
		status = http.StatusNotFound
	case e.Code == events.CodeDamaged:
		status = http.StatusUnprocessableEntity
	case e.Code == events.CodeConflict, e.Code == events.CodeBusy:
		status = http.StatusConflict
	case e.Code == events.CodeUnavailable:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "2")
	}
	if errors.As(err, &offset) {
		w.Header().Set("Upload-Offset", strconv.FormatInt(offset.Have, 10))
	}
	for _, h := range []string{"ETag", "Last-Modified", "Cache-Control", "Content-Range"} {
		w.Header().Del(h)
	}
	if werr := writeJSON(w, status, map[string]*events.Error{"error": e}); werr != nil && req.Context().Err() == nil {
		s.log.Debug("error not delivered", "url", req.URL.Path, "err", werr)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

func badRequest(message string) error {
	return &events.Error{Code: events.CodeBadRequest, Message: message}
}

func (s *Service) getImages(_ *term, w http.ResponseWriter, req *http.Request) error {
	list, err := s.list(req.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Service) getSessions(_ *term, w http.ResponseWriter, req *http.Request) error {
	return writeJSON(w, http.StatusOK, s.State(events.StatusQuery{Session: req.FormValue("session")}))
}
