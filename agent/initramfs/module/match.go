package module

import "strings"

// match says whether a text fits a pattern of the shell, as fnmatch(3) without
// flags has them: *, ?, [set], [!set] and \ before a character. It takes
// time in the product of the two lengths at most.
func match(glob, text string) bool {
	star, mark := -1, 0 // where to go on when the rest does not fit: one more character for the last *
	g, t := 0, 0
	for t < len(text) {
		if g < len(glob) && glob[g] == '*' {
			star, mark = g, t
			g++
			continue
		}
		if g < len(glob) {
			if n := one(glob[g:], text[t]); n > 0 {
				g += n
				t++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		g, t = star+1, mark
	}
	return strings.Trim(glob[g:], "*") == ""
}

// one is the length of the first element of a pattern, not a *, if it fits a
// character, and 0 if not.
func one(glob string, c byte) int {
	switch glob[0] {
	case '?':
		return 1
	case '[':
		if n, in, ok := set(glob, c); ok {
			if in {
				return n
			}
			return 0
		}
	case '\\':
		if len(glob) > 1 {
			if glob[1] == c {
				return 2
			}
			return 0
		}
	}
	if glob[0] == c {
		return 1
	}
	return 0
}

// set reads a set at the beginning of a pattern; without an end it is none.
func set(glob string, c byte) (n int, in, ok bool) {
	i := 1
	not := i < len(glob) && (glob[i] == '!' || glob[i] == '^')
	if not {
		i++
	}
	for first := true; i < len(glob); first = false {
		low := glob[i]
		if low == ']' && !first {
			return i + 1, in != not, true
		}
		i++
		high := low
		if i+1 < len(glob) && glob[i] == '-' && glob[i+1] != ']' {
			high = glob[i+1]
			i += 2
		}
		if low <= c && c <= high {
			in = true
		}
	}
	return 0, false, false
}
