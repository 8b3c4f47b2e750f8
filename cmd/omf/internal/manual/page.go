package manual

import (
	"fmt"
	"io"
	"strings"
)

// Page is a manual page that is being written.
type Page struct {
	b strings.Builder
}

// Head says what a page is about.
type Head struct {
	Name    string // as people look it up: "omf-load"
	Section int    // 1 commands, 5 files, 8 administration
	Short   string // what it does, in a line
	Version string // of the program
	Date    string // of the page: 2006-01-02
}

// New begins a page with its title and the section NAME.
func New(h Head) *Page {
	p := &Page{}
	// No hyphenation and no stretched spaces: names of options stay as they are typed.
	fmt.Fprintf(&p.b, ".TH \"%s\" %d \"%s\" \"loadnode %s\" \"loadnode\"\n.nr HY 0\n.nh\n.ad l\n",
		escape(strings.ToUpper(h.Name)), h.Section, escape(h.Date), escape(h.Version))
	p.Section("NAME")
	fmt.Fprintf(&p.b, "%s \\- %s\n", escape(h.Name), escape(h.Short))
	return p
}

// Section begins a section.
func (p *Page) Section(title string) { fmt.Fprintf(&p.b, ".SH \"%s\"\n", escape(title)) }

// Text writes paragraphs, which empty lines separate. Lines that are indented
// stay as they are.
func (p *Page) Text(text string) {
	filled, verbatim := false, false
	end := func() {
		if verbatim {
			p.b.WriteString(".EE\n.RE\n")
			verbatim = false
		}
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		indented := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
		switch {
		case strings.TrimSpace(line) == "":
			// Within an example an empty line belongs to it.
			if verbatim && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
				p.b.WriteString("\n")
				continue
			}
			end()
			filled = false
		case indented:
			if !verbatim {
				p.b.WriteString(".PP\n.RS 2\n.EX\n")
				verbatim = true
			}
			p.line(strings.TrimPrefix(strings.ReplaceAll(line, "\t", "  "), "  "))
		default:
			end()
			if !filled {
				p.b.WriteString(".PP\n")
				filled = true
			}
			p.line(line)
		}
	}
	end()
}

// Synopsis writes how a command is called, one line for each way.
func (p *Page) Synopsis(ways ...string) {
	p.Section("SYNOPSIS")
	p.b.WriteString(".nf\n")
	for _, w := range ways {
		p.line(w)
	}
	p.b.WriteString(".fi\n")
}

// Item writes a term, such as an option with its value, and what it means.
func (p *Page) Item(term, text string) {
	var words []string
	for _, w := range strings.Fields(term) {
		font := "I"
		if strings.HasPrefix(w, "-") {
			font = "B"
		}
		comma := ""
		if strings.HasSuffix(w, ",") {
			w, comma = strings.TrimSuffix(w, ","), ","
		}
		words = append(words, fmt.Sprintf("\\f%s%s\\fR%s", font, escape(w), comma))
	}
	fmt.Fprintf(&p.b, ".TP\n%s\n", strings.Join(words, " "))
	p.line(text)
}

// Name writes a name that is typed as it stands, and what it means.
func (p *Page) Name(name, text string) {
	fmt.Fprintf(&p.b, ".TP\n\\fB%s\\fR\n", escape(name))
	p.line(text)
}

// line writes one line of text.
func (p *Page) line(text string) {
	if text = escape(text); text == "" {
		return
	}
	if strings.HasPrefix(text, ".") {
		text = `\&` + text // no request
	}
	p.b.WriteString(strings.TrimRight(text, " ") + "\n")
}

// WriteTo implements io.WriterTo.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, p.b.String())
	return int64(n), err
}

// escape has text appear as it is, character by character.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\(rs`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '\u2026':
			b.WriteString("...") // a terminal may not have it
		case r == '\t':
			b.WriteByte(' ')
		case r < ' ' || r == 0x7f:
			// Control characters have no place in a page.
		case r > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
