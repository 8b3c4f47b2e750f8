package frisbeesvc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/internal/freeport"
	"loadnode/transfer/ndz"
)

const saveLease = "01hzzzzzzzzzzzzzzzzzzzzzz1:1"

// journal is a log that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) use(cfg *Config) {
	cfg.Logger = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func receiveRequest(image string) events.ReceiveRequest {
	return events.ReceiveRequest{Image: image, Lease: saveLease, Provenance: events.Provenance{
		Testbed: bustest.Testbed, Job: saveLease[:26], Node: "n1-1", Disk: "/dev/sda", Requester: "mike",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
}

func (b *bench) receive(req events.ReceiveRequest) events.Place {
	b.t.Helper()
	var p events.Place
	require.NoError(b.t, b.ask(events.FrisbeeReceive, req, &p))
	return p
}

func (b *bench) abandon(lease string) {
	b.t.Helper()
	require.NoError(b.t, b.ask(events.FrisbeeAbandon, events.LeaseRelease{Lease: lease}, nil))
}

// path is the way to a place on the test's own web server.
func (b *bench) path(p events.Place) string {
	b.t.Helper()
	rest, ok := strings.CutPrefix(p.URL, b.cfg.HTTPBase)
	require.True(b.t, ok, p.URL)
	return rest
}

func trailers(data []byte) http.Header {
	sum := sha256.Sum256(data)
	return http.Header{trailerLength: {strconv.Itoa(len(data))}, trailerDigest: {hex.EncodeToString(sum[:])}}
}

// send sends an image as an agent does; the trailers are what it says it sent.
func (b *bench) send(p events.Place, body io.Reader, trailer http.Header) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPut, b.web.URL+b.path(p), io.MultiReader(body)) // of unknown length
	require.NoError(b.t, err)
	req.Header.Set("Authorization", "Bearer "+p.Token)
	req.Trailer = trailer
	resp, err := b.web.Client().Do(req)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// hidden lists what lies in the image directory beside images and manifests.
func (b *bench) hidden() []string {
	b.t.Helper()
	var out []string
	require.NoError(b.t, filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went away meanwhile
		}
		if err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			out = append(out, d.Name())
		}
		return err
	}))
	return out
}

// requireNothing says that an image is not there, and nothing of it.
func (b *bench) requireNothing(image string) {
	b.t.Helper()
	require.Empty(b.t, b.hidden())
	require.Equal(b.t, events.CodeImage, b.code(events.FrisbeeCheck, events.ImageQuery{Image: image}))
	require.Empty(b.t, b.facts(image))
	_, err := os.Stat(filepath.Join(b.dir, image+".manifest.json"))
	require.ErrorIs(b.t, err, fs.ErrNotExist)
}

// awaitPlace waits until the place of the test's lease is in a state.
func (b *bench) awaitPlace(image, state string) events.Place {
	b.t.Helper()
	var p events.Place
	require.Eventually(b.t, func() bool { p = b.receive(receiveRequest(image)); return p.State == state }, patience, time.Millisecond,
		"the place is never %s", state)
	return p
}

