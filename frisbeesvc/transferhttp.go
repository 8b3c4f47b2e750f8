package frisbeesvc

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
)

// maxOwner bounds the name of an owner, in bytes.
const maxOwner = 128

// getImage gives the file, or a part of it.
func (s *Service) getImage(t *term, w http.ResponseWriter, req *http.Request) error {
	name := req.PathValue("name")
	r, err := s.cat.Download(req.Context(), name)
	if err != nil {
		if have, perr := s.cat.PartialSize(name); req.Method == http.MethodHead && perr == nil && errors.Is(err, catalogue.ErrNotFound) {
			w.Header().Set("Upload-Offset", strconv.FormatInt(have, 10))
			w.Header().Set("Upload-Complete", "?0")
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		_, err = t.told(name, catalogue.Image{}, err)
		return err
	}
	defer r.Close()
	im := r.Image()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+im.Digest.String()+`"`)
	h.Set("Digest-SHA256-Root", im.Digest.String())
	h.Set("Upload-Complete", "?1")
	content := &checkedContent{Reader: r}
	http.ServeContent(&patientWriter{ResponseWriter: w, rc: http.NewResponseController(w)}, req, "", im.Modified, content)
	if content.err != nil {
		s.log.Error("download of an image broken off", "image", name, "err", content.err)
		// The client must not take what it has for the whole file.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// checkedContent remembers why reading ended: http.ServeContent tells nobody.
type checkedContent struct {
	*catalogue.Reader
	err error
}

func (c *checkedContent) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// patientWriter gives each write its own time, however long the file is.
type patientWriter struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(stallTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// patientReader gives each read its own time.
type patientReader struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	if err := p.rc.SetReadDeadline(time.Now().Add(stallTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.r.Read(b)
	if err == io.EOF {
		// The checks that follow take their time, and a deadline that passes
		// meanwhile would look like a client that has gone.
		if derr := p.rc.SetReadDeadline(time.Time{}); derr != nil && !errors.Is(derr, http.ErrNotSupported) {
			return n, derr
		}
	}
	return n, err
}

// putImage stores a new image, or a piece of one.
func (s *Service) putImage(t *term, w http.ResponseWriter, req *http.Request) error {
	name := req.PathValue("name")
	if err := catalogue.CheckName(name); err != nil {
		return err
	}
	if err := s.preconditions(name, req); err != nil {
		return err
	}
	if err := t.places.free(name); err != nil {
		return err
	}
	piece, size, err := s.piece(name, req)
	if err != nil {
		return err
	}
	rc := http.NewResponseController(w)
	// The checks after the last byte take as long as the image is large.
	if err := rc.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	var body io.Reader = &patientReader{req.Body, rc}
	if size >= 0 {
		body = &exactReader{r: body, left: size}
	}
	im, done, err := s.cat.Upload(req.Context(), name, piece, body)
	if err != nil {
		return err
	}
	if !done {
		have, err := s.cat.PartialSize(name)
		if err != nil {
			return err
		}
		w.Header().Set("Upload-Offset", strconv.FormatInt(have, 10))
		w.Header().Set("Upload-Complete", "?0")
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	out, err := t.told(name, im, nil)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/images/"+name)
	w.Header().Set("ETag", `"`+out.Digest+`"`)
	w.Header().Set("Upload-Complete", "?1")
	return writeJSON(w, http.StatusCreated, out)
}

// errBodySize says that the body does not fit its Content-Range.
var errBodySize = errors.New("the body has more bytes than its Content-Range")

// exactReader ends with an error when the data are longer than announced.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); e.left < 0 {
		return 0, errBodySize
	}
	return n, err
}

// preconditions handles If-Match and If-None-Match of an upload. An image is
// never overwritten, so all they can do is to fail.
func (s *Service) preconditions(name string, req *http.Request) error {
	there := s.cat.Has(name)
	failed := func(why string) error {
		return &statusError{http.StatusPreconditionFailed, &events.Error{Code: events.CodeConflict, Message: "image " + name + " " + why}}
	}
	switch {
	case req.Header.Get("If-Match") != "" && !there:
		return failed("does not exist")
	case req.Header.Get("If-None-Match") != "" && req.Header.Get("If-None-Match") != "*":
		return badRequest("If-None-Match of an upload can only be *")
	case req.Header.Get("If-None-Match") == "*" && there:
		return failed("exists already")
	case there:
		return fmt.Errorf("%w: %s; remove it first, images are never overwritten", catalogue.ErrExists, name)
	}
	return nil
}

// piece reads the headers of an upload; the second result is the size of the
// body, -1 if only its end will tell.
func (s *Service) piece(name string, req *http.Request) (catalogue.Piece, int64, error) {
	p := catalogue.Piece{Total: catalogue.Unknown, Owner: req.Header.Get("X-Owner")}
	fail := func(err error) (catalogue.Piece, int64, error) { return p, 0, err }
	if len(p.Owner) > maxOwner || strings.ContainsFunc(p.Owner, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
		return fail(badRequest(fmt.Sprintf("X-Owner is a name of at most %d bytes", maxOwner)))
	}
	unsupported := func(what string) (catalogue.Piece, int64, error) {
		return fail(&statusError{http.StatusUnsupportedMediaType, &events.Error{Code: events.CodeBadRequest, Message: what}})
	}
	if ct := req.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/octet-stream" {
			return unsupported("an image is uploaded as it is: Content-Type application/octet-stream")
		}
	}
	if ce := req.Header.Get("Content-Encoding"); ce != "" && ce != "identity" {
		return unsupported("an image is uploaded as it is, without Content-Encoding")
	}
	var err error
	if p.Digest, err = parseReprDigest(strings.Join(req.Header.Values("Repr-Digest"), ",")); err != nil {
		return fail(badRequest(err.Error()))
	}
	ranges := req.Header.Values("Content-Range")
	if len(ranges) == 0 {
		if req.ContentLength >= 0 {
			p.Total = req.ContentLength
		}
		return p, req.ContentLength, nil
	}
	r, err := parseContentRange(ranges[0])
	if err != nil || len(ranges) > 1 {
		return fail(badRequest(fmt.Sprintf("bad Content-Range: %v", err)))
	}
	p.First, p.Total = r.First, r.Total
	size := r.Last - r.First + 1
	if r.Nothing {
		if p.First, err = s.cat.PartialSize(name); err != nil {
			return fail(err)
		}
		size = 0
		if p.First > p.Total {
			return fail(&catalogue.OffsetError{Image: name, Have: p.First, Want: p.Total})
		}
	}
	if req.ContentLength >= 0 && req.ContentLength != size {
		return fail(badRequest(fmt.Sprintf("the body has %d bytes, its Content-Range %d", req.ContentLength, size)))
	}
	return p, size, nil
}

// deleteImage removes an image, or an unfinished upload.
func (s *Service) deleteImage(t *term, w http.ResponseWriter, req *http.Request) error {
	name := req.PathValue("name")
	switch q := req.URL.Query(); {
	case q.Get("partial") == "1":
		if err := s.cat.DropPartial(name); err != nil {
			return err
		}
	case q.Has("partial"):
		return badRequest("partial can only be 1")
	default:
		if want := req.Header.Get("If-Match"); want != "" && want != "*" {
			im, err := s.cat.Get(req.Context(), name)
			if err != nil {
				return err
			}
			if want != `"`+im.Digest.String()+`"` {
				return &statusError{http.StatusPreconditionFailed, &events.Error{Code: events.CodeConflict,
					Message: fmt.Sprintf("image %s has the content %s now", name, im.Digest)}}
			}
		}
		if err := t.remove(name); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
