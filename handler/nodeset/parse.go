package nodeset

import (
	"fmt"
	"strings"
)

// Parse reads an expression; doc.go has the grammar. It is bounded in time
// and memory whatever the text is: the nodes of ranges are counted, not made.
// Errors are *ParseError with one of the sentinels as kind.
func Parse(expr string) (Set, error) {
	if len(expr) > MaxExpr {
		return Set{}, &ParseError{Column: MaxExpr, Kind: ErrTooLarge,
			Problem: fmt.Sprintf("the expression has %d bytes, allowed are %d", len(expr), MaxExpr)}
	}
	p := &parser{src: expr}
	items, err := p.set(false)
	if err != nil {
		return Set{}, err
	}
	if len(items) == 0 {
		return Set{}, p.fail(0, ErrEmpty, "no node is named; write names, numbers, [x,y] or all")
	}
	if err := p.leading(items, 0); err != nil {
		return Set{}, err
	}
	return Set{items: items}, nil
}

// parser walks over an expression, or over a literal inside a topology file.
type parser struct {
	src   string
	pos   int
	depth int
	count int   // items so far
	nodes int64 // nodes named by brackets and ranges so far
	file  bool  // a topology file: errors name the line, # begins a comment
}

func (p *parser) fail(pos int, kind error, format string, args ...any) error {
	e := &ParseError{Column: pos + 1, Kind: kind, Problem: fmt.Sprintf(format, args...)}
	if p.file {
		before := p.src[:min(pos, len(p.src))]
		e.Line = 1 + strings.Count(before, "\n")
		e.Column = pos - strings.LastIndexByte(before, '\n')
	}
	return e
}

func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) blanks() {
	for p.pos < len(p.src) {
		switch {
		case isBlank(p.src[p.pos]):
			p.pos++
		case p.file && p.src[p.pos] == '#':
			if n := strings.IndexByte(p.src[p.pos:], '\n'); n >= 0 {
				p.pos += n
			} else {
				p.pos = len(p.src)
			}
		default:
			return
		}
	}
}

// enter guards the recursion; the caller decrements depth when it is done.
func (p *parser) enter(pos int) error {
	if p.depth++; p.depth > maxDepth {
		return p.fail(pos, ErrTooLarge, "brackets are nested deeper than %d", maxDepth)
	}
	return nil
}

// charge counts items and the nodes they name.
func (p *parser) charge(pos int, nodes int64) error {
	if p.count++; p.count > maxItems {
		return p.fail(pos, ErrTooLarge, "more than %d items", maxItems)
	}
	if nodes > MaxNodes || p.nodes+nodes > MaxNodes {
		return p.fail(pos, ErrTooLarge, "%s names %d nodes, allowed are %d in one expression",
			clip(p.src[pos:p.pos]), p.nodes+nodes, MaxNodes)
	}
	p.nodes += nodes
	return nil
}

// leading refuses a set that begins by taking away: from nothing, in
// rhubarbe; from everything, some would expect.
func (p *parser) leading(items []item, pos int) error {
	if len(items) > 0 && items[0].minus {
		return p.fail(pos, ErrAmbiguous, "the set begins with ~ and so takes away from nothing; write all %s",
			clip(Set{items: items}.String()))
	}
	return nil
}

// set reads runs up to the end, or up to the closing parenthesis of a group.
func (p *parser) set(group bool) ([]item, error) {
	var items []item
	for {
		p.blanks()
		if p.pos == len(p.src) || group && p.peek() == ')' {
			return items, nil
		}
		before := p.pos
		run, err := p.run()
		if err != nil {
			return nil, err
		}
		items = append(items, run...)
		// [1,1][2,2] has no separator, and neither has 1~2.
		if c := p.peek(); p.pos < len(p.src) && !isBlank(c) && !(group && c == ')') {
			return nil, p.fail(p.pos, ErrSyntax, "want a blank or a comma after %s", clip(p.src[before:p.pos]))
		}
	}
}

// part is an item of a run before it is known what the run means: "1,2..3"
// is one pair.
type part struct {
	item
	axis    axis  // set if the part could be an axis
	ranged  bool  // INT..INT
	isSet   bool  // brackets that name nodes
	alone   error // why it cannot be an item, only an axis
	charged bool  // counted as an item
	tilde   bool  // has its own ~
	pos     int
}

