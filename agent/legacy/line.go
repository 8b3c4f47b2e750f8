package legacy

import "strings"

// fields splits at ASCII white space; a no-break space is a letter to the original.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' })
}

// Encode joins words to a line as the original does (§a.3). An argument of two or more words is quoted, everything else
// stands as it is, so an empty argument becomes nothing and a quote inside a single word stays bare: what comes out of
// Decode is not always what went in.
func Encode(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		if len(fields(w)) > 1 {
			b.WriteByte('"')
			b.WriteString(strings.ReplaceAll(w, `"`, `\"`))
			b.WriteByte('"')
		} else {
			b.WriteString(w)
		}
		b.WriteByte(' ')
	}
	return strings.TrimRight(b.String(), " \t\n\v\f\r\x00")
}

// Decode splits a line into words by the original's rules (§a.3), its oddities included: a backslash that is not
// directly before a quote is dropped and splits its word.
func Decode(line string) []string {
	var words []string
	inString, escaped := false, false
	for len(line) > 0 {
		quoted := line[0] == '"'
		if quoted {
			line = line[1:]
		}
		n := strings.IndexAny(line, `"\`)
		if n < 0 {
			n = len(line)
		}
		run := line[:n]
		line = line[n:]
		slash := strings.HasPrefix(line, `\`)
		if slash {
			line = line[1:]
		}
		switch {
		case !quoted:
			words = append(words, fields(run)...)
			continue // what was escaped stays so
		case inString && !escaped:
			words = append(words, fields(run)...)
			inString = false
		case escaped:
			words[len(words)-1] += `"` + run // some quote opened a word before
			inString = true
		default:
			words = append(words, run)
			inString = true
		}
		escaped = slash
	}
	return words
}
