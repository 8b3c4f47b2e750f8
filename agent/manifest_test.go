package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/internal/lab"
	"loadnode/events"
)

func TestFetchManifest(t *testing.T) {
	image := lab.NewImage(t, 3, 1)
	for name, c := range map[string]struct {
		spoil  func(*lab.Page)
		before func(http.ResponseWriter) bool
		change func(*events.Image)
		want   string // "" for success
		final  bool
	}{
		"as it should be":             {},
		"small pages":                 {spoil: func(p *lab.Page) { p.Chunks = p.Chunks[:min(2, len(p.Chunks))] }},
		"another digest":              {spoil: func(p *lab.Page) { p.Digest[3]++ }, want: "the job is for", final: true},
		"a chunk with another digest": {spoil: func(p *lab.Page) { p.Chunks[1].SHA256[0] ^= 1 }, want: "root digest", final: true},
		"chunks exchanged":            {spoil: func(p *lab.Page) { p.Chunks[0], p.Chunks[1] = p.Chunks[1], p.Chunks[0] }, want: "root digest", final: true},
		"head changed":                {spoil: func(p *lab.Page) { p.Manifest.ShortTail = 7 }, want: "root digest", final: true},
		"head changes between pages": {spoil: func(p *lab.Page) {
			p.Chunks = p.Chunks[:1]
			p.Manifest.ShortTail = p.From
		}, want: "changed between", final: true},
		"another total":   {spoil: func(p *lab.Page) { p.Total++ }, want: "was due", final: true},
		"an empty page":   {spoil: func(p *lab.Page) { p.Chunks = p.Chunks[:0] }, want: "was due", final: true},
		"another page":    {spoil: func(p *lab.Page) { p.From++ }, want: "was due", final: true},
		"too many chunks": {spoil: func(p *lab.Page) { p.Chunks = append(p.Chunks, p.Chunks...) }, want: "was due", final: true},
		"not JSON": {before: func(w http.ResponseWriter) bool {
			_, _ = w.Write([]byte("<html>"))
			return true
		}, want: "invalid character", final: true},
		"a page without end": {before: func(w http.ResponseWriter) bool {
			_, _ = w.Write(bytes.Repeat([]byte(" "), 3<<20))
			return true
		}, want: "more than", final: true},
		"not found": {before: func(w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":{"code":"image","message":"no image has it"}}`))
			return true
		}, want: "no image has it", final: true},
		"never ready":         {before: unavailable(1 << 30), want: "503"},
		"ready after a while": {before: unavailable(2)},
		"no address":          {change: func(i *events.Image) { i.ManifestURL = "ftp://x/" }, want: "not an http address", final: true},
		"no digest":           {change: func(i *events.Image) { i.Digest = "12" }, want: "digest", final: true},
		"too long for anyone": {change: func(i *events.Image) { i.Chunks = 1 << 30 }, want: "chunks", final: true},
		"no chunks":           {change: func(i *events.Image) { i.Chunks = 0 }, want: "chunks", final: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait for the service to be ready
			s := lab.Serve(t, image)
			s.Spoil(c.spoil)
			s.Before(c.before)
			described := s.Describe()
			if c.change != nil {
				c.change(&described)
			}
			web := &http.Client{}
			defer web.CloseIdleConnections()
			m, err := (&fetcher{web: web, clock: SystemClock{}}).manifest(t.Context(), described, time.Second)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, image.Manifest.Root(), m.Root())
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Nil(t, m)
			f := failure(err, stepManifest, nil)
			require.Equal(t, events.ClassImage, f.Class)
			require.Equal(t, !c.final, f.Retryable)
		})
	}
}

func unavailable(times int) func(http.ResponseWriter) bool {
	return func(w http.ResponseWriter) bool {
		if times--; times < 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
}

func TestSameImage(t *testing.T) {
	m := lab.NewImage(t, 3, 2).Manifest
	good := events.Image{Size: m.Size, DiskBytes: m.Bytes(), SectorSize: 512}
	require.NoError(t, sameImage(m, good))
	for name, change := range map[string]func(*events.Image){
		"the file has another size":           func(i *events.Image) { i.Size++ },
		"the disk was judged for less":        func(i *events.Image) { i.DiskBytes-- },
		"the disk was judged for big sectors": func(i *events.Image) { i.SectorSize = 4096 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			require.Equal(t, events.ClassImage, failure(sameImage(m, bad), stepManifest, nil).Class)
		})
	}
}

type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(a)), Request: r}, nil
}

func FuzzManifestPage(f *testing.F) {
	image := lab.NewImage(f, 3, 3).Manifest
	good, err := json.Marshal(lab.Page{Digest: image.Root(), Total: len(image.Chunks), Manifest: image.Head(), Chunks: image.Chunks})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), "512", "513", 1)))
	f.Add([]byte(`{"chunks":null}`))
	want := events.Image{Digest: image.Root().String(), Chunks: len(image.Chunks), ManifestURL: "http://x/"}
	f.Fuzz(func(t *testing.T, page []byte) {
		f := fetcher{web: &http.Client{Transport: answering(page)}, clock: SystemClock{}}
		m, err := f.manifest(context.Background(), want, 0)
		if err == nil && m.Root() != image.Root() {
			t.Fatalf("took a manifest with root %s", m.Root())
		}
	})
}
