package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"loadnode/events"
	"loadnode/transfer/ndz"
)

const (
	// expectTime is how long the image service may take to say that it wants
	// the image, before it is sent unasked.
	expectTime = 10 * time.Second
	// answerBytes bounds the answer to a save.
	answerBytes = 64 << 10
)

// errNobodyReads says that the image service, or the way to it, takes no more.
var errNobodyReads = errors.New("the image service takes no more")

// storeError says why an image is not at the image service.
type storeError struct {
	err    error
	answer *events.Error // of the service, nil if there was none
	final  bool          // trying again does not help
}

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// class is image if the name of the image is the trouble, and not its way.
func (e *storeError) class() events.Class {
	if e.answer != nil && (e.answer.Code == events.CodeConflict || e.answer.Code == events.CodeBadRequest) {
		return events.ClassImage
	}
	return events.ClassStore
}

// again says whether another attempt, which has another place, may succeed.
func (e *storeError) again() bool { return !e.final && e.class() == events.ClassStore }

// uploader sends an image to its place.
type uploader struct {
	web   *http.Client
	clock Clock
	place events.Place
	image string
}

func (u *uploader) request(ctx context.Context, method string, body io.Reader) (*http.Request, error) {
	base, err := url.Parse(u.place.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, &storeError{err: fmt.Errorf("the place for the image, %.200q, is not an http address", u.place.URL), final: true}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.place.URL, body)
	if err != nil {
		return nil, &storeError{err: err, final: true}
	}
	return req, nil
}

// ask asks the image service whether the place is open, and how much later it
// is there. A service that does not answer is asked again for as long as
// patience lasts.
func (u *uploader) ask(ctx context.Context, patience time.Duration) (skew time.Duration, err error) {
	giveUp := u.clock.Now().Add(patience)
	for pause := manifestPause; ; pause = min(2*pause, manifestPauseMax) {
		skew, err = u.askOnce(ctx)
		var se *storeError
		silent := errors.As(err, &se) && (se.answer == nil || se.answer.Retryable) && !se.final
		if !silent || ctx.Err() != nil || !u.clock.Now().Add(pause).Before(giveUp) {
			return skew, err
		}
		select {
		case <-u.clock.After(pause):
		case <-ctx.Done():
			return 0, err
		}
	}
}

func (u *uploader) askOnce(ctx context.Context) (time.Duration, error) {
	req, err := u.request(ctx, http.MethodGet, nil)
	if err != nil {
		return 0, err
	}
	resp, err := u.web.Do(req)
	if err != nil {
		return 0, &storeError{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, u.refused(resp)
	}
	var place events.Place
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerBytes)).Decode(&place); err != nil {
		return 0, &storeError{err: fmt.Errorf("the image service's answer about the place: %w", err)}
	}
	if place.State != events.PlaceOpen {
		// A later attempt gets another place.
		return 0, &storeError{err: fmt.Errorf("the place for image %s is %s: %s", u.image, place.State, place.Message), answer: &events.Error{Code: events.CodeRefused}}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, nil // it does not say; deadlines are by our own clock then
	}
	return date.Sub(u.clock.Now()), nil
}

// refused makes an error of an answer that is none of success.
func (u *uploader) refused(resp *http.Response) error {
	var v struct {
		Error *events.Error `json:"error"`
	}
	text := ""
	if json.NewDecoder(io.LimitReader(resp.Body, 8<<10)).Decode(&v) == nil && v.Error != nil {
		text = ": " + v.Error.Message
	}
	if v.Error == nil {
		v.Error = &events.Error{Code: events.CodeFailed, Retryable: resp.StatusCode >= 500}
	}
	return &storeError{err: fmt.Errorf("the image service refused image %s: HTTP status %s%s", u.image, resp.Status, text), answer: v.Error,
		final: resp.StatusCode == http.StatusInsufficientStorage || resp.StatusCode == http.StatusRequestEntityTooLarge}
}

// send sends what capture writes to body, and returns the image as the
// service has it. It returns when both have ended.
func (u *uploader) send(ctx context.Context, body *stream, capture func(context.Context) error) (events.Image, error) {
	req, err := u.request(ctx, http.MethodPut, body)
	if err != nil {
		return events.Image{}, err
	}
	req.ContentLength = -1
	req.Trailer = body.trailer
	req.Header.Set("Authorization", "Bearer "+u.place.Token)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue") // a refusal comes before the disk is sent
	web, done := patient(u.web)
	defer done()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	captured := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { body.end(ctx.Err()) }) // a Write that waits
	defer stop()
	go func() {
		err := errors.New("the capture broke off")
		defer func() { // in a panic of the capture as well
			if v := recover(); v != nil {
				err = &panicError{value: v, stack: debug.Stack()}
			}
			body.end(err)
			captured <- err
		}()
		err = capture(ctx)
	}()
	resp, err := u.roundTrip(web, req, body)
	cancel()
	if cerr := <-captured; cerr != nil && !errors.Is(cerr, errNobodyReads) && !errors.Is(cerr, context.Canceled) {
		if resp != nil {
			resp.Body.Close()
		}
		return events.Image{}, cerr
	}
	if err != nil {
		return events.Image{}, &storeError{err: fmt.Errorf("send image %s after %d bytes: %w", u.image, body.sent(), err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return events.Image{}, u.refused(resp)
	}
	return u.confirmed(resp, body)
}

// roundTrip sends the request once there is something to send: a disk may be
// looked through for long before that, and the service has little patience.
func (u *uploader) roundTrip(web *http.Client, req *http.Request, body *stream) (*http.Response, error) {
	if err := body.awaitFirst(); err != nil {
		return nil, err
	}
	return web.Do(req)
}

// confirmed reads the image that the service says it has stored.
func (u *uploader) confirmed(resp *http.Response, body *stream) (events.Image, error) {
	var image events.Image
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerBytes)).Decode(&image); err != nil {
		return image, &storeError{err: fmt.Errorf("the image service's answer about image %s: %w", u.image, err)}
	}
	_, err := ndz.ParseDigest(image.Digest)
	if err != nil || image.Name != u.image || image.Size != body.total() {
		return image, &storeError{err: fmt.Errorf("the image service says that it stored %q of %d bytes, digest %.80q, for %s of %d bytes",
			image.Name, image.Size, image.Digest, u.image, body.total())}
	}
	return image, nil
}

// patient is a client for requests that take as long as a disk is large. The
// function ends its connections.
func patient(web *http.Client) (*http.Client, func()) {
	long := &http.Client{Transport: web.Transport}
	if long.Transport == nil {
		long.Transport = http.DefaultTransport
	}
	t, ok := long.Transport.(*http.Transport)
	if !ok {
		return long, func() {}
	}
	own := t.Clone()
	own.ExpectContinueTimeout, own.ResponseHeaderTimeout, own.DisableKeepAlives = expectTime, 0, true
	own.WriteBufferSize = 64 << 10
	long.Transport = own
	return long, own.CloseIdleConnections
}