func TestSave(t *testing.T) {
	var log journal
	b := newBench(t, log.use).start()
	data := makeImage(t, 1, 3)
	p := b.receive(receiveRequest("lab/a.ndz"))
	require.Equal(t, events.PlaceOpen, p.State)
	require.Len(t, p.Token, 43, "256 bits")
	require.Equal(t, b.clock.Now().Add(DefaultSaveLife), p.Expires)
	require.Equal(t, p, b.receive(receiveRequest("lab/a.ndz")), "the same lease, the same place")
	var view events.Place
	read(t, b.do("GET", b.path(p), nil), &view)
	require.Equal(t, events.PlaceOpen, view.State)
	require.Empty(t, view.Token)

	resp := b.send(p, bytes.NewReader(data), trailers(data))
	require.Equal(t, 201, resp.StatusCode)
	var im events.Image
	read(t, resp, &im)
	require.Equal(t, manifestOf(t, data).Root().String(), im.Digest)
	require.Equal(t, "lab/a.ndz", im.Name)
	require.EqualValues(t, len(data), im.Size)
	_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "lab/a.ndz"), events.KindImageAdded)
	from := receiveRequest("lab/a.ndz").Provenance
	require.Equal(t, events.ImageAdded{Image: im, Owner: "mike", Origin: "save", Provenance: &from}, d)
	var checked events.Image
	require.NoError(t, b.ask(events.FrisbeeCheck, events.ImageQuery{Image: "lab/a.ndz"}, &checked))
	require.Equal(t, im, checked)
	require.Empty(t, b.hidden())

	stored := b.receive(receiveRequest("lab/a.ndz"))
	require.Equal(t, events.PlaceStored, stored.State)
	require.Equal(t, &im, stored.Stored)
	require.Empty(t, stored.Token)
	b.abandon(saveLease)
	require.Equal(t, events.PlaceStored, b.receive(receiveRequest("lab/a.ndz")).State, "what is stored stays")
	var list events.PlaceList
	require.NoError(t, b.ask(events.FrisbeePlaces, events.Empty{}, &list))
	require.Len(t, list.Places, 1)
	require.EqualValues(t, len(data), list.Places[0].Bytes)

	b.restart()
	again := b.receive(receiveRequest("lab/a.ndz"))
	require.Equal(t, events.PlaceStored, again.State, "the manifest knows the lease")
	require.Equal(t, &im, again.Stored)
	other := receiveRequest("lab/a.ndz")
	other.Lease = "other:1"
	require.Equal(t, events.CodeConflict, b.code(events.FrisbeeReceive, other))
	require.Equal(t, []events.Kind{events.KindImageAdded}, b.facts("lab/a.ndz"))
	require.NotContains(t, log.String(), p.Token)
}

func TestSaveRefusals(t *testing.T) {
	data := makeImage(t, 1, 2)
	wrong := trailers(data)
	wrong.Set(trailerDigest, strings.Repeat("0", 64))
	longer := trailers(data)
	longer.Set(trailerLength, strconv.Itoa(len(data)+1))
	for name, c := range map[string]struct {
		body    []byte
		trailer http.Header
		status  int
		says    string
	}{
		"no trailers":        {data, nil, 400, "must follow the image"},
		"one trailer":        {data, http.Header{trailerLength: {strconv.Itoa(len(data))}}, 400, "must follow the image"},
		"wrong digest":       {data, wrong, 400, "SHA-256"},
		"wrong length":       {data, longer, 400, "the sender sent"},
		"short":              {data[:1<<20], trailers(data), 400, "the sender sent"},
		"cut off inside":     {data[:len(data)-7], trailers(data[:len(data)-7]), 422, "truncated"},
		"not an image":       {[]byte("garbage"), trailers([]byte("garbage")), 422, "truncated"},
		"nothing":            {nil, trailers(nil), 422, "empty"},
		"not a whole number": {data, http.Header{trailerLength: {"+1"}, trailerDigest: trailers(data)[trailerDigest]}, 400, "number of bytes"},
		"not hexadecimal":    {data, http.Header{trailerLength: trailers(data)[trailerLength], trailerDigest: {"zz"}}, 400, "hexadecimal"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).start()
			p := b.receive(receiveRequest("a.ndz"))
			resp := b.send(p, bytes.NewReader(c.body), c.trailer)
			require.Equal(t, c.status, resp.StatusCode)
			require.Contains(t, refusal(t, resp).Message, c.says)
			failed := b.receive(receiveRequest("a.ndz"))
			require.Equal(t, events.PlaceFailed, failed.State)
			require.Contains(t, failed.Message, c.says)
			b.requireNothing("a.ndz")
			next := receiveRequest("a.ndz")
			next.Lease = saveLease[:27] + "2"
			q := b.receive(next)
			require.NotEqual(t, p.URL, q.URL)
			require.Equal(t, 201, b.send(q, bytes.NewReader(data), trailers(data)).StatusCode, "the next attempt succeeds")
		})
	}
}

