package frisbeesvc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/transfer/ndz"
)

// permitLife is how long an upload, or the next piece of it, may begin.
const permitLife = time.Hour

// permits let whoever may ask on the bus upload over HTTP from any machine.
// A permit says which bytes may become which image until when, and has a MAC
// over that: nothing is remembered of it, and who overhears it can send
// nothing else. Its key ends with the process; clients ask again.
type permits struct{ key [sha256.Size]byte }

func newPermits() *permits {
	p := new(permits)
	rand.Read(p.key[:]) // never fails
	return p
}

func (p *permits) mac(image, digest, until string) []byte {
	h := hmac.New(sha256.New, p.key[:])
	for _, part := range []string{image, digest, until} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)
}

// give answers events.FrisbeeUpload.
func (p *permits) give(cfg *Config, q events.UploadQuery) (events.UploadPermit, error) {
	if err := catalogue.CheckName(q.Image); err != nil {
		return events.UploadPermit{}, err
	}
	digest, err := ndz.ParseDigest(q.Digest)
	if err != nil {
		return events.UploadPermit{}, badRequest(fmt.Sprintf("upload %s: the digest is the SHA-256 of the file, 64 hexadecimal digits: %v", q.Image, err))
	}
	if cfg.HTTPBase == "" {
		return events.UploadPermit{}, &events.Error{Code: events.CodeUnsupported, Message: "this image service has no HTTP address that images could be sent to"}
	}
	at, err := url.JoinPath(cfg.HTTPBase, "v1", "images", q.Image)
	if err != nil {
		return events.UploadPermit{}, err
	}
	expires := cfg.Clock.Now().Add(permitLife).Truncate(time.Second)
	until := strconv.FormatInt(expires.Unix(), 10)
	return events.UploadPermit{
		URL: at, Expires: expires,
		Token: until + "." + base64.RawURLEncoding.EncodeToString(p.mac(q.Image, digest.String(), until)),
	}, nil
}

// check decides whether a request shows a permit that is good for it.
func (p *permits) check(now time.Time, req *http.Request) error {
	refuse := func(message string) error {
		return &statusError{http.StatusForbidden, &events.Error{Code: events.CodeRefused, Message: message, Hint: "ask the image service for another on the bus; omf images upload does so"}}
	}
	token, err := bearer(req.Header.Values("Authorization"))
	if err != nil {
		return &statusError{http.StatusUnauthorized, &events.Error{Code: events.CodeRefused, Message: "want Authorization: Bearer and the token of a permit"}}
	}
	digest, err := parseReprDigest(strings.Join(req.Header.Values("Repr-Digest"), ","))
	if err != nil || digest == nil {
		return refuse("a permit is good for the Repr-Digest that it was given for, and the request has none")
	}
	until, mac, _ := strings.Cut(token, ".")
	given, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(given, p.mac(req.PathValue("name"), digest.String(), until)) {
		return refuse("this permit is not for this image and these bytes, or the image service has restarted since")
	}
	if end, err := strconv.ParseInt(until, 10, 64); err != nil || now.After(time.Unix(end, 0)) {
		return refuse("this permit has expired")
	}
	return nil
}
