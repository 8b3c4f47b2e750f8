package job

// Archive returns the state as it is without the facts of the nodes: what the
// fold gives once an old job has been archived.
func Archive(s State) State {
	if !s.Over() || s.Plan == nil {
		return s
	}
	s.nodes = accept(State{}, s.Began, *s.Plan).nodes
	return s
}

// Archived reports whether the facts of the nodes of an ended job are gone.
// Its result stays in Result.
func (s State) Archived() bool {
	if s.Phase != Finished || s.Plan.DryRun {
		return false
	}
	for _, n := range s.nodes {
		if !n.Ended() {
			return true
		}
	}
	return false
}