func TestSaveTokens(t *testing.T) {
	var log journal
	b := newBench(t, log.use).start()
	data := makeImage(t, 1, 2)
	p := b.receive(receiveRequest("a.ndz"))
	for name, c := range map[string]struct {
		headers []string
		status  int
	}{
		"none":       {nil, 401},
		"not bearer": {[]string{"Authorization", "Basic " + p.Token}, 401},
		"empty":      {[]string{"Authorization", "Bearer "}, 401},
		"enormous":   {[]string{"Authorization", "Bearer " + strings.Repeat("x", 500)}, 401},
		"wrong":      {[]string{"Authorization", "Bearer " + strings.Repeat("x", 43)}, 403},
		"shorter":    {[]string{"Authorization", "Bearer " + p.Token[:42]}, 403},
	} {
		resp := b.do("PUT", b.path(p), bytes.NewReader(data), c.headers...)
		require.Equal(t, c.status, resp.StatusCode, name)
		refusal(t, resp)
	}
	require.Equal(t, 404, b.do("PUT", "/v1/save/0123", nil, "Authorization", "Bearer "+p.Token).StatusCode)
	require.Equal(t, 404, b.do("GET", "/v1/save/0123", nil).StatusCode)
	require.Equal(t, 405, b.do("POST", b.path(p), nil).StatusCode)
	require.Equal(t, events.PlaceOpen, b.receive(receiveRequest("a.ndz")).State, "nobody has used the token up")

	require.Equal(t, 201, b.send(p, bytes.NewReader(data), trailers(data)).StatusCode)
	require.NotContains(t, log.String(), "a second time")
	resp := b.send(p, bytes.NewReader(data), trailers(data))
	require.Equal(t, 409, resp.StatusCode)
	require.Equal(t, events.CodeRefused, refusal(t, resp).Code)
	require.Contains(t, log.String(), "level=ERROR")
	require.Contains(t, log.String(), "a second time")
	require.NotContains(t, log.String(), p.Token)
}

func TestReceiveRefusals(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, "there.ndz", makeImage(t, 1, 2))
	require.NoError(t, os.Mkdir(filepath.Join(b.dir, "lab"), 0o755))
	b.start()
	for name, c := range map[string]struct {
		change func(*events.ReceiveRequest)
		code   events.Code
	}{
		"a path":           {func(r *events.ReceiveRequest) { r.Image = "../a.ndz" }, events.CodeBadRequest},
		"no name":          {func(r *events.ReceiveRequest) { r.Image = "" }, events.CodeBadRequest},
		"no lease":         {func(r *events.ReceiveRequest) { r.Lease = "" }, events.CodeBadRequest},
		"lease with blank": {func(r *events.ReceiveRequest) { r.Lease = "a b" }, events.CodeBadRequest},
		"port and file":    {func(r *events.ReceiveRequest) { r.Plain, r.Directory = true, true }, events.CodeBadRequest},
		"negative life":    {func(r *events.ReceiveRequest) { r.Life = -1 }, events.CodeBadRequest},
		"long requester":   {func(r *events.ReceiveRequest) { r.Provenance.Requester = strings.Repeat("x", 300) }, events.CodeBadRequest},
		"control bytes":    {func(r *events.ReceiveRequest) { r.Provenance.Node = "a\nb" }, events.CodeBadRequest},
		"an image":         {func(r *events.ReceiveRequest) { r.Image = "there.ndz" }, events.CodeConflict},
		"a directory":      {func(r *events.ReceiveRequest) { r.Image = "lab" }, events.CodeConflict},
	} {
		req := receiveRequest("new.ndz")
		c.change(&req)
		require.Equal(t, c.code, b.code(events.FrisbeeReceive, req), name)
	}
	require.Empty(t, b.svc.current.places.all())

	b.receive(receiveRequest("new.ndz"))
	same := receiveRequest("other.ndz")
	require.Equal(t, events.CodeConflict, b.code(events.FrisbeeReceive, same), "the lease has another place")
	taken := receiveRequest("new.ndz")
	taken.Lease = "other:1"
	require.Equal(t, events.CodeConflict, b.code(events.FrisbeeReceive, taken), "the name is another's")
	require.Equal(t, 409, b.do("PUT", "/v1/images/new.ndz", bytes.NewReader(makeImage(t, 1, 2))).StatusCode, "nor may it be uploaded")

	for i := range maxPlaces - 1 {
		req := receiveRequest(fmt.Sprintf("n%d.ndz", i))
		req.Lease = fmt.Sprintf("many:%d", i)
		b.receive(req)
	}
	more := receiveRequest("more.ndz")
	more.Lease = "many:more"
	require.Equal(t, events.CodeBusy, b.code(events.FrisbeeReceive, more))
	b.abandon("many:0")
	b.receive(more)
	for i := range 3 * maxPlaces { // what has ended is not remembered for ever
		b.abandon("many:more")
		more.Lease, more.Image = "many:more", fmt.Sprintf("more%d.ndz", i)
		b.svc.current.places.mu.Lock()
		b.svc.current.places.find("many:more").lease = fmt.Sprintf("old:%d", i)
		b.svc.current.places.mu.Unlock()
		b.receive(more)
	}
	var list events.PlaceList
	require.NoError(t, b.ask(events.FrisbeePlaces, events.Empty{}, &list))
	require.Less(t, len(list.Places), 2*maxPlaces+1)
	for _, p := range list.Places {
		require.Empty(t, p.Token)
	}
}

