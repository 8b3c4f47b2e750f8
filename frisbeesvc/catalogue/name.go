package catalogue

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// MaxName is the longest name of an image in bytes, sub-directory included.
const MaxName = 128

const (
	manifestSuffix = ".manifest.json"
	partialSuffix  = ".partial"
	savingSuffix   = ".saving"
	tempSuffix     = ".tmp"
)

// ErrName is wrapped by every error that says a name cannot be that of an
// image.
var ErrName = errors.New("not a name of an image")

// CheckName says whether a name may be that of an image: one or two parts
// joined by a slash, each made of [0-9A-Za-z._-] and beginning with neither a
// dot nor a dash, MaxName bytes in all, and not ending like a manifest.
func CheckName(name string) error {
	bad := func(why string) error { return fmt.Errorf("%w: %.140q %s", ErrName, name, why) }
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > MaxName:
		return bad(fmt.Sprintf("has %d bytes, at most %d are allowed", len(name), MaxName))
	}
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return bad("has more than one sub-directory")
	}
	for _, p := range parts {
		switch {
		case p == "":
			return bad("has an empty part (is the path absolute?)")
		case p[0] == '.':
			return bad("has a part that begins with a dot")
		case p[0] == '-':
			return bad("has a part that begins with a dash")
		}
		for i := range len(p) {
			if !nameByte(p[i]) {
				return bad(fmt.Sprintf("holds %q, allowed are 0-9 A-Z a-z . _ - and one /", p[i]))
			}
		}
	}
	if strings.HasSuffix(name, manifestSuffix) {
		return bad("ends in " + manifestSuffix + ", which is kept for manifests")
	}
	return nil
}

func nameByte(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' || b == '.' || b == '_' || b == '-'
}

func manifestPath(name string) string { return name + manifestSuffix }

func partialPath(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + partialSuffix
}

func savingPath(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + savingSuffix
}

func tempPath(name string, n uint64) string {
	dir, base := path.Split(name)
	return fmt.Sprintf("%s.%s.manifest.%d%s", dir, base, n, tempSuffix)
}
