package nodeset

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrName is returned for a name that cannot be a node's because an
// expression could not say it.
var ErrName = errors.New("not a name for a node")

// Name is the name of the node in column x, row y of a grid: n1-2.
func Name(x, y int) string { return "n" + strconv.Itoa(x) + "-" + strconv.Itoa(y) }

// Coordinates reads the spellings of a grid node: n1-2, n_1_2, node1-2,
// node1_2. Brackets are the parser's business.
func Coordinates(word string) (x, y int, ok bool) {
	rest, ok := strings.CutPrefix(word, "node")
	if !ok {
		if rest, ok = strings.CutPrefix(word, "n"); !ok {
			return 0, 0, false
		}
	}
	rest = strings.TrimPrefix(rest, "_")
	at := strings.IndexAny(rest, "-_")
	if at < 0 {
		return 0, 0, false
	}
	x, okX := number(rest[:at])
	y, okY := number(rest[at+1:])
	return x, y, okX && okY
}

// CheckName reports whether a node may have this name: 1 to 128 bytes of
// letters, digits, "." "_" "-", beginning with a letter or digit, and not a
// word of the language such as "all" or "1-3". In what CheckName accepts a
// bare name always means the node.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > 128:
		return fmt.Errorf("%w: it has %d bytes, allowed are 1 to 128", ErrName, len(name))
	case name == "all":
		return fmt.Errorf("%w: %q means every node", ErrName, name)
	case !isAlnum(name[0]):
		return fmt.Errorf("%w: %q does not begin with a letter or digit", ErrName, name)
	}
	digits := true
	for i := 0; i < len(name); i++ {
		if !isAlnum(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-' {
			return fmt.Errorf("%w: %q contains %q, allowed are letters, digits, . _ -", ErrName, name, rune(name[i]))
		}
		if !isDigit(name[i]) && name[i] != '-' && name[i] != '.' {
			digits = false
		}
	}
	if digits {
		return fmt.Errorf("%w: %q reads like a number or a range", ErrName, name)
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// number reads a decimal integer of at most maxDigits digits.
func number(s string) (int, bool) {
	if s == "" || len(s) > maxDigits {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
