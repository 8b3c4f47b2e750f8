package display

import (
	"strings"
	"unicode/utf8"
)

// Wrap breaks text between words so that no line is wider than width cells,
// where words allow it. The first line is taken to begin behind indent cells,
// the others get that many spaces. Runs of blanks become one.
func Wrap(text string, width, indent int) string {
	room := max(width-indent, 1)
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
		case used+1+n <= room:
			b.WriteByte(' ')
			used++
		default:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = 0
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}
