package nodeset

import (
	"fmt"
	"strings"
)

// Topology is one definition of a topology file.
type Topology struct {
	Name string
	Set  Set
}

// ParseTopology reads a topology file. Of the Ruby that OMF executed it
// understands comments and
//
//	defTopology('name', [[1,1],[2..6,1..2]])
//	defTopology('name', 'omf.nicta.node1,omf.nicta.node2')
//	defTopology('name', ['omf.nicta.node1', 'omf.nicta.node2'])
//	defTopology('name') { |t|                 # or: do |t| … end
//	  t.addNode(1,2)
//	  t.addNode('sender', [1,1])              # the role is not used here
//	  t.addNode('omf.nicta.node1')
//	}
//
// with either kind of quotes and with or without parentheses. Everything else
// is an error with the line; nothing is evaluated.
func ParseTopology(text []byte) ([]Topology, error) {
	if len(text) > MaxFile {
		return nil, &ParseError{Line: 1, Column: 1, Kind: ErrTooLarge,
			Problem: fmt.Sprintf("the file has %d bytes, allowed are %d", len(text), MaxFile)}
	}
	p := &topologyParser{parser{src: string(text), file: true}}
	var all []Topology
	for p.next(); p.pos < len(p.src); p.next() {
		if len(all) == maxTopologies {
			return nil, p.fail(p.pos, ErrTooLarge, "more than %d definitions in one file", maxTopologies)
		}
		t, err := p.definition()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil, p.fail(0, ErrSyntax, "the file defines no topology; it needs a defTopology('name', [[1,1],…])")
	}
	return all, nil
}

type topologyParser struct{ parser }

// next skips to the next statement.
func (p *topologyParser) next() {
	for p.blanks(); p.peek() == ';'; p.blanks() {
		p.pos++
	}
}

// strange is the error for anything that is Ruby, or nothing at all.
func (p *topologyParser) strange(pos int) error {
	line, _, _ := strings.Cut(p.src[pos:], "\n")
	if line == "" {
		return p.fail(pos, ErrSyntax, "the definition is not complete")
	}
	return p.fail(pos, ErrSyntax, "not understood: %s; a topology holds only defTopology and addNode with plain numbers and names, it is not executed", clip(strings.TrimSpace(line)))
}

func (p *topologyParser) ident() string {
	start := p.pos
	for p.pos < len(p.src) && (isAlnum(p.src[p.pos]) || p.src[p.pos] == '_') {
		p.pos++
	}
	return p.src[start:p.pos]
}

