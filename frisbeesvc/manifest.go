package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/ndz"
)

// Bounds of a page, in chunks.
const (
	defaultPage = 1024
	maxPage     = 4096
)

// ManifestPage is a part of a manifest, as GET /v1/manifests/{digest} answers
// it: the manifest without its chunks, the same on every page, and the chunks
// From, From+1, … Pages are asked for with the queries from (0 to Total, 0 if
// absent) and n (1 or more, 1024 if absent; more than 4096 are never given).
// The next page begins at From + len(Chunks), until that is Total. Nothing of
// it is to be trusted before ndz.Assemble has compared the root digest.
type ManifestPage struct {
	Digest   ndz.Digest      `json:"digest"` // root digest of the manifest
	Total    int             `json:"total"`  // chunks of the manifest
	From     int             `json:"from"`
	Manifest ndz.Manifest    `json:"manifest"` // without chunks
	Chunks   []ndz.ChunkInfo `json:"chunks"`   // never null
}

func (s *Service) getManifest(t *term, w http.ResponseWriter, req *http.Request) error {
	text := req.PathValue("digest")
	digest, err := ndz.ParseDigest(text)
	if err != nil || digest.String() != text {
		return badRequest("a manifest is named by 64 lower-case hexadecimal digits")
	}
	from, n, err := pageQuery(req.URL.RawQuery)
	if err != nil {
		return err
	}
	m, err := t.manifest(req.Context(), digest)
	if err != nil {
		return err
	}
	if from > len(m.Chunks) {
		return badRequest(fmt.Sprintf("from is %d, the manifest has %d chunks", from, len(m.Chunks)))
	}
	tag := fmt.Sprintf(`"%s.%d.%d"`, digest, from, n)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if req.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	page := ManifestPage{Digest: digest, Total: len(m.Chunks), From: from, Manifest: m.Head(), Chunks: m.Page(from, n)}
	if page.Chunks == nil {
		page.Chunks = []ndz.ChunkInfo{}
	}
	return writeJSON(w, http.StatusOK, page)
}

// manifest finds a manifest by its root digest: that of a session, whatever
// became of the file's name meanwhile, or that of an image. As long as not all
// of them are known, an unknown one may still turn up.
func (t *term) manifest(ctx context.Context, digest ndz.Digest) (*ndz.Manifest, error) {
	text, waiting := digest.String(), !t.scanned.Load()
	for _, img := range t.all() {
		l := img.session()
		if l == nil || l.record.Image.Digest != text {
			continue
		}
		if l.file != nil {
			return l.file.Manifest, nil
		}
		waiting = true
	}
	m, err := t.s.cat.Named(ctx, digest)
	if waiting && errors.Is(err, catalogue.ErrNotFound) {
		return nil, &events.Error{Code: events.CodeUnavailable, Retryable: true,
			Message: "manifest " + text + " is not known yet, the images are still being looked at"}
	}
	return m, err
}

// pageQuery reads from and n.
func pageQuery(raw string) (from, n int, err error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return 0, 0, badRequest("the query cannot be read: " + err.Error())
	}
	if from, err = number(q, "from", 0, 0); err != nil {
		return 0, 0, err
	}
	if n, err = number(q, "n", defaultPage, 1); err != nil {
		return 0, 0, err
	}
	return from, min(n, maxPage), nil
}

func number(q url.Values, name string, absent, least int) (int, error) {
	v, ok := q[name]
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseUint(v[0], 10, 31)
	if err != nil || len(v) != 1 || int(n) < least {
		return 0, badRequest(fmt.Sprintf("%s must be one whole number from %d on", name, least))
	}
	return int(n), nil
}
