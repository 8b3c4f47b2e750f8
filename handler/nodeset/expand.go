package nodeset

import (
	"fmt"
	"strings"
)

// Expand replaces the words @name (a file) and - (standard input, read as
// "-") of an expression by what read returns for them. It is for command
// lines: what is sent to a server holds no such words, and Parse refuses
// them.
//
// A file holds expressions, one or several on a line, # begins a comment; or
// it is a topology file. Each becomes a group, so that ~@name takes all its
// nodes away. Files do not name files. A file that names no node is an error
// (ErrEmpty), unless it was to be taken away.
func Expand(expr string, read func(name string) ([]byte, error)) (string, error) {
	var out strings.Builder
	depth := 0
	for i := 0; i < len(expr); {
		c := expr[i]
		starts := depth == 0 && (i == 0 || strings.IndexByte(" \t\r\n,~(", expr[i-1]) >= 0)
		end := i + 1
		for end < len(expr) && strings.IndexByte(" \t\r\n,()[]", expr[end]) < 0 {
			end++
		}
		var name string
		switch {
		case starts && c == '@':
			if name = expr[i+1 : end]; name == "" {
				return "", &ParseError{Column: i + 1, Kind: ErrSyntax, Problem: "@ needs the name of a file behind it, without a blank"}
			}
		case starts && c == '-' && end == i+1:
			name = "-"
		default:
			switch c {
			case '[':
				depth++
			case ']':
				depth--
			}
			out.WriteByte(c)
			i++
			continue
		}
		minus := i > 0 && expr[i-1] == '~'
		text, err := read(name)
		if err != nil {
			return "", fmt.Errorf("nodes from %s: %w", source(name), err)
		}
		set, err := parseFile(text)
		if err != nil {
			return "", fmt.Errorf("nodes from %s: %w", source(name), err)
		}
		if set.Empty() && !minus {
			return "", fmt.Errorf("nodes from %s: %w", source(name), ErrEmpty)
		}
		out.WriteString("(" + set.String() + ")")
		if out.Len() > MaxExpr {
			return "", fmt.Errorf("nodes from %s: %w: the whole expression may have %d bytes", source(name), ErrTooLarge, MaxExpr)
		}
		i = end
	}
	return out.String(), nil
}

func source(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// parseFile reads the content of an @file.
func parseFile(text []byte) (Set, error) {
	if len(text) > MaxFile {
		return Set{}, fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, len(text), MaxFile)
	}
	var expr strings.Builder
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		expr.WriteString(line)
		expr.WriteByte('\n')
	}
	plain := strings.TrimSpace(expr.String())
	if plain == "" {
		return Set{}, nil
	}
	if strings.HasPrefix(plain, "defTopology") {
		all, err := ParseTopology(text)
		var set Set
		for _, t := range all {
			set.items = append(set.items, t.Set.items...)
		}
		return set, err
	}
	return Parse(plain)
}