// accept skips blanks and the byte c, if it comes next.
func (p *topologyParser) accept(c byte) bool {
	p.blanks()
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

// definition reads a defTopology and its block.
func (p *topologyParser) definition() (Topology, error) {
	start := p.pos
	if p.ident() != "defTopology" {
		return Topology{}, p.strange(start)
	}
	paren := p.accept('(')
	p.blanks()
	name, err := p.quoted()
	if err != nil {
		return Topology{}, err
	}
	if err := CheckTopologyName(name); err != nil {
		return Topology{}, p.fail(start, ErrSyntax, "%v", err)
	}
	t := Topology{Name: name}
	if p.accept(',') {
		p.blanks()
		if t.Set.items, err = p.members(); err != nil {
			return Topology{}, err
		}
	}
	if paren && !p.accept(')') {
		return Topology{}, p.strange(p.pos)
	}
	t.Set.items, err = p.block(t.Set.items)
	return t, err
}

// block reads the block after a defTopology, if there is one.
func (p *topologyParser) block(items []item) ([]item, error) {
	p.blanks()
	start := p.pos
	end := "}"
	switch {
	case p.peek() == '{':
		p.pos++
	case p.ident() == "do":
		end = "end"
	default:
		p.pos = start
		return items, nil
	}
	if !p.accept('|') {
		return nil, p.strange(p.pos)
	}
	p.blanks()
	variable := p.ident()
	if variable == "" || !p.accept('|') {
		return nil, p.strange(p.pos)
	}
	for {
		p.next()
		at := p.pos
		if end == "}" && p.accept('}') {
			return items, nil
		}
		word := p.ident()
		if word == end {
			return items, nil
		}
		if word != variable || !p.accept('.') {
			return nil, p.strange(at)
		}
		p.blanks()
		if p.ident() != "addNode" {
			return nil, p.strange(at)
		}
		more, err := p.addNode(at)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
	}
}

// addNode reads the arguments of an addNode.
func (p *topologyParser) addNode(at int) ([]item, error) {
	paren := p.accept('(')
	p.blanks()
	var items []item
	var err error
	if isDigit(p.peek()) {
		items, err = p.point()
	} else if c := p.peek(); c == '\'' || c == '"' {
		var first string
		begin := p.pos
		if first, err = p.quoted(); err == nil {
			if p.accept(',') { // what came first is a role
				p.blanks()
				if isDigit(p.peek()) {
					items, err = p.point()
				} else {
					items, err = p.members()
				}
			} else {
				items, err = p.inQuotes(first, begin)
			}
		}
	} else {
		items, err = p.members()
	}
	if err != nil {
		return nil, err
	}
	if paren && !p.accept(')') {
		return nil, p.strange(p.pos)
	}
	if len(items) == 0 {
		return nil, p.fail(at, ErrEmpty, "addNode names no node")
	}
	return items, nil
}

// point reads x,y without brackets.
func (p *topologyParser) point() ([]item, error) {
	start := p.pos
	x, err := p.scalar()
	if err != nil {
		return nil, err
	}
	if !p.accept(',') {
		return nil, p.strange(start)
	}
	p.blanks()
	y, err := p.scalar()
	if err != nil {
		return nil, err
	}
	if !x.single || !y.single {
		return nil, p.strange(start)
	}
	it := item{kind: kindRect, x: x.axis(), y: y.axis()}
	return []item{it}, p.charge(start, 1)
}

// members reads what stands for nodes: brackets, a quoted set, or a list of
// quoted names. An empty list and empty quotes are a topology without nodes.
func (p *topologyParser) members() ([]item, error) {
	start := p.pos
	switch p.peek() {
	case '\'', '"':
		text, err := p.quoted()
		if err != nil {
			return nil, err
		}
		return p.inQuotes(text, start)
	case '[':
	default:
		return nil, p.strange(start)
	}
	p.pos++
	p.blanks()
	switch p.peek() {
	case ']':
		p.pos++
		return nil, nil
	case '\'', '"':
		return p.names()
	}
	p.pos = start
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if !v.isSet {
		return nil, p.notSet(v)
	}
	return p.rects(nil, v)
}

// names reads the rest of a list of quoted names.
func (p *topologyParser) names() ([]item, error) {
	var items []item
	for {
		p.blanks()
		at := p.pos
		text, err := p.quoted()
		if err != nil {
			return nil, err
		}
		more, err := p.inQuotes(text, at)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
		if p.accept(']') {
			return items, nil
		}
		if !p.accept(',') {
			return nil, p.strange(p.pos)
		}
	}
}

// inQuotes reads the expression in a quoted string. It is counted with the
// rest of the file.
func (p *topologyParser) inQuotes(text string, at int) ([]item, error) {
	inner := &parser{src: text, count: p.count, nodes: p.nodes}
	items, err := inner.set(false)
	if err == nil {
		err = inner.leading(items, 0)
	}
	if err != nil {
		e := err.(*ParseError)
		return nil, p.fail(at, e.Kind, "in '%s': %s", clip(text), e.Problem)
	}
	p.count, p.nodes = inner.count, inner.nodes
	return items, nil
}

// quoted reads a string literal. Escapes and interpolation would need Ruby.
func (p *topologyParser) quoted() (string, error) {
	start := p.pos
	quote := p.peek()
	if quote != '\'' && quote != '"' {
		return "", p.strange(start)
	}
	for p.pos++; p.pos < len(p.src); p.pos++ {
		switch c := p.src[p.pos]; {
		case c == quote:
			p.pos++
			return p.src[start+1 : p.pos-1], nil
		case c == '\\', c == '\n', c == '#':
			return "", p.strange(start)
		}
	}
	return "", p.fail(start, ErrSyntax, "the quote is not closed")
}
