package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"loadnode/events"
	"loadnode/transfer/ndz"
)

// Bounds of a manifest that comes over HTTP, which nobody trusts.
const (
	pageSize  = 1024    // chunks asked for at once
	pageBytes = 2 << 20 // bytes read of one page at most
	// maxChunks is the longest manifest an agent takes: 256 GiB of image file,
	// 23 MiB of memory.
	maxChunks = 1 << 18
	// manifestPause and manifestPauseMax are the times between tries.
	manifestPause    = 200 * time.Millisecond
	manifestPauseMax = 3 * time.Second
)

// manifestError says why there is no manifest to load by.
type manifestError struct {
	err   error
	final bool // asking again does not help
}

func (e *manifestError) Error() string { return e.err.Error() }
func (e *manifestError) Unwrap() error { return e.err }

func finalf(format string, args ...any) error {
	return &manifestError{err: fmt.Errorf(format, args...), final: true}
}

// manifestPage is one page as the image service sends it.
type manifestPage struct {
	Digest   ndz.Digest      `json:"digest"`
	Total    int             `json:"total"`
	From     int             `json:"from"`
	Manifest ndz.Manifest    `json:"manifest"`
	Chunks   []ndz.ChunkInfo `json:"chunks"`

	date time.Time // of the server, when it sent the page; zero if it did not say
}

// fetcher gets manifests.
type fetcher struct {
	web   *http.Client
	clock Clock
	skew  time.Duration // how much later it is at the server, by its last answer
}

// manifest gets the manifest of an image page by page and returns it only if
// it hangs on the digest that came with the command. A service that does not
// answer or says that it is not ready is asked again for as long as patience
// lasts; every other answer is final.
func (f *fetcher) manifest(ctx context.Context, image events.Image, patience time.Duration) (*ndz.Manifest, error) {
	root, err := ndz.ParseDigest(image.Digest)
	if err != nil {
		return nil, finalf("digest of image %s: %w", image.Name, err)
	}
	base, err := url.Parse(image.ManifestURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, finalf("manifest of %s: %q is not an http address", image.Name, image.ManifestURL)
	}
	if image.Chunks < 1 || image.Chunks > maxChunks {
		return nil, finalf("image %s has %d chunks, an agent takes 1 to %d", image.Name, image.Chunks, maxChunks)
	}
	var head ndz.Manifest
	chunks := make([]ndz.ChunkInfo, 0, image.Chunks)
	giveUp := f.clock.Now().Add(patience)
	for len(chunks) < image.Chunks {
		page, err := f.patiently(ctx, base, len(chunks), giveUp)
		if err != nil {
			return nil, fmt.Errorf("manifest of %s from %s: %w", image.Name, base.Redacted(), err)
		}
		if !page.date.IsZero() {
			f.skew = page.date.Sub(f.clock.Now())
		}
		page.Manifest.Chunks = nil
		switch {
		case page.Digest != root:
			return nil, finalf("manifest of %s: the server has %s, the job is for %s", image.Name, page.Digest, root)
		case page.Total != image.Chunks || page.From != len(chunks) || len(page.Chunks) == 0 || len(page.Chunks) > image.Chunks-len(chunks):
			return nil, finalf("manifest of %s: page with chunks %d to %d of %d where chunk %d of %d was due",
				image.Name, page.From, page.From+len(page.Chunks), page.Total, len(chunks), image.Chunks)
		}
		if len(chunks) == 0 {
			head = page.Manifest
		} else if page.Manifest.Root() != head.Root() {
			return nil, finalf("manifest of %s changed between its pages", image.Name)
		}
		chunks = append(chunks, page.Chunks...)
	}
	m, err := ndz.Assemble(head, chunks, root)
	if err != nil {
		return nil, finalf("manifest of %s: %w", image.Name, err)
	}
	return m, nil
}

func (f *fetcher) patiently(ctx context.Context, base *url.URL, from int, giveUp time.Time) (*manifestPage, error) {
	pause := manifestPause
	for {
		page, err := f.page(ctx, base, from)
		var me *manifestError
		if err == nil || ctx.Err() != nil || errors.As(err, &me) && me.final || !f.clock.Now().Add(pause).Before(giveUp) {
			return page, err
		}
		select {
		case <-f.clock.After(pause):
		case <-ctx.Done():
			return nil, err
		}
		pause = min(2*pause, manifestPauseMax)
	}
}

func (f *fetcher) page(ctx context.Context, base *url.URL, from int) (*manifestPage, error) {
	u := *base
	u.RawQuery = url.Values{"from": {strconv.Itoa(from)}, "n": {strconv.Itoa(pageSize)}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, finalf("%w", err)
	}
	resp, err := f.web.Do(req)
	if err != nil {
		return nil, &manifestError{err: err}
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, pageBytes)
	if resp.StatusCode != http.StatusOK {
		return nil, &manifestError{
			err:   fmt.Errorf("HTTP status %s%s", resp.Status, refusal(body)),
			final: resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests,
		}
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, &manifestError{err: err}
	}
	if len(raw) == pageBytes {
		return nil, finalf("a page has more than %d bytes", pageBytes)
	}
	var page manifestPage
	if err := json.Unmarshal(raw, &page); err != nil {
		return nil, finalf("page from chunk %d: %w", from, err)
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		page.date = date
	}
	return &page, nil
}

// refusal is what the body of an error says, for people.
func refusal(body io.Reader) string {
	var v struct {
		Error events.Error `json:"error"`
	}
	if json.NewDecoder(io.LimitReader(body, 8<<10)).Decode(&v) != nil || v.Error.Message == "" {
		return ""
	}
	return ": " + v.Error.Message
}
