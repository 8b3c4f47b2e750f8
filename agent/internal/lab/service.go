package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"loadnode/events"
	"loadnode/internal/freeport"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
	"loadnode/transfer/server"
)

// Page is a page of a manifest as the image service sends it.
type Page struct {
	Digest   ndz.Digest      `json:"digest"`
	Total    int             `json:"total"`
	From     int             `json:"from"`
	Manifest ndz.Manifest    `json:"manifest"`
	Chunks   []ndz.ChunkInfo `json:"chunks"`
}

// Service serves one image: its manifest until the test ends, its blocks
// between StartData and StopData.
type Service struct {
	Image *Image
	t     testing.TB
	http  *httptest.Server
	port  uint16

	mu     sync.Mutex
	spoil  func(*Page)
	before func(http.ResponseWriter) bool
	rate   int64
	stop   func()
}

// Serve serves the manifest of an image, and not yet its blocks.
func Serve(t testing.TB, image *Image) *Service {
	t.Helper()
	s := &Service{Image: image, t: t, port: freeport.UDP(t), rate: server.Unlimited}
	s.http = httptest.NewServer(http.HandlerFunc(s.page))
	t.Cleanup(s.http.Close)
	t.Cleanup(s.StopData)
	return s
}

// Spoil changes every page before it is sent.
func (s *Service) Spoil(f func(*Page)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = f
}

// Before runs before each answer of the HTTP service, and answers itself if it
// returns true.
func (s *Service) Before(f func(http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Pace sets the rate of the sessions begun from now on, bit/s.
func (s *Service) Pace(rate int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = rate
}

// Describe is the image as commands name it.
func (s *Service) Describe() events.Image {
	return s.Image.Describe(s.http.URL + "/v1/manifests/" + s.Image.Manifest.Root().String())
}

// Session is where the blocks are.
func (s *Service) Session() events.Session {
	return events.Session{ID: "lab", Group: s.group().String(), Port: s.port, Server: "127.0.0.1", Local: true}
}

func (s *Service) group() netip.Addr {
	return netip.AddrFrom4([4]byte{239, 192, byte(s.port >> 8), byte(s.port)})
}

func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	spoil, before := s.spoil, s.before
	s.mu.Unlock()
	if before != nil && before(w) {
		return
	}
	m := s.Image.Manifest
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	p := Page{Digest: m.Root(), Total: len(m.Chunks), From: from, Manifest: m.Head(), Chunks: append([]ndz.ChunkInfo{}, m.Page(from, n)...)}
	if spoil != nil {
		spoil(&p)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // the agent sees what is missing
}

// StartData begins to serve the blocks.
func (s *Service) StartData() {
	s.t.Helper()
	s.StopData()
	conn, err := server.Listen(mcast.Options{Group: s.group(), Port: s.port, Local: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	rate := s.rate
	s.mu.Unlock()
	srv, err := server.New(server.Config{Conn: conn, Image: source{bytes.NewReader(s.Image.File)}, Rate: rate})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("image server: %v", err)
		}
		conn.Close()
	}
}

// StopData ends it, as a crash of the image service would: no word to anybody.
func (s *Service) StopData() {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// source is an image file in memory.
type source struct {
	*bytes.Reader
}
