package power

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"loadnode/handler/inventory"
)

// maxBody bounds an answer of a controller, in bytes.
const maxBody = 64 << 10

// answer is what a controller said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// newClient makes a client that follows no redirect, uses no proxy and keeps
// no connection: a controller is small, and asked rarely.
func newClient(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, MaxResponseHeaderBytes: maxBody},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exchange sends a request and reads all of the answer.
func exchange(client *http.Client, req *http.Request) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err // names method and URL
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	a := answer{resp.StatusCode, resp.Header, body}
	where := req.Method + " " + req.URL.String()
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("%s: %w", where, err)
	case len(body) > maxBody:
		return answer{}, fmt.Errorf("%s: %w: it is longer than %d bytes", where, ErrAnswer, maxBody)
	case a.status >= 300 && a.status < 400:
		return answer{}, fmt.Errorf("%s: %w: it answered %d, to go to %s; redirects are not followed", where, ErrAnswer, a.status, quote(resp.Header.Get("Location")))
	}
	return a, nil
}

func get(ctx context.Context, client *http.Client, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	return exchange(client, req)
}

// trust is how a service is believed to be the one that is meant.
func trust(spec inventory.Power) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case spec.Insecure:
		conf.InsecureSkipVerify = true
	case spec.Fingerprint != "":
		want, err := hex.DecodeString(spec.Fingerprint)
		if err != nil {
			return nil, err
		}
		// The certificate is compared as a whole, in place of its names, dates
		// and signatures: controllers sign theirs themselves.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("it showed no certificate")
			}
			got := sha256.Sum256(s.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare(got[:], want) != 1 {
				return fmt.Errorf("its certificate has the fingerprint %x, the inventory wants %s", got, spec.Fingerprint)
			}
			return nil
		}
	case spec.CAFile != "":
		f, err := os.Open(spec.CAFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 1<<20))
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", spec.CAFile)
		}
	}
	return conf, nil
}

// oneLine is a text for an error: no tags, one line, not long.
func oneLine(text []byte) string {
	if i := strings.Index(string(text), "</H1>"); i >= 0 {
		text = text[i+len("</H1>"):] // OMF's error pages: heading, then the message
	}
	var b strings.Builder
	inside := false
	for _, r := range strings.ToValidUTF8(string(text[:min(len(text), 4096)]), "?") {
		switch {
		case r == '<':
			inside = true
			b.WriteByte(' ')
		case r == '>':
			inside = false
		case !inside:
			b.WriteRune(r)
		}
	}
	return quote(strings.Join(strings.Fields(b.String()), " "))
}
