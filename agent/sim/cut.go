package sim

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// errCut is what breaks the connection of a save.
var errCut = errors.New("the connection was cut")

// expectTime is how long a service may take to say that it wants an image.
const expectTime = 10 * time.Second

// web is the node's way to HTTP services, with its scissors.
func (n *node) web() *http.Client {
	shared := n.sim.http
	t, ok := shared.Transport.(*http.Transport)
	if !ok || !n.faults.has(Cut) {
		return shared
	}
	own := t.Clone()
	own.ExpectContinueTimeout = expectTime
	own.DisableKeepAlives = true
	return &http.Client{Timeout: shared.Timeout, Transport: &scissors{node: n, next: own}}
}

// scissors cut the first save of a node.
type scissors struct {
	node *node
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (s *scissors) RoundTrip(req *http.Request) (*http.Response, error) {
	if body, ok := req.Body.(measured); ok && req.Method == http.MethodPut && s.node.cutOnce() {
		again := *req
		again.Body = &cutBody{measured: body, at: s.node.faults[Cut].Number}
		req = &again
	}
	return s.next.RoundTrip(req)
}

// measured is the body of a save: it knows how much of the disk is captured.
type measured interface {
	io.ReadCloser
	Percent() float64
}

// cutBody breaks off where it is told to, and not before something was sent.
type cutBody struct {
	measured
	at   float64
	some bool
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.some && c.Percent() >= c.at {
		return 0, errCut
	}
	n, err := c.measured.Read(p[:min(len(p), 32<<10)])
	c.some = c.some || n > 0
	return n, err
}

// cutOnce is true once in the life of a node.
func (n *node) cutOnce() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := !n.cut
	n.cut = true
	return first
}
