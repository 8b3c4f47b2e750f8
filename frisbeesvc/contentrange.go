package frisbeesvc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"loadnode/transfer/ndz"
)

// contentRange is a Content-Range of an upload: the bytes First to Last of a
// file of Total, or none of them (Last is First-1, and First is not known) to
// say only that everything has been sent.
type contentRange struct {
	First, Last, Total int64
	Nothing            bool // "bytes */TOTAL"
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" or "bytes */TOTAL" (RFC 9110
// §14.4). Numbers are below 2^62, so that sums of them cannot overflow.
func parseContentRange(s string) (contentRange, error) {
	bad := func() (contentRange, error) {
		return contentRange{}, fmt.Errorf("content-range %.80q: want \"bytes FIRST-LAST/TOTAL\" or \"bytes */TOTAL\"", s)
	}
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return bad()
	}
	span, total, ok := strings.Cut(rest, "/")
	if !ok {
		return bad()
	}
	var r contentRange
	if r.Total, ok = wholeNumber(total); !ok {
		return bad()
	}
	if span == "*" {
		r.Nothing = true
		return r, nil
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return bad()
	}
	var ok1, ok2 bool
	r.First, ok1 = wholeNumber(first)
	r.Last, ok2 = wholeNumber(last)
	if !ok1 || !ok2 || r.First > r.Last || r.Last >= r.Total {
		return bad()
	}
	return r, nil
}

// wholeNumber reads digits and nothing else.
func wholeNumber(s string) (int64, bool) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 63)
	return n, err == nil
}

// maxDigestHeader bounds Repr-Digest, in bytes.
const maxDigestHeader = 4096

// parseReprDigest reads the SHA-256 of a Repr-Digest (RFC 9530): a list of
// NAME=:BASE64: in which other algorithms are passed over. nil means that the
// header is empty or has no SHA-256.
func parseReprDigest(s string) (*ndz.Digest, error) {
	if len(s) > maxDigestHeader {
		return nil, errors.New("repr-digest is too long")
	}
	var found *ndz.Digest
	for item := range strings.SplitSeq(s, ",") {
		item = strings.Trim(item, " \t")
		if item == "" {
			continue
		}
		name, value, ok := strings.Cut(item, "=")
		if !ok || len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			return nil, fmt.Errorf("repr-digest %.80q: want the form sha-256=:BASE64:, colons included", item)
		}
		if !strings.EqualFold(name, "sha-256") {
			continue
		}
		b, err := base64.StdEncoding.Strict().DecodeString(value[1 : len(value)-1])
		if err != nil || len(b) != len(ndz.Digest{}) {
			return nil, fmt.Errorf("repr-digest %.80q: not the base64 of 32 bytes", item)
		}
		if found != nil {
			return nil, errors.New("repr-digest has two values for sha-256")
		}
		d := ndz.Digest(b)
		found = &d
	}
	return found, nil
}
