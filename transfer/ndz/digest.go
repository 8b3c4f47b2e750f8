package ndz

import (
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256 sum. Its text form, also in JSON, is 64 hexadecimal digits in lower case.
type Digest [32]byte

// ParseDigest reads the text form of a digest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	return d, d.UnmarshalText([]byte(s))
}

// String is the text form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("digest of %d characters, want %d hexadecimal digits", len(text), 2*len(d))
	}
	var out Digest
	if _, err := hex.Decode(out[:], text); err != nil {
		return fmt.Errorf("digest %q: %w", text, err)
	}
	*d = out
	return nil
}
