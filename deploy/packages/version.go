package main

import (
	"fmt"
	"regexp"
	"time"
)

var (
	described = regexp.MustCompile(`^v?([0-9]+(?:\.[0-9]+)*)(?:-((?:alpha|beta|pre|rc)[.0-9]*))?(?:-([0-9]+)-g([0-9a-f]{4,40}))?(-dirty)?$`)
	commit    = regexp.MustCompile(`^([0-9a-f]{4,40})(-dirty)?$`)
)

// debianVersion makes of what git describe says a version that dpkg takes and
// sorts right: a candidate before its release, what follows a release after
// it, and without any release by the time of the commit.
func debianVersion(describe string, when time.Time) (string, error) {
	v, dirty := "", ""
	if m := commit.FindStringSubmatch(describe); m != nil {
		v, dirty = fmt.Sprintf("0~git%s.%s", when.UTC().Format("20060102.150405"), m[1]), m[2]
	} else if m := described.FindStringSubmatch(describe); m != nil {
		v, dirty = m[1], m[5]
		if m[2] != "" {
			v += "~" + m[2]
		}
		if m[3] != "" {
			v += "+" + m[3] + ".g" + m[4]
		}
	} else {
		return "", fmt.Errorf("version %q: want what git describe --tags --always --dirty prints", describe)
	}
	if dirty != "" {
		v += "+dirty"
	}
	return v, nil
}
