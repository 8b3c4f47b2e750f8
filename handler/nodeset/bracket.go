package nodeset

// value is what stands in brackets before it is known what it means. [1,2] is
// the node in column 1, row 2, or a list of two columns.
type value struct {
	span   span
	list   []value
	isList bool
	isAxis bool // INT, INT..INT or a list of INT
	isSet  bool // a pair, or a list of sets
	single bool // INT
	pos    int
	end    int
}

func (v value) axis() axis {
	if !v.isList {
		return axis{v.span}
	}
	a := make(axis, len(v.list))
	for i, e := range v.list {
		a[i] = e.span
	}
	return a
}

// brackets reads a bracketed item into pt: one rectangle, or a group of them.
func (p *parser) brackets(pt *part) error {
	v, err := p.value()
	if err != nil {
		return err
	}
	if v.isAxis {
		pt.axis = v.axis()
	}
	if !v.isSet {
		pt.alone = p.notSet(v)
		if v.isAxis {
			return nil
		}
		return pt.alone
	}
	items, err := p.rects(nil, v)
	if err != nil {
		return err
	}
	pt.isSet = true
	pt.charged = v.isAxis
	if len(items) == 1 {
		minus := pt.minus
		pt.item = items[0]
		pt.minus = minus
		return nil
	}
	pt.kind, pt.items = kindGroup, items
	return nil
}

// rects flattens a set into its rectangles, in order. A list all of whose
// elements are sets is their union; only otherwise are two axes a pair. So
// [[1,1],[2,2]] is two nodes.
func (p *parser) rects(items []item, v value) ([]item, error) {
	union := len(v.list) > 0
	for _, e := range v.list {
		union = union && e.isSet
	}
	if !union {
		it := item{kind: kindRect, x: v.list[0].axis(), y: v.list[1].axis()}
		at := p.pos
		p.pos = v.end // for the text of an error
		err := p.charge(v.pos, mul(it.x.len(), it.y.len()))
		p.pos = at
		return append(items, it), err
	}
	var err error
	for _, e := range v.list {
		if items, err = p.rects(items, e); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// value reads a bracketed value, or a number or range inside brackets.
func (p *parser) value() (value, error) {
	v := value{pos: p.pos}
	if p.peek() != '[' {
		return p.scalar()
	}
	if err := p.enter(p.pos); err != nil {
		return v, err
	}
	v.isList = true
	p.pos++
	p.blanks()
	if p.peek() == ']' {
		return v, p.fail(v.pos, ErrEmpty, "[] names no node")
	}
	for {
		e, err := p.value()
		if err != nil {
			return v, err
		}
		if len(v.list) == maxItems {
			return v, p.fail(e.pos, ErrTooLarge, "more than %d elements in a list", maxItems)
		}
		v.list = append(v.list, e)
		p.blanks()
		c := p.peek()
		if c == ']' {
			p.pos++
			break
		}
		if p.pos == len(p.src) {
			return v, p.fail(v.pos, ErrSyntax, "the bracket is not closed")
		}
		if c != ',' {
			return v, p.fail(p.pos, ErrSyntax, "unexpected %q in brackets; want a comma or ]", firstRune(p.src[p.pos:]))
		}
		p.pos++
		p.blanks()
	}
	p.depth--
	v.end = p.pos
	v.isAxis, v.isSet = true, true
	for _, e := range v.list {
		v.isAxis = v.isAxis && e.single
		v.isSet = v.isSet && e.isSet
	}
	if len(v.list) == 2 && v.list[0].isAxis && v.list[1].isAxis {
		v.isSet = true
	}
	if v.isAxis && !v.isSet && len(v.list) > maxAxis {
		return v, p.fail(v.pos, ErrTooLarge, "more than %d numbers in a list", maxAxis)
	}
	return v, nil
}

// scalar reads INT or INT..INT.
func (p *parser) scalar() (value, error) {
	v := value{pos: p.pos, isAxis: true}
	for p.pos < len(p.src) && (isDigit(p.src[p.pos]) || p.src[p.pos] == '.') {
		p.pos++
	}
	v.end = p.pos
	text := p.src[v.pos:p.pos]
	if text == "" {
		if p.pos == len(p.src) {
			return v, p.fail(p.pos, ErrSyntax, "the bracket is not closed")
		}
		return v, p.fail(p.pos, ErrSyntax, "unexpected %q in brackets; there are only numbers, ranges 1..4, commas and brackets in them", firstRune(p.src[p.pos:]))
	}
	if n, ok := number(text); ok {
		v.span, v.single = span{n, n}, true
		return v, nil
	}
	if isDots(text) {
		s, err := dots(text)
		if err != nil {
			return v, p.fail(v.pos, ErrSyntax, "%v", err)
		}
		v.span = s
		return v, nil
	}
	return v, p.fail(v.pos, ErrSyntax, "%s is neither a number of at most %d digits nor a range such as 1..4", clip(text), maxDigits)
}

func isDots(text string) bool {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '.' && text[i+1] == '.' {
			return true
		}
	}
	return false
}

// notSet explains why brackets do not name nodes.
func (p *parser) notSet(v value) error {
	text := clip(p.src[v.pos:v.end])
	if v.isAxis {
		return p.fail(v.pos, ErrSyntax, "%s has %d numbers; a node is [x,y]", text, len(v.list))
	}
	return p.fail(v.pos, ErrSyntax, "%s is neither a pair [x,y] nor a list of pairs [[x,y],…]", text)
}
