package nodeset

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Resolve turns the set into names of nodes of the testbed, each once, in the
// order of first appearance. What names no node of the testbed is returned in
// missing, spelled n9-9 for a place in the grid and as written otherwise;
// where it would have been taken away, with ~ in front. Whether anything
// missing is a fault is for the caller to say. Nodes may be empty without an
// error.
//
// Errors: ErrTopology for a topology that is not there or cannot be used,
// ErrTooLarge, and what the View returned for a topology.
func (s Set) Resolve(v View) (nodes, missing []string, err error) {
	r := &resolver{view: v, missed: map[string]bool{}, topologies: map[string]Set{}}
	var l list
	if err := r.items(&l, s.items, false, len(s.items) == 1); err != nil {
		return nil, nil, err
	}
	return l.names(), r.missing, nil
}

type resolver struct {
	view       View
	missing    []string
	missed     map[string]bool
	topologies map[string]Set
	using      []string // topologies being resolved, outermost first
	visits     int
}

// list is an ordered set of names.
type list struct {
	order []string // "" where a name was taken away
	at    map[string]int
}

func (l *list) add(name string) {
	if _, ok := l.at[name]; ok {
		return
	}
	if l.at == nil {
		l.at = map[string]int{}
	}
	l.at[name] = len(l.order)
	l.order = append(l.order, name)
}

func (l *list) remove(name string) {
	if i, ok := l.at[name]; ok {
		l.order[i] = ""
		delete(l.at, name)
	}
}

func (l *list) names() []string {
	names := make([]string, 0, len(l.at))
	for _, n := range l.order {
		if n != "" {
			names = append(names, n)
		}
	}
	return names
}

func (r *resolver) visit(n int) error {
	if r.visits += n; r.visits > maxVisits {
		return fmt.Errorf("%w: it names nodes more than %d times", ErrTooLarge, maxVisits)
	}
	return nil
}

func (r *resolver) miss(name string, minus bool) {
	if minus {
		name = "~" + name
	}
	if !r.missed[name] {
		r.missed[name] = true
		r.missing = append(r.missing, name)
	}
}

// put adds a name to the list, or takes it away.
func (r *resolver) put(l *list, minus bool, name string) {
	if minus {
		l.remove(name)
	} else {
		l.add(name)
	}
}