// sending is a request of which the test decides when what is sent.
type sending struct {
	t    *testing.T
	conn net.Conn
	body io.WriteCloser
}

func (b *bench) sending(t *testing.T, p events.Place) *sending {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.web.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\nTrailer: %s, %s\r\n\r\n",
		b.path(p), p.Token, trailerLength, trailerDigest)
	require.NoError(t, err)
	return &sending{t, conn, httputil.NewChunkedWriter(conn)}
}

func (s *sending) write(data []byte) {
	s.t.Helper()
	_, err := s.body.Write(data)
	require.NoError(s.t, err)
}

// awaitClosed waits until the service has closed the connection, and returns
// what it said before.
func (s *sending) awaitClosed() string {
	s.t.Helper()
	require.NoError(s.t, s.conn.SetReadDeadline(time.Now().Add(patience)))
	said, err := io.ReadAll(s.conn)
	if err != nil {
		require.NotErrorIs(s.t, err, os.ErrDeadlineExceeded, "the connection stays open")
	}
	return string(said)
}

func (b *bench) awaitBytes(image string, n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.receive(receiveRequest(image)).Bytes >= int64(n) }, patience, time.Millisecond)
}

func TestSaveIsAbandoned(t *testing.T) {
	b := newBench(t).start()
	data := makeImage(t, 1, 2)
	b.abandon("unknown:1")
	p := b.receive(receiveRequest("a.ndz"))
	s := b.sending(t, p)
	s.write(data[:1<<20])
	b.awaitBytes("a.ndz", 1<<20)
	require.Equal(t, []string{".a.ndz.saving"}, b.hidden())
	require.Equal(t, events.CodeImage, b.code(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}))
	b.abandon(saveLease)
	b.requireNothing("a.ndz") // at once
	require.Contains(t, s.awaitClosed(), "409 Conflict")
	failed := b.receive(receiveRequest("a.ndz"))
	require.Equal(t, events.PlaceFailed, failed.State)
	require.Contains(t, failed.Message, "given up")
	require.Empty(t, failed.Token)

	next := receiveRequest("a.ndz")
	next.Lease = "other:1"
	q := b.receive(next)
	b.abandon("other:1")
	require.Equal(t, 409, b.send(q, bytes.NewReader(data), trailers(data)).StatusCode, "an open place is over as well")
}

func TestSaveExpires(t *testing.T) {
	b := newBench(t).start()
	req := receiveRequest("a.ndz")
	req.Life = events.Duration(time.Minute)
	p := b.receive(req)
	s := b.sending(t, p)
	s.write(makeImage(t, 1, 2)[:1<<20])
	b.awaitBytes("a.ndz", 1<<20)
	open := receiveRequest("open.ndz")
	open.Lease, open.Life = "open:1", events.Duration(time.Minute)
	b.receive(open)
	long := receiveRequest("long.ndz")
	long.Lease = "long:1"
	b.receive(long)
	b.clock.step(t, 70*time.Second)
	require.Contains(t, s.awaitClosed(), "409 Conflict")
	require.Contains(t, b.awaitPlace("a.ndz", events.PlaceFailed).Message, "expired")
	b.requireNothing("a.ndz")
	require.Equal(t, events.PlaceFailed, b.receive(open).State)
	require.Equal(t, events.PlaceOpen, b.receive(long).State)
}

