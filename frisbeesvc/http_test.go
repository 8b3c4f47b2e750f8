package frisbeesvc

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/ndz"
)

// do sends a request; headers come in pairs.
func (b *bench) do(method, path string, body io.Reader, headers ...string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.web.URL+path, body)
	require.NoError(b.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := b.web.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func read(t testing.TB, r *http.Response, v any) {
	t.Helper()
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.NoError(t, json.NewDecoder(r.Body).Decode(v))
}

// refusal is the error of an answer.
func refusal(t testing.TB, r *http.Response) *events.Error {
	t.Helper()
	var body struct{ Error *events.Error }
	read(t, r, &body)
	require.NotNil(t, body.Error)
	require.NotEmpty(t, body.Error.Message)
	return body.Error
}

func reprDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestHTTPManifestPages(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 6)
	put(t, b.dir, "a.ndz", data)
	b.start()
	im := b.serve("a.ndz", "job").Image
	m := manifestOf(t, data)
	path := strings.TrimPrefix(im.ManifestURL, b.cfg.HTTPBase)
	for _, n := range []int{1, 3, 7, 1000, 1 << 30} {
		var chunks []ndz.ChunkInfo
		var page ManifestPage
		for page.Total == 0 || len(chunks) < page.Total {
			resp := b.do("GET", fmt.Sprintf("%s?from=%d&n=%d", path, len(chunks), n), nil)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			page = ManifestPage{}
			read(t, resp, &page)
			require.Equal(t, len(chunks), page.From)
			require.NotEmpty(t, page.Chunks)
			require.LessOrEqual(t, len(page.Chunks), n)
			chunks = append(chunks, page.Chunks...)
		}
		root, err := ndz.ParseDigest(im.Digest)
		require.NoError(t, err)
		got, err := ndz.Assemble(page.Manifest, chunks, root)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	resp := b.do("GET", path+"?from=7", nil)
	var raw map[string]json.RawMessage
	read(t, resp, &raw)
	require.Equal(t, "[]", string(raw["chunks"]), "never null")
	require.NotContains(t, string(raw["manifest"]), "chunks")
	resp = b.do("GET", path, nil)
	tag := resp.Header.Get("ETag")
	require.Contains(t, resp.Header.Get("Cache-Control"), "immutable")
	require.Equal(t, http.StatusNotModified, b.do("GET", path, nil, "If-None-Match", tag).StatusCode)

	for query, status := range map[string]int{
		"?from=8": 400, "?from=-1": 400, "?n=0": 400, "?n=-5": 400, "?from=x": 400, "?from=1&from=2": 400, "?from=": 400,
		"?from=99999999999999999999": 400, "?from=%zz": 400, "?n=+1": 400, "?from=0x1": 400,
	} {
		resp := b.do("GET", path+query, nil)
		require.Equal(t, status, resp.StatusCode, query)
		require.Equal(t, events.CodeBadRequest, refusal(t, resp).Code)
	}
	require.Eventually(t, func() bool { return b.svc.current.scanned.Load() }, patience, 1e6)
	for digest, status := range map[string]int{
		strings.Repeat("ab", 32): 404, strings.ToUpper(im.Digest): 400, "xyz": 400, im.Digest + "00": 400, "%00": 400,
	} {
		require.Equal(t, status, b.do("GET", "/v1/manifests/"+digest, nil).StatusCode, digest)
	}
}

// A node may ask for the manifest of its session whatever became of the file,
// and is not sent away for good while a restarted service is still looking.
func TestHTTPManifestOfASession(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 2)
	p := put(t, b.dir, "a.ndz", data)
	b.start()
	im := b.serve("a.ndz", "job").Image
	path := strings.TrimPrefix(im.ManifestURL, b.cfg.HTTPBase)
	require.NoError(t, os.Remove(p))
	require.NoError(t, os.Remove(p+".manifest.json"))
	require.Equal(t, events.CodeImage, b.code(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}))
	for _, other := range []string{"b.ndz", "c.ndz"} {
		put(t, b.dir, other, makeImage(t, other[0], 2))
		require.NoError(t, b.ask(events.FrisbeeAdd, events.ImageQuery{Image: other}, nil))
	}
	require.Equal(t, 200, b.do("GET", path, nil).StatusCode)
	require.NoError(t, b.node(1, b.status().Sessions[0].Session, manifestOf(t, data)).load(t.Context()), "the open file is still what it was")

	looking := &term{s: b.svc, ctx: t.Context(), images: map[string]*image{}}
	_, err := looking.manifest(t.Context(), ndz.Digest{1})
	var e *events.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, events.CodeUnavailable, e.Code)
	looking.scanned.Store(true)
	_, err = looking.manifest(t.Context(), ndz.Digest{1})
	require.ErrorIs(t, err, catalogue.ErrNotFound)
	looking.images["x"] = &image{name: "x", live: &live{record: events.ImageServed{Image: events.Image{Digest: ndz.Digest{1}.String()}}}}
	_, err = looking.manifest(t.Context(), ndz.Digest{1})
	require.ErrorAs(t, err, &e)
}