// run reads items joined by commas.
func (p *parser) run() ([]item, error) {
	start := p.pos
	var parts []part
	minus := false
	for {
		pt := part{pos: p.pos}
		if p.peek() == '~' {
			p.pos++
			pt.minus, pt.tilde = true, true
		}
		if len(parts) == 0 {
			minus = pt.minus
		} else if parts[len(parts)-1].minus && !pt.minus && !minus {
			return nil, p.fail(pt.pos, ErrAmbiguous, "does the ~ before reach the item at column %d? Write ~ before it, or a blank instead of the comma", pt.pos+1)
		}
		// A run that begins with ~ takes away all its items: ~4,fit7.
		pt.minus = pt.minus || minus
		if err := p.term(&pt); err != nil {
			return nil, err
		}
		parts = append(parts, pt)
		end := p.pos
		p.blanks()
		if p.peek() != ',' {
			p.pos = end
			return p.items(parts, start)
		}
		p.pos++
		p.blanks()
		if p.pos == len(p.src) || p.peek() == ',' || p.peek() == ')' {
			return nil, p.fail(p.pos, ErrSyntax, "nothing after the comma")
		}
	}
}

func (p *parser) items(parts []part, start int) ([]item, error) {
	if len(parts) == 2 && parts[0].axis != nil && parts[1].axis != nil && !(parts[0].isSet && parts[1].isSet) &&
		!parts[1].tilde {
		text := strings.TrimLeft(p.src[start:p.pos], "~")
		if !parts[0].ranged && !parts[1].ranged {
			return nil, p.fail(start, ErrAmbiguous, "%s can be one node or two: write [%s] for column and row, or a blank instead of the comma for two nodes",
				clip(text), clip(text))
		}
		// omf tell and omf stat: 1,1..2
		it := item{minus: parts[0].minus, kind: kindRect, x: parts[0].axis, y: parts[1].axis}
		for _, pt := range parts {
			if pt.charged { // counted as a node; it is half of one
				p.count--
				p.nodes--
			}
		}
		return []item{it}, p.charge(start, mul(it.x.len(), it.y.len()))
	}
	items := make([]item, 0, len(parts))
	for _, pt := range parts {
		switch {
		case pt.alone != nil:
			return nil, pt.alone
		case pt.kind == kindGroup && !pt.minus && plusOnly(pt.items):
			items = append(items, pt.items...)
		default:
			items = append(items, pt.item)
		}
	}
	return items, nil
}

func plusOnly(items []item) bool {
	for _, it := range items {
		if it.minus {
			return false
		}
	}
	return true
}

// term reads one item.
func (p *parser) term(pt *part) error {
	start := p.pos
	switch c := p.peek(); {
	case p.pos == len(p.src):
		return p.fail(p.pos, ErrSyntax, "nothing after ~")
	case c == '[':
		return p.brackets(pt)
	case c == '(':
		if err := p.enter(start); err != nil {
			return err
		}
		p.pos++
		items, err := p.set(true)
		if err != nil {
			return err
		}
		if p.peek() != ')' {
			return p.fail(start, ErrSyntax, "the parenthesis is not closed")
		}
		if err := p.leading(items, start); err != nil {
			return err
		}
		p.pos++
		p.depth--
		pt.kind, pt.items = kindGroup, items
		return p.charge(start, 0)
	case c == '@':
		return p.fail(start, ErrSyntax, "files (@name) are read by the command line, not here")
	case c == '\'' || c == '"':
		return p.fail(start, ErrSyntax, "quotes do not belong into a node set")
	case c == '/':
		return p.fail(start, ErrSyntax, "a path cannot name nodes; write @file for a file of nodes")
	}
	for p.pos < len(p.src) && isWord(p.src[p.pos]) {
		p.pos++
	}
	word := p.src[start:p.pos]
	if word == "" {
		return p.fail(start, ErrSyntax, "unexpected %q; a node is named n1-2, [1,2], a number or its name", firstRune(p.src[start:]))
	}
	if len(word) > maxWord {
		return p.fail(start, ErrTooLarge, "the word %s has %d bytes, allowed are %d", clip(word), len(word), maxWord)
	}
	return p.word(pt, word, start)
}