func TestSaveStalls(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.SaveStall = 100 * time.Millisecond }).start()
	p, data := b.receive(receiveRequest("a.ndz")), makeImage(t, 1, 2)
	s := b.sending(t, p)
	_, _ = s.body.Write(data[:4096]) // which may be too late already
	require.Contains(t, s.awaitClosed(), "408 Request Timeout")
	require.Contains(t, b.awaitPlace("a.ndz", events.PlaceFailed).Message, "silent")
	b.requireNothing("a.ndz")
}

func TestSaveOverRestart(t *testing.T) {
	b := newBench(t).start()
	data := makeImage(t, 1, 2)
	p := b.receive(receiveRequest("a.ndz"))
	s := b.sending(t, p)
	s.write(data[:1<<20])
	b.awaitBytes("a.ndz", 1<<20)
	b.restart()
	s.awaitClosed()
	b.requireNothing("a.ndz")
	require.Equal(t, 404, b.do("GET", b.path(p), nil).StatusCode, "an open place is gone")
	q := b.receive(receiveRequest("a.ndz"))
	require.Equal(t, events.PlaceOpen, q.State)
	require.NotEqual(t, p.URL, q.URL)
	require.Equal(t, 201, b.send(q, bytes.NewReader(data), trailers(data)).StatusCode)
}

// A crash leaves a file that nobody can go on with.
func TestSaveLeftByACrash(t *testing.T) {
	b := newBench(t)
	put(t, b.dir, ".a.ndz.saving", []byte("half"))
	put(t, b.dir, "lab/.b.ndz.saving", []byte("half"))
	put(t, b.dir, ".c.ndz.partial", []byte("half"))
	b.start()
	require.Eventually(t, func() bool { return len(b.hidden()) == 1 }, patience, time.Millisecond)
	require.Equal(t, []string{".c.ndz.partial"}, b.hidden(), "an upload can be gone on with")
}

// Somebody copies a file to the name while the image comes.
func TestSaveLosesItsName(t *testing.T) {
	b := newBench(t).start()
	data, other := makeImage(t, 1, 2), makeImage(t, 2, 2)
	s := b.sending(t, b.receive(receiveRequest("a.ndz")))
	s.write(data)
	b.awaitBytes("a.ndz", len(data))
	put(t, b.dir, "a.ndz", other)
	require.NoError(t, s.body.Close())
	require.NoError(t, trailers(data).Write(s.conn))
	_, err := io.WriteString(s.conn, "\r\n")
	require.NoError(t, err)
	require.Contains(t, s.awaitClosed(), "409 Conflict")
	require.Empty(t, b.hidden())
	var im events.Image
	require.NoError(t, b.ask(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}, &im))
	require.Equal(t, manifestOf(t, other).Root().String(), im.Digest, "it is not measured by the manifest of the other")
	require.Equal(t, events.PlaceFailed, b.receive(receiveRequest("a.ndz")).State)
}

func TestSaveRace(t *testing.T) {
	b := newBench(t).start()
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes, urls := map[events.Code]int{}, map[string]bool{}
	for i := range 16 {
		wg.Go(func() {
			req := receiveRequest("a.ndz")
			req.Lease = fmt.Sprintf("race:%d", i%2)
			var p events.Place
			err := b.ask(events.FrisbeeReceive, req, &p)
			mu.Lock()
			defer mu.Unlock()
			var e *events.Error
			if errors.As(err, &e) {
				codes[e.Code]++
			} else if err == nil {
				urls[p.URL] = true
			}
		})
	}
	wg.Wait()
	require.Equal(t, map[events.Code]int{events.CodeConflict: 8}, codes)
	require.Len(t, urls, 1)
}