func TestHTTPDownload(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 3)
	p := put(t, b.dir, "lab/a.ndz", data)
	b.start()
	resp := b.do("GET", "/v1/images/lab/a.ndz", nil)
	require.Equal(t, 200, resp.StatusCode)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, data, got)
	root := manifestOf(t, data).Root().String()
	require.Equal(t, `"`+root+`"`, resp.Header.Get("ETag"))
	require.Equal(t, root, resp.Header.Get("Digest-SHA256-Root"))

	resp = b.do("GET", "/v1/images/lab/a.ndz", nil, "Range", "bytes=1048570-1048585")
	require.Equal(t, 206, resp.StatusCode)
	got, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, data[1048570:1048586], got)
	resp = b.do("GET", "/v1/images/lab/a.ndz", nil, "Range", "bytes=0-1", "If-Range", `"other"`)
	require.Equal(t, 200, resp.StatusCode, "another content: the whole file")
	require.Equal(t, 416, b.do("GET", "/v1/images/lab/a.ndz", nil, "Range", "bytes=99999999-").StatusCode)
	require.Equal(t, 304, b.do("GET", "/v1/images/lab/a.ndz", nil, "If-None-Match", `"`+root+`"`).StatusCode)
	require.Equal(t, 412, b.do("GET", "/v1/images/lab/a.ndz", nil, "If-Match", `"other"`).StatusCode)
	resp = b.do("HEAD", "/v1/images/lab/a.ndz", nil)
	require.Equal(t, 200, resp.StatusCode)
	require.EqualValues(t, len(data), resp.ContentLength)
	require.Equal(t, "?1", resp.Header.Get("Upload-Complete"))

	for path, status := range map[string]int{
		"/v1/images/none.ndz": 404, "/v1/images/": 400, "/v1/images/.hidden": 400, "/v1/images/a/b/c": 400, "/v1/images/lab%2fa.ndz": 200,
		"/v1/images/%2e%2e%2fetc%2fpasswd": 400, "/v1/images/../../etc/passwd": 307,
		"/v1/images/..%2f..%2fetc/passwd": 400, "/v1/images/a%00b": 400, "/v1/images/lab/a.ndz.manifest.json": 400,
		"/v1/images/lab": 422, "/v1/images/..%5c..%5cx": 400,
	} {
		require.Equal(t, status, b.do("GET", path, nil).StatusCode, path)
	}
	var list events.ImageList
	read(t, b.do("GET", "/v1/images", nil), &list)
	require.Len(t, list.Images, 1)
	require.Equal(t, root, list.Images[0].Digest)
	var st events.FrisbeeState
	b.serve("lab/a.ndz", "job")
	read(t, b.do("GET", "/v1/sessions", nil), &st)
	require.Equal(t, []string{"job"}, st.Sessions[0].Leases)
	for path, method := range map[string]string{"/v1/images": "POST", "/v1/images/lab/a.ndz": "PATCH", "/v1/sessions": "DELETE", "/v1/manifests/" + root: "PUT"} {
		resp := b.do(method, path, nil)
		require.Equal(t, 405, resp.StatusCode)
		require.Contains(t, resp.Header.Get("Allow"), "GET")
		refusal(t, resp)
	}

	// Spoiled behind the back of a download: it breaks off.
	resp = b.do("GET", "/v1/images/lab/a.ndz", nil, "Range", "bytes=0-10")
	require.Equal(t, 206, resp.StatusCode)
	flip(t, p, 1<<20+77_777)
	require.Equal(t, 422, b.do("GET", "/v1/images/lab/a.ndz", nil).StatusCode)
	bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "lab/a.ndz"), events.KindImageDamaged)
}

