package lease

import (
	"fmt"
	"maps"
	"slices"

	"loadnode/events"
)

// State is the leases of one testbed. It is a value: Apply returns a new one
// and leaves the old one as it was.
type State struct {
	holder    map[string]string           // node → job
	protected map[string]events.Protected // node → the fact that protects it
	// Ignored counts facts that are not of this vocabulary or do not fit, such
	// as a lease of a node that another job holds.
	Ignored int
}

// Holder is the job that holds a node, "" for none.
func (s State) Holder(node string) string { return s.holder[node] }

// Protected says who protected a node and why; ok is false for a free one.
func (s State) Protected(node string) (p events.Protected, ok bool) {
	p, ok = s.protected[node]
	return p, ok
}

// Held lists the nodes that a job holds, sorted.
func (s State) Held(job string) []string {
	var out []string
	for n, j := range s.holder {
		if j == job {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Jobs lists the jobs that hold nodes, sorted.
func (s State) Jobs() []string {
	seen := make(map[string]bool)
	for _, j := range s.holder {
		seen[j] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// Apply folds one fact into the state.
func Apply(s State, d events.Data) State {
	switch d := d.(type) {
	case events.Leased:
		if d.Job == "" || !s.free(d) {
			s.Ignored++
			return s
		}
		s.holder = clone(s.holder)
		for _, n := range d.Nodes {
			s.holder[n] = d.Job
		}
	case events.Released:
		s.holder = clone(s.holder)
		for _, n := range d.Nodes {
			if s.holder[n] == d.Job {
				delete(s.holder, n)
			}
		}
	case events.Protected:
		s.protected = clone(s.protected)
		for _, n := range d.Nodes {
			s.protected[n] = events.Protected{Nodes: []string{n}, By: d.By, Reason: d.Reason}
		}
	case events.Unprotected:
		s.protected = clone(s.protected)
		for _, n := range d.Nodes {
			delete(s.protected, n)
		}
	default:
		s.Ignored++
	}
	return s
}

func clone[V any](m map[string]V) map[string]V {
	if m == nil {
		return make(map[string]V)
	}
	return maps.Clone(m)
}

func (s State) free(d events.Leased) bool {
	for _, n := range d.Nodes {
		if h := s.holder[n]; h != "" && h != d.Job {
			return false
		}
	}
	return true
}

// Take makes the fact that a job holds nodes, all of them or none; no fact if
// it holds them already. fixed tells which nodes the inventory protects. The
// error has code protected or leased, and names node and holder.
func Take(s State, job string, nodes []string, fixed func(node string) bool) ([]events.Data, *events.Error) {
	var missing []string
	for _, n := range nodes {
		if p, ok := s.protected[n]; ok {
			return nil, &events.Error{Code: events.CodeProtected,
				Message: fmt.Sprintf("node %s is protected by %s%s", n, orSomebody(p.By), because(p.Reason)),
				Hint:    fmt.Sprintf("leave it out, or run: omf nodes unprotect '%s'", n)}
		}
		if fixed(n) {
			return nil, &events.Error{Code: events.CodeProtected,
				Message: fmt.Sprintf("node %s is protected by the inventory", n),
				Hint:    fmt.Sprintf("leave it out of the set: ~%s", n)}
		}
		if s.holder[n] != job {
			missing = append(missing, n)
		}
	}
	for _, n := range missing {
		if h := s.holder[n]; h != "" {
			return nil, &events.Error{Code: events.CodeLeased, Job: h, Retryable: true,
				Message: fmt.Sprintf("node %s is held by job %s", n, h),
				Hint:    fmt.Sprintf("wait with --wait, leave it out, or see: omf job show %s", h)}
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return []events.Data{events.Leased{Job: job, Nodes: slices.Clone(nodes)}}, nil
}

func orSomebody(by string) string {
	if by == "" {
		return "an operator"
	}
	return by
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Free makes the fact that a job holds nothing any more; no fact if it holds
// nothing.
func Free(s State, job string) []events.Data {
	held := s.Held(job)
	if len(held) == 0 {
		return nil
	}
	return []events.Data{events.Released{Job: job, Nodes: held}}
}

// Release makes the facts that release some nodes by hand, one for each job
// that held any of them.
func Release(s State, nodes []string, by string) []events.Data {
	of := make(map[string][]string)
	for _, n := range nodes {
		if h := s.holder[n]; h != "" && !slices.Contains(of[h], n) {
			of[h] = append(of[h], n)
		}
	}
	var out []events.Data
	for _, j := range slices.Sorted(maps.Keys(of)) {
		out = append(out, events.Released{Job: j, Nodes: of[j], By: by})
	}
	return out
}

// Protect makes the fact that nodes refuse every job from now on; no fact if
// all do so already. Nodes that a job holds stay with it until it ends.
func Protect(s State, nodes []string, by, reason string) []events.Data {
	var out []string
	for _, n := range nodes {
		if _, ok := s.protected[n]; !ok && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return []events.Data{events.Protected{Nodes: out, By: by, Reason: reason}}
}

// Unprotect takes protections of operators back; no fact if there is none.
func Unprotect(s State, nodes []string, by string) []events.Data {
	var out []string
	for _, n := range nodes {
		if _, ok := s.protected[n]; ok && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return []events.Data{events.Unprotected{Nodes: out, By: by}}
}