// Whatever the point at which the connection breaks, no image is visible, and
// once the place is abandoned or expired nothing is left of it.
func TestSaveCutAnywhere(t *testing.T) {
	data := makeImage(t, 1, 2)
	b := newBench(t).start()
	var whole bytes.Buffer
	chunked := httputil.NewChunkedWriter(&whole)
	for part := range slices.Chunk(data, 300_000) {
		_, err := chunked.Write(part)
		require.NoError(t, err)
	}
	require.NoError(t, chunked.Close())
	require.NoError(t, trailers(data).Write(&whole))
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		// A chunk boundary, the end of the data and the trailers are the interesting places.
		cut := rapid.OneOf(rapid.IntRange(0, whole.Len()), rapid.IntRange(whole.Len()-200, whole.Len()),
			rapid.SampledFrom([]int{0, 1, 1 << 20, 2 << 20, 3 << 20})).Draw(rt, "cut")
		reset, hasty := rapid.Bool().Draw(rt, "reset"), rapid.Bool().Draw(rt, "hasty")
		round++
		req := receiveRequest("a.ndz")
		req.Lease = fmt.Sprintf("cut:%d", round)
		p := b.receive(req)
		s := b.sending(t, p)
		_, err := s.conn.Write(whole.Bytes()[:min(cut, whole.Len())])
		require.NoError(t, err)
		if reset {
			require.NoError(t, s.conn.(*net.TCPConn).SetLinger(0))
		}
		s.conn.Close()
		if !hasty && !reset { // a reset may be all that the service gets
			require.Eventually(t, func() bool { return b.receive(req).State == events.PlaceFailed }, patience, time.Millisecond)
		}
		b.abandon(req.Lease)
		require.Empty(t, b.hidden())
		require.Equal(t, events.PlaceFailed, b.receive(req).State)
		require.Equal(t, events.CodeImage, b.code(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}))
	})
	require.Empty(t, b.facts("a.ndz"))
}

func plainRequest(image string) events.ReceiveRequest {
	req := receiveRequest(image)
	req.Plain = true
	return req
}

// netcat sends data as the bare program does.
func netcat(t *testing.T, p events.Place, data []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address)
	require.NoError(t, err)
	_, err = conn.Write(data)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func plainPorts(t *testing.T) func(*Config) {
	return func(cfg *Config) { cfg.SavePort, cfg.SavePorts = freeport.TCP(t, "127.0.0.1"), 20 }
}

func (b *bench) awaitPlain(req events.ReceiveRequest, state string) events.Place {
	b.t.Helper()
	var p events.Place
	require.Eventually(b.t, func() bool { p = b.receive(req); return p.State == state }, patience, time.Millisecond)
	return p
}

func TestSavePlain(t *testing.T) {
	b := newBench(t, plainPorts(t)).start()
	data := makeImage(t, 1, 3)
	p := b.receive(plainRequest("a.ndz"))
	require.Equal(t, fmt.Sprintf("127.91.0.1:%d", b.cfg.SavePort), p.Address)
	require.Empty(t, p.URL)
	require.Empty(t, p.Token)
	second := plainRequest("b.ndz")
	second.Lease = "second:1"
	require.Equal(t, fmt.Sprintf("127.91.0.1:%d", b.cfg.SavePort+1), b.receive(second).Address)
	netcat(t, p, data)
	stored := b.awaitPlain(plainRequest("a.ndz"), events.PlaceStored)
	require.Equal(t, manifestOf(t, data).Root().String(), stored.Stored.Digest)
	_, err := net.Dial("tcp", p.Address)
	require.Error(t, err, "one connection")
	im, err := b.svc.cat.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.True(t, im.Provenance.Undigested, "the manifest says that no digest came with it")
	require.Equal(t, "n1-1", im.Provenance.Node)

	b.abandon("second:1")
	_, err = net.Dial("tcp", fmt.Sprintf("127.91.0.1:%d", b.cfg.SavePort+1))
	require.Error(t, err)
}