func TestHTTPUpload(t *testing.T) {
	b := newBench(t).start()
	data := makeImage(t, 1, 2)
	resp := b.do("PUT", "/v1/images/lab/a.ndz", bytes.NewReader(data), "Repr-Digest", reprDigest(data), "If-None-Match", "*", "X-Owner", "mike",
		"Content-Type", "application/octet-stream")
	require.Equal(t, 201, resp.StatusCode)
	var im events.Image
	read(t, resp, &im)
	require.Equal(t, manifestOf(t, data).Root().String(), im.Digest)
	require.Equal(t, "/v1/images/lab/a.ndz", resp.Header.Get("Location"))
	_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "lab/a.ndz"), events.KindImageAdded)
	require.Equal(t, events.ImageAdded{Image: im, Owner: "mike", Origin: "upload"}, d)

	require.Equal(t, 409, b.do("PUT", "/v1/images/lab/a.ndz", bytes.NewReader(data)).StatusCode)
	require.Equal(t, 412, b.do("PUT", "/v1/images/lab/a.ndz", bytes.NewReader(data), "If-None-Match", "*").StatusCode)
	require.Equal(t, 412, b.do("PUT", "/v1/images/new.ndz", bytes.NewReader(data), "If-Match", "*").StatusCode)

	size := strconv.Itoa(len(data))
	for name, tc := range map[string]struct {
		body    io.Reader
		headers []string
		status  int
	}{
		"truncated":           {bytes.NewReader(data[:len(data)-9]), nil, 422},
		"garbage":             {strings.NewReader("garbage"), nil, 422},
		"empty":               {nil, nil, 422},
		"other digest":        {bytes.NewReader(data), []string{"Repr-Digest", reprDigest([]byte("x"))}, 422},
		"bad digest":          {bytes.NewReader(data), []string{"Repr-Digest", "sha-256=abc"}, 400},
		"form":                {bytes.NewReader(data), []string{"Content-Type", "multipart/form-data; boundary=x"}, 415},
		"bad type":            {bytes.NewReader(data), []string{"Content-Type", ";;"}, 415},
		"compressed":          {bytes.NewReader(data), []string{"Content-Encoding", "gzip"}, 415},
		"etag":                {bytes.NewReader(data), []string{"If-None-Match", `"x"`}, 400},
		"owner":               {bytes.NewReader(data), []string{"X-Owner", strings.Repeat("x", 500)}, 400},
		"bad range":           {bytes.NewReader(data), []string{"Content-Range", "bytes 0-1"}, 400},
		"range beyond":        {bytes.NewReader(data), []string{"Content-Range", "bytes 0-9/5"}, 400},
		"range and body":      {bytes.NewReader(data), []string{"Content-Range", "bytes 0-9/" + size}, 400},
		"more than the range": {io.MultiReader(bytes.NewReader(data)), []string{"Content-Range", "bytes 0-9/" + size}, 400},
		"begins later":        {strings.NewReader("x"), []string{"Content-Range", "bytes 7-7/" + size, "Repr-Digest", reprDigest(data)}, 409},
		"without a digest":    {strings.NewReader("x"), []string{"Content-Range", "bytes 7-7/" + size}, 400},
		"nothing there":       {nil, []string{"Content-Range", "bytes */" + size, "Repr-Digest", reprDigest(data)}, 404},
		"enormous":            {strings.NewReader("x"), []string{"Content-Range", "bytes 0-0/4611686018427387903"}, 413},
	} {
		resp := b.do("PUT", "/v1/images/new.ndz", tc.body, tc.headers...)
		require.Equal(t, tc.status, resp.StatusCode, name)
		refusal(t, resp)
		require.Equal(t, 404, b.do("GET", "/v1/images/new.ndz", nil).StatusCode, name)
		b.do("DELETE", "/v1/images/new.ndz?partial=1", nil)
	}
	for _, path := range []string{"/v1/images/.x", "/v1/images/a/b/c", "/v1/images/x.manifest.json", "/v1/images/a%20b"} {
		require.Equal(t, 400, b.do("PUT", path, bytes.NewReader(data)).StatusCode, path)
	}

	require.Equal(t, 412, b.do("DELETE", "/v1/images/lab/a.ndz", nil, "If-Match", `"x"`).StatusCode)
	b.serve("lab/a.ndz", "job")
	resp = b.do("DELETE", "/v1/images/lab/a.ndz", nil)
	require.Equal(t, 409, resp.StatusCode)
	require.Contains(t, refusal(t, resp).Message, "job")
	b.release("", "job")
	b.clock.step(t, 40e9)
	require.Equal(t, 204, b.do("DELETE", "/v1/images/lab/a.ndz", nil, "If-Match", `"`+im.Digest+`"`).StatusCode)
	require.Equal(t, 404, b.do("DELETE", "/v1/images/lab/a.ndz", nil).StatusCode)
	require.Equal(t, 400, b.do("DELETE", "/v1/images/lab/a.ndz?partial=2", nil).StatusCode)
}