func isWord(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' || c == ':' }

// word finds out what a word is.
func (p *parser) word(pt *part, word string, start int) error {
	switch {
	case word == "all" || word == "-a":
		pt.kind = kindAll
	case word == "-":
		return p.fail(start, ErrSyntax, "standard input (-) is read by the command line, not here")
	case word[0] == '-':
		return p.fail(start, ErrSyntax, "%s is not a node; to take nodes away write ~ before them", clip(word))
	case strings.Contains(word, ":"):
		if err := CheckTopologyName(word); err != nil {
			return p.fail(start, ErrSyntax, "%v", err)
		}
		pt.kind, pt.word = kindTopology, word
	case isDigit(word[0]) && strings.Trim(word, "0123456789.-") == "" && strings.ContainsAny(word, "."):
		return p.dotted(pt, word, start)
	case isDigit(word[0]) && strings.Trim(word, "0123456789-") == "":
		nums, step, err := numbers(word)
		if err != nil {
			return p.fail(start, ErrSyntax, "%v", err)
		}
		pt.kind, pt.nums, pt.step = kindNumbers, nums, step
		if !strings.Contains(word, "-") {
			pt.axis, pt.charged = axis{nums}, true
		}
		return p.charge(start, (nums.len()-1)/int64(step)+1)
	default:
		pt.kind, pt.word = kindWord, word
	}
	return p.charge(start, 0)
}

// dotted reads INT..INT, and lets an address such as 10.18.1.2 be a word.
func (p *parser) dotted(pt *part, word string, start int) error {
	if !strings.Contains(word, "..") {
		pt.kind, pt.word = kindWord, word
		return p.charge(start, 0)
	}
	s, err := dots(word)
	if err != nil {
		return p.fail(start, ErrSyntax, "%v", err)
	}
	pt.axis, pt.ranged = axis{s}, true
	pt.alone = p.fail(start, ErrSyntax, "%s: a range with dots belongs into a pair, [1..4,2]; a range of numbered nodes is written 1-4", clip(word))
	return nil
}

// dots reads INT..INT.
func dots(text string) (span, error) {
	from, to, _ := strings.Cut(text, "..")
	lo, okLo := number(from)
	hi, okHi := number(to)
	switch {
	case strings.HasPrefix(to, "."):
		return span{}, fmt.Errorf("%s: a range has two dots and includes its end", clip(text))
	case !okLo || !okHi:
		return span{}, fmt.Errorf("%s: want two numbers of at most %d digits around the dots", clip(text), maxDigits)
	case lo > hi:
		return span{}, fmt.Errorf("%s: the range runs backwards", clip(text))
	}
	return span{lo, hi}, nil
}

// numbers reads INT, INT-INT and INT-INT-STEP.
func numbers(text string) (span, int, error) {
	fields := strings.Split(text, "-")
	if len(fields) > 3 {
		return span{}, 0, fmt.Errorf("%s: a range is from-to or from-to-step", clip(text))
	}
	var v [3]int
	for i, f := range fields {
		n, ok := number(f)
		if !ok {
			return span{}, 0, fmt.Errorf("%s: want numbers of at most %d digits, from-to or from-to-step", clip(text), maxDigits)
		}
		v[i] = n
	}
	switch len(fields) {
	case 1:
		return span{v[0], v[0]}, 1, nil
	case 2:
		v[2] = 1
	}
	switch {
	case v[2] == 0:
		return span{}, 0, fmt.Errorf("%s: the step is 0", clip(text))
	case v[0] > v[1]:
		return span{}, 0, fmt.Errorf("%s: the range runs backwards", clip(text))
	}
	if v[0] == v[1] {
		v[2] = 1
	}
	return span{v[0], v[1]}, v[2], nil
}

// clip shortens text for an error.
func clip(text string) string {
	const most = 60
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return 0
}

// mul multiplies two counts, saturating far above every limit.
func mul(a, b int64) int64 {
	const huge = 1 << 62
	if a > 0 && b > huge/a {
		return huge
	}
	return a * b
}