func TestSavePlainTruncated(t *testing.T) {
	whole := makeImage(t, 1, 3) // each chunk but the last is full
	require.Greater(t, len(whole), 3*ndz.ChunkSize)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"inside a chunk":     {whole[:len(whole)-100], "truncated"},
		"between two chunks": {whole[:2*ndz.ChunkSize], "cut off"},
		"nothing":            {nil, "empty"},
		"garbage":            {bytes.Repeat([]byte("garbage!"), ndz.ChunkSize/8), "magic"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, plainPorts(t)).start()
			netcat(t, b.receive(plainRequest("a.ndz")), c.data)
			require.Contains(t, b.awaitPlain(plainRequest("a.ndz"), events.PlaceFailed).Message, c.says)
			b.requireNothing("a.ndz")
		})
	}
}

func TestSavePlainStallsAndEnds(t *testing.T) {
	b := newBench(t, plainPorts(t), func(cfg *Config) { cfg.SaveStall, cfg.SavePorts = 50*time.Millisecond, 1 }).start()
	p := b.receive(plainRequest("a.ndz"))
	other := plainRequest("b.ndz")
	other.Lease = "other:1"
	require.Equal(t, events.CodeBusy, b.code(events.FrisbeeReceive, other), "no port is left")
	conn, err := net.Dial("tcp", p.Address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(makeImage(t, 1, 2)[:4096])
	require.NoError(t, err)
	require.Contains(t, b.awaitPlain(plainRequest("a.ndz"), events.PlaceFailed).Message, "silent")
	b.requireNothing("a.ndz")

	p = b.receive(other)
	conn, err = net.Dial("tcp", p.Address)
	require.NoError(t, err)
	defer conn.Close()
	b.awaitPlain(other, events.PlaceReceiving)
	b.abandon("other:1")
	require.Equal(t, events.PlaceFailed, b.receive(other).State)
	b.requireNothing("b.ndz")
}

func TestSaveConfig(t *testing.T) {
	good := newBench(t).cfg
	for name, change := range map[string]func(*Config){
		"life":  func(c *Config) { c.SaveLife = -1 },
		"stall": func(c *Config) { c.SaveStall = -1 },
		"ports": func(c *Config) { c.SavePort, c.SavePorts = 65535, 2 },
		"dir":   func(c *Config) { c.SaveDir = filepath.Join(c.Images, "missing") },
	} {
		cfg := good
		change(&cfg)
		_, err := New(cfg)
		require.ErrorIs(t, err, ErrConfig, name)
	}
}

func FuzzTrailers(f *testing.F) {
	f.Add("1", strings.Repeat("0", 64))
	f.Add("", "")
	f.Add("-1", "zz")
	f.Add("9223372036854775807", strings.Repeat("F", 64))
	f.Fuzz(func(t *testing.T, length, digest string) {
		n, d, err := parseTrailers(http.Header{trailerLength: {length}, trailerDigest: {digest}})
		if err != nil {
			require.Zero(t, n)
			require.Equal(t, ndz.Digest{}, d)
			return
		}
		require.GreaterOrEqual(t, n, int64(0))
		require.Equal(t, strings.ToLower(digest), d.String())
	})
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer abc")
	f.Add("Bearer ")
	f.Add("bearer a b")
	f.Fuzz(func(t *testing.T, value string) {
		token, err := bearer([]string{value})
		if err != nil {
			require.ErrorIs(t, err, errNoToken)
			return
		}
		require.NotEmpty(t, token)
		require.True(t, strings.HasSuffix(value, " "+token))
	})
}

// The check of a long image outlasts the patience with its sender.
func TestImpatient(t *testing.T) {
	var deadlines []time.Time
	b := &impatient{r: strings.NewReader("ab"), first: time.Hour, rest: time.Minute,
		setDeadline: func(d time.Time) error { deadlines = append(deadlines, d); return nil }}
	_, err := b.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Greater(t, time.Until(deadlines[0]), 50*time.Minute)
	_, err = b.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Less(t, time.Until(deadlines[1]), 2*time.Minute)
	b.release()
	require.True(t, deadlines[2].IsZero())
	b.stop(errAbandoned) // too late
	require.Len(t, deadlines, 3)
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	stopped := &impatient{r: strings.NewReader("ab"), setDeadline: func(time.Time) error { return nil }}
	stopped.stop(errAbandoned)
	_, err = stopped.Read(make([]byte, 1))
	require.ErrorIs(t, err, errAbandoned)
}