// A connection that breaks at half of the file, a restart of the service, and
// the rest.
func TestHTTPUploadCutAndResumed(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("length known %v", known), func(t *testing.T) {
			b := newBench(t).start()
			data := makeImage(t, 1, 3)
			half := len(data)/2 + 17
			conn, err := net.Dial("tcp", b.web.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			w := bufio.NewWriter(conn)
			fmt.Fprintf(w, "PUT /v1/images/a.ndz HTTP/1.1\r\nHost: x\r\n")
			if known {
				fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", len(data))
				w.Write(data[:half])
			} else {
				fmt.Fprintf(w, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(data))
				w.Write(data[:half])
			}
			require.NoError(t, w.Flush())
			offset := func() int {
				resp := b.do("HEAD", "/v1/images/a.ndz", nil)
				if resp.StatusCode != 204 {
					return -resp.StatusCode
				}
				n, err := strconv.Atoi(resp.Header.Get("Upload-Offset"))
				require.NoError(t, err)
				return n
			}
			// With chunks the last buffer is only seen when the connection ends.
			require.Eventually(t, func() bool { return offset() > half-(256<<10) }, patience, 1e6)
			resp := b.do("PUT", "/v1/images/a.ndz", bytes.NewReader(data))
			require.Equal(t, 409, resp.StatusCode, "somebody uploads it")
			require.NoError(t, conn.Close())
			require.Eventually(t, func() bool { return offset() == half }, patience, 1e6)
			b.restart()
			require.Equal(t, half, offset())
			require.Equal(t, 404, b.do("GET", "/v1/images/a.ndz", nil).StatusCode)
			var list events.ImageList
			read(t, b.do("GET", "/v1/images", nil), &list)
			require.Empty(t, list.Images)

			last := len(data) - 1000
			resp = b.do("PUT", "/v1/images/a.ndz", bytes.NewReader(data[half+1:]), "Repr-Digest", reprDigest(data),
				"Content-Range", fmt.Sprintf("bytes %d-%d/%d", half+1, len(data)-1, len(data)))
			require.Equal(t, 409, resp.StatusCode)
			require.Equal(t, strconv.Itoa(half), resp.Header.Get("Upload-Offset"))
			resp = b.do("PUT", "/v1/images/a.ndz", bytes.NewReader(data[half:last]), "Repr-Digest", reprDigest(data),
				"Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, last-1, len(data)))
			require.Equal(t, 202, resp.StatusCode)
			require.Equal(t, strconv.Itoa(last), resp.Header.Get("Upload-Offset"))
			resp = b.do("PUT", "/v1/images/a.ndz", bytes.NewReader(data[last:]), "Repr-Digest", reprDigest(data),
				"Content-Range", fmt.Sprintf("bytes %d-%d/%d", last, len(data)-1, len(data)))
			require.Equal(t, 201, resp.StatusCode)
			var im events.Image
			read(t, resp, &im)
			require.Equal(t, manifestOf(t, data).Root().String(), im.Digest)
			require.Equal(t, im.Digest, b.serve("a.ndz", "job").Image.Digest)
		})
	}
}

// All bytes arrived, but nobody was told: the upload is finished without data.
func TestHTTPUploadFinishedLater(t *testing.T) {
	b := newBench(t)
	data := makeImage(t, 1, 1)
	put(t, b.dir, ".a.ndz.partial", data)
	b.start()
	resp := b.do("PUT", "/v1/images/a.ndz", nil, "Content-Range", fmt.Sprintf("bytes */%d", len(data)))
	require.Equal(t, 400, resp.StatusCode, "a digest is needed")
	resp = b.do("PUT", "/v1/images/a.ndz", nil, "Content-Range", "bytes */5", "Repr-Digest", reprDigest(data))
	require.Equal(t, 409, resp.StatusCode)
	resp = b.do("PUT", "/v1/images/a.ndz", nil, "Content-Range", fmt.Sprintf("bytes */%d", len(data)), "Repr-Digest", reprDigest(data))
	require.Equal(t, 201, resp.StatusCode)
}