// items resolves items into l. minus says that the list will be taken away
// by somebody above, lone that a word may be a topology.
func (r *resolver) items(l *list, items []item, minus, lone bool) error {
	for _, it := range items {
		if err := r.item(l, it, minus, lone); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) item(l *list, it item, minus, lone bool) error {
	if err := r.visit(1); err != nil {
		return err
	}
	missMinus := minus || it.minus
	switch it.kind {
	case kindRect:
		return it.x.each(func(x int) error {
			return it.y.each(func(y int) error {
				if err := r.visit(1); err != nil {
					return err
				}
				if name, ok := r.view.At(x, y); ok {
					r.put(l, it.minus, name)
				} else {
					r.miss(Name(x, y), missMinus)
				}
				return nil
			})
		})
	case kindNumbers:
		return r.numbers(l, it.nums, it.step, it.minus, missMinus)
	case kindAll:
		return r.all(l, it.minus)
	case kindWord:
		return r.word(l, it, missMinus, lone)
	case kindTopology:
		return r.topology(l, it.word, it.minus, missMinus)
	default:
		var inner list
		if err := r.items(&inner, it.items, missMinus, false); err != nil {
			return err
		}
		return r.merge(l, inner.names(), it.minus)
	}
}

func (r *resolver) merge(l *list, names []string, minus bool) error {
	if err := r.visit(len(names)); err != nil {
		return err
	}
	for _, n := range names {
		r.put(l, minus, n)
	}
	return nil
}

func (r *resolver) all(l *list, minus bool) error { return r.merge(l, r.view.All(), minus) }

func (r *resolver) numbers(l *list, nums span, step int, minus, missMinus bool) error {
	for n := nums.lo; n <= nums.hi; n += step {
		if err := r.visit(1); err != nil {
			return err
		}
		if name, ok := r.view.Numbered(n); ok {
			r.put(l, minus, name)
		} else {
			r.miss(fmt.Sprintf("%s%d", r.view.Prefix(), n), missMinus)
		}
	}
	return nil
}

func (r *resolver) word(l *list, it item, missMinus, lone bool) error {
	if name, ok := r.view.Named(it.word); ok {
		r.put(l, it.minus, name)
		return nil
	}
	if x, y, ok := Coordinates(it.word); ok {
		if columns, _ := r.view.Grid(); columns > 0 {
			if name, ok := r.view.At(x, y); ok {
				r.put(l, it.minus, name)
			} else {
				r.miss(Name(x, y), missMinus)
			}
			return nil
		}
	}
	if nums, step, ok := prefixed(it.word, r.view.Prefix()); ok {
		if n := (nums.len()-1)/int64(step) + 1; n > MaxNodes {
			return fmt.Errorf("%w: %s names %d nodes, allowed are %d", ErrTooLarge, clip(it.word), n, MaxNodes)
		}
		return r.numbers(l, nums, step, it.minus, missMinus)
	}
	if lone && CheckTopologyName(it.word) == nil {
		set, err := r.load(it.word)
		if err == nil {
			return r.within(l, it.word, set, it.minus, missMinus)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	r.miss(it.word, missMinus)
	return nil
}

// prefixed reads fit8, fit08, fit1-3, fit1-fit3, fit1-10-2 for the prefix fit.
func prefixed(word, prefix string) (nums span, step int, ok bool) {
	if prefix == "" || !strings.HasPrefix(word, prefix) {
		return span{}, 0, false
	}
	text := strings.ReplaceAll(strings.TrimPrefix(word, prefix), "-"+prefix, "-")
	nums, step, err := numbers(text)
	return nums, step, err == nil
}

// topology resolves a named topology: one of the three that are built in, or
// a file that the View finds.
func (r *resolver) topology(l *list, name string, minus, missMinus bool) error {
	switch name {
	case "system:topo:all":
		return r.all(l, minus)
	case "system:topo:circle":
		for _, p := range circle() {
			if n, ok := r.view.At(p[0], p[1]); ok {
				r.put(l, minus, n)
			}
		}
		return r.visit(len(circle()))
	case "system:topo:active":
		var known []string
		for _, n := range r.view.Active() {
			if k, ok := r.view.Named(n); ok {
				known = append(known, k)
			} else {
				r.miss(n, missMinus)
			}
		}
		return r.merge(l, known, minus)
	}
	set, err := r.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s (looked for the files %s)", ErrTopology, name, strings.Join(TopologyFiles(name), ", "))
	}
	if err != nil {
		return err
	}
	return r.within(l, name, set, minus, missMinus)
}

// within resolves the set of a topology file.
func (r *resolver) within(l *list, name string, set Set, minus, missMinus bool) error {
	if slices.Contains(r.using, name) {
		return fmt.Errorf("topology %s: %w: it uses itself", name, ErrTopology)
	}
	if len(r.using) == maxDepth {
		return fmt.Errorf("%w: topologies use each other deeper than %d", ErrTooLarge, maxDepth)
	}
	r.using = append(r.using, name)
	var inner list
	err := r.items(&inner, set.items, missMinus, false)
	r.using = r.using[:len(r.using)-1]
	if err != nil {
		return err
	}
	return r.merge(l, inner.names(), minus)
}

// load reads a topology once. A name without a file is fs.ErrNotExist, of
// this name and of no other.
func (r *resolver) load(name string) (Set, error) {
	if set, ok := r.topologies[name]; ok {
		return set, nil
	}
	if len(r.topologies) == maxTopologies {
		return Set{}, fmt.Errorf("%w: more than %d topologies", ErrTooLarge, maxTopologies)
	}
	text, err := r.view.Topology(name)
	if err != nil {
		return Set{}, fmt.Errorf("topology %s: %w", name, err)
	}
	all, err := ParseTopology(text)
	if err != nil {
		return Set{}, fmt.Errorf("topology %s: %w", name, err)
	}
	set, err := pick(all, name)
	if err != nil {
		return Set{}, fmt.Errorf("topology %s: %w", name, err)
	}
	r.topologies[name] = set
	return set, nil
}

// pick takes the definition of that name, or the only one: files are renamed.
func pick(all []Topology, name string) (Set, error) {
	names := make([]string, len(all))
	for i, t := range all {
		if t.Name == name {
			return t.Set, nil
		}
		names[i] = t.Name
	}
	if len(all) == 1 {
		return all[0].Set, nil
	}
	return Set{}, fmt.Errorf("%w: its file defines only %s", ErrTopology, clip(strings.Join(names, ", ")))
}
