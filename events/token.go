package events

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNameLen is the longest plain name (node, image, testbed) that may become
// a subject token, in bytes. Escaped, such a name has at most three times as
// many bytes, which keeps every subject below the broker's limits.
const MaxNameLen = 128

// ErrName is returned for a name that cannot be a subject token.
var ErrName = errors.New("name is empty or too long")

// ErrToken is returned for a token that Escape cannot have produced.
var ErrToken = errors.New("not an escaped name")

const hexDigits = "0123456789abcdef"

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
}

// Escape turns a plain name into one subject token made of [a-z0-9_-]: the
// bytes a–z, 0–9 and "-" stand for themselves, every other byte (also "_" and
// upper case) becomes "_" and two lower-case hexadecimal digits. It is
// reversible and injective.
func Escape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if plainByte(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('_')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

// Unescape is the inverse of Escape. It refuses every token that Escape does
// not produce, so that one name has one token.
func Unescape(token string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		switch {
		case plainByte(c):
			b.WriteByte(c)
		case c == '_' && i+2 < len(token):
			hi := strings.IndexByte(hexDigits, token[i+1])
			lo := strings.IndexByte(hexDigits, token[i+2])
			if hi < 0 || lo < 0 || plainByte(byte(hi<<4|lo)) {
				return "", fmt.Errorf("token %q: %w", token, ErrToken)
			}
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
		default:
			return "", fmt.Errorf("token %q: %w", token, ErrToken)
		}
	}
	return b.String(), CheckName(b.String())
}

// CheckName reports whether a plain name may become a token: 1 to MaxNameLen
// bytes. Which characters a name may have is decided by its owner (inventory,
// catalogue); any byte can be escaped.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameLen {
		return fmt.Errorf("%w: %d bytes, allowed are 1 to %d", ErrName, len(name), MaxNameLen)
	}
	return nil
}