// permitted: with a permit, an image is uploaded from anywhere, and nothing else.
func (b *bench) permitted() {
	t := b.t
	t.Helper()
	data, other := makeImage(t, 3, 1), makeImage(t, 4, 1)
	send := func(name string, data []byte, token string, headers ...string) (int, string) {
		req := httptest.NewRequest("PUT", "/v1/images/"+name, bytes.NewReader(data))
		req.RemoteAddr = "10.0.0.5:99"
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Repr-Digest", reprDigest(data))
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		b.routes(b.svc).ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	sum := sha256.Sum256(data)
	query := events.UploadQuery{Image: "lab/far.ndz", Digest: hex.EncodeToString(sum[:])}
	var p events.UploadPermit
	ask := func(q events.UploadQuery) error {
		return b.conn.Request(t.Context(), events.FrisbeeSubject(bustest.Testbed, events.FrisbeeUpload), q, &p)
	}
	for _, bad := range []events.UploadQuery{{Image: "../x", Digest: query.Digest}, {Image: "x"}, {Image: "x", Digest: "12"}} {
		require.Equal(t, events.CodeBadRequest, events.AsError(ask(bad)).Code, "%+v", bad)
	}
	require.NoError(t, ask(query))
	require.Equal(t, "http://images.example:5012/v1/images/lab/far.ndz", p.URL)
	for name, try := range map[string]func() (int, string){
		"another name":    func() (int, string) { return send("lab/other.ndz", data, p.Token) },
		"other bytes":     func() (int, string) { return send("lab/far.ndz", other, p.Token) },
		"no digest":       func() (int, string) { return send("lab/far.ndz", data, p.Token, "Repr-Digest", "") },
		"a longer time":   func() (int, string) { return send("lab/far.ndz", data, "9"+p.Token) },
		"no token":        func() (int, string) { return send("lab/far.ndz", data, "") },
		"no bearer":       func() (int, string) { return send("lab/far.ndz", data, p.Token, "Authorization", "Basic x") },
		"a part of a mac": func() (int, string) { return send("lab/far.ndz", data, p.Token[:20]) },
		"an older service": func() (int, string) {
			old, _ := newPermits().give(&b.cfg, query)
			return send("lab/far.ndz", data, old.Token)
		},
	} {
		code, text := try()
		require.Contains(t, []int{401, 403}, code, "%s: %s", name, text)
	}
	// Bytes that are not those of the digest do not become an image.
	code, text := send("lab/far.ndz", other, p.Token, "Repr-Digest", reprDigest(data))
	require.Equal(t, 422, code, text)
	code, text = send("lab/far.ndz", data, p.Token)
	require.Equal(t, 201, code, text)
	past := newHands()
	past.now = b.clock.Now().Add(-permitLife - time.Second)
	late, err := b.svc.permits.give(&Config{HTTPBase: "http://x", Clock: past}, events.UploadQuery{Image: "late.ndz", Digest: query.Digest})
	require.NoError(t, err)
	code, text = send("late.ndz", data, late.Token)
	require.Equal(t, 403, code, text)
	require.Contains(t, text, "expired")
}

func TestHTTPAuthorization(t *testing.T) {
	b := newBench(t).start()
	call := func(s *Service, method, from string) int {
		req := httptest.NewRequest(method, "/v1/images/none.ndz", nil)
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		b.routes(s).ServeHTTP(w, req)
		return w.Code
	}
	require.Equal(t, 404, call(b.svc, "DELETE", "127.0.0.1:5"))
	require.Equal(t, 404, call(b.svc, "DELETE", "[::1]:5"))
	require.Equal(t, 404, call(b.svc, "DELETE", "[::ffff:127.0.0.1]:5"))
	for _, from := range []string{"10.0.0.5:99", "", "garbage", "[fe80::1]:3"} {
		require.Equal(t, 403, call(b.svc, "DELETE", from), from)
		require.Equal(t, 403, call(b.svc, "PUT", from), from)
		require.Equal(t, 404, call(b.svc, "GET", from), "reading is for nodes")
	}
	b.permitted()
	b.halt()
	b.cfg.Authorize = func(req *http.Request) error {
		if req.Header.Get("Authorization") != "Bearer x" {
			return errors.New("no")
		}
		return nil
	}
	b.start()
	require.Equal(t, 403, call(b.svc, "DELETE", "127.0.0.1:5"))
	require.Equal(t, 404, b.do("DELETE", "/v1/images/none.ndz", nil, "Authorization", "Bearer x").StatusCode)

	idle := b.svc
	routes := b.routes(idle)
	b.halt()
	w := httptest.NewRecorder()
	routes.ServeHTTP(w, httptest.NewRequest("GET", "/v1/images", nil))
	require.Equal(t, 503, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}
