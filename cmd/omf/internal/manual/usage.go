package manual

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxUsage bounds a usage text, in bytes.
const MaxUsage = 256 << 10

// ErrUsage is returned for a text that is not a usage text as Usage reads it.
var ErrUsage = errors.New("not a usage text")

// Usage makes a page of what a program prints when asked for help. The text
// begins with lines of how the program is called, each with its name first;
// after an empty line come a sentence of what it does, paragraphs, headings
// that end with a colon, and options: two blanks, the option with its value,
// and its meaning in a column or on the following lines, further indented.
// Head.Short is taken from the first sentence if it is empty.
func Usage(h Head, text string) (*Page, error) {
	if len(text) > MaxUsage || !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: of %s", ErrUsage, h.Name)
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var ways []string
	for len(lines) > 0 && (lines[0] == h.Name || strings.HasPrefix(lines[0], h.Name+" ")) {
		ways, lines = append(ways, lines[0]), lines[1:]
	}
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	if len(ways) == 0 || len(lines) == 0 {
		return nil, fmt.Errorf("%w: want lines that begin with %s, then what it does", ErrUsage, h.Name)
	}
	if h.Short == "" {
		h.Short = sentence(lines)
	}
	p := New(h)
	p.Synopsis(ways...)
	section, headed, options := "", false, false
	in := func(title string) {
		if title != section {
			p.Section(title)
			section = title
		}
	}
	in("DESCRIPTION")
	var prose, item []string
	flush := func() {
		if len(prose) > 0 {
			p.Text(strings.Join(prose, "\n"))
		}
		if len(item) > 0 {
			p.Item(item[0], strings.Join(item[1:], " "))
		}
		prose, item = nil, nil
	}
	column := textColumn(lines)
	for _, line := range lines {
		empty := strings.TrimSpace(line) == ""
		switch {
		case strings.HasPrefix(line, "  -"):
			flush()
			if !headed {
				in("OPTIONS")
			}
			options = true
			item = option(line, column)
		case !empty && len(item) > 0 && (strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")):
			item = append(item, strings.TrimSpace(line))
		case strings.HasSuffix(line, ":") && line[0] != ' ' && (len(prose) == 0 || prose[len(prose)-1] == ""):
			flush()
			in(strings.ToUpper(strings.TrimSuffix(line, ":")))
			headed = true
		case !empty || len(prose) > 0:
			if len(item) > 0 {
				flush()
			}
			if options && len(prose) == 0 {
				in("NOTES")
				headed = false
			}
			prose = append(prose, line)
		}
	}
	flush()
	return p, nil
}

// sentence is the first sentence as the short description of a page.
func sentence(lines []string) string {
	text := strings.Join(lines[:max(slices.Index(lines, ""), 0)], " ")
	if text == "" {
		text = lines[0]
	}
	text, _, _ = strings.Cut(text, ". ")
	text = strings.TrimSuffix(text, ".")
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToLower(first)) + text[size:]
}

// textColumn is where the meaning of most options begins, 0 if nowhere.
func textColumn(lines []string) int {
	count, best := map[int]int{}, 0
	for _, line := range lines {
		if !strings.HasPrefix(line, "  -") {
			continue
		}
		if spec, text, ok := strings.Cut(line[2:], "  "); ok {
			at := 2 + len(spec) + 2 + len(text) - len(strings.TrimLeft(text, " "))
			count[at]++
			if count[at] > count[best] || count[at] == count[best] && at < best {
				best = at
			}
		}
	}
	return best
}

// option splits a line into the option with its value and its meaning.
func option(line string, column int) []string {
	spec, text, _ := strings.Cut(line[2:], "  ")
	spec, text = strings.TrimSpace(spec), strings.TrimSpace(text)
	if text == "" && column > 3 && len(line) > column && line[column-1] == ' ' {
		// So wide that one blank is left before the column.
		spec, text = strings.TrimSpace(line[:column]), strings.TrimSpace(line[column:])
	}
	if text == "" {
		return []string{spec}
	}
	return []string{spec, text}
}
