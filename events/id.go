package events

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// Crockford's base 32, lower case: the alphabet of ULIDs as used here.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// NewULID makes a ULID in lower case: 48 bits of Unix milliseconds and 80
// random bits read from entropy, 26 characters, sorted by time.
func NewULID(now time.Time, entropy io.Reader) (string, error) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	if _, err := io.ReadFull(entropy, b[6:]); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return encodeULID(b), nil
}

func encodeULID(b [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var out [26]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}

// IsULID reports whether s is a ULID, in either case, that fits 128 bits.
func IsULID(s string) bool {
	if len(s) != 26 || s[0] > '7' {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(crockford, s[i]|0x20) < 0 {
			return false
		}
	}
	return true
}

// JobIDForEvent is the job id of a request that came as a CloudEvent: its id
// if that is a ULID (in lower case), otherwise an id derived from source and
// id, the same at each delivery.
func JobIDForEvent(source, id string) string {
	if IsULID(id) {
		return strings.ToLower(id)
	}
	return derivedID("event", source, id)
}

// JobIDForMessage is the job id of a request that came as plain JSON: derived
// from the place where the stream stored it.
func JobIDForMessage(stream string, seq uint64) string {
	return derivedID("message", stream, fmt.Sprint(seq))
}

func derivedID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s;", len(p), p)
	}
	var b [16]byte
	copy(b[:], h.Sum(nil))
	b[0] &= 0x7f // keep within what a ULID may hold and sort after none
	return encodeULID(b)
}

// FactID is the deterministic id of a fact, which is its Nats-Msg-Id too.
// Node may be empty (a fact of the job) and attempt 0 (it happens once).
func FactID(job, node string, k Kind, attempt int) string {
	return fmt.Sprintf("%s:%s:%s:%d", job, node, k, attempt)
}

// EffectID names an effect so that it can be repeated without harm.
func EffectID(job, node, step string, attempt int) string {
	return fmt.Sprintf("%s:%s:%s:%d", job, node, step, attempt)
}
