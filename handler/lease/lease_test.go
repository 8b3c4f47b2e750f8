package lease_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
	"loadnode/handler/lease"
)

func never(string) bool { return false }

func fold(s lease.State, facts []events.Data) lease.State {
	for _, f := range facts {
		s = lease.Apply(s, f)
	}
	return s
}

func TestAllOrNone(t *testing.T) {
	facts, e := lease.Take(lease.State{}, "a", []string{"n1", "n2"}, never)
	require.Nil(t, e)
	s := fold(lease.State{}, facts)
	require.Equal(t, []string{"n1", "n2"}, s.Held("a"))

	facts, e = lease.Take(s, "b", []string{"n3", "n2"}, never)
	require.Empty(t, facts)
	require.Equal(t, events.CodeLeased, e.Code)
	require.Equal(t, "a", e.Job)
	require.Contains(t, e.Message, "n2")

	again, e := lease.Take(s, "a", []string{"n1", "n2"}, never)
	require.Nil(t, e)
	require.Empty(t, again, "a lease repeated is no fact")

	s = fold(s, lease.Free(s, "a"))
	require.Empty(t, s.Jobs())
	require.Empty(t, lease.Free(s, "a"))
}

func TestProtection(t *testing.T) {
	s := fold(lease.State{}, lease.Protect(lease.State{}, []string{"n1", "n1"}, "ann", "disk under repair"))
	_, e := lease.Take(s, "a", []string{"n2", "n1"}, never)
	require.Equal(t, events.CodeProtected, e.Code)
	require.Contains(t, e.Message, "ann: disk under repair")
	_, e = lease.Take(s, "a", []string{"n2"}, func(n string) bool { return n == "n2" })
	require.Equal(t, events.CodeProtected, e.Code)
	require.Empty(t, lease.Protect(s, []string{"n1"}, "bob", ""))
	s = fold(s, lease.Unprotect(s, []string{"n1", "n2"}, "ann"))
	require.Empty(t, lease.Unprotect(s, []string{"n1"}, "ann"))
	_, e = lease.Take(s, "a", []string{"n1"}, never)
	require.Nil(t, e)
}

func TestReleaseByHand(t *testing.T) {
	var s lease.State
	for _, j := range []string{"a", "b"} {
		facts, e := lease.Take(s, j, []string{j + "1", j + "2"}, never)
		require.Nil(t, e)
		s = fold(s, facts)
	}
	facts := lease.Release(s, []string{"b1", "a2", "a1", "x", "a1"}, "ann")
	require.Equal(t, []events.Data{
		events.Released{Job: "a", Nodes: []string{"a2", "a1"}, By: "ann"},
		events.Released{Job: "b", Nodes: []string{"b1"}, By: "ann"},
	}, facts)
	s = fold(s, facts)
	require.Equal(t, []string{"b"}, s.Jobs())
}

func TestUnknownFactsAreCounted(t *testing.T) {
	s := lease.Apply(lease.State{}, nil)
	s = lease.Apply(s, events.Up{})
	s = lease.Apply(s, events.Leased{Job: "a", Nodes: []string{"n"}})
	s = lease.Apply(s, events.Leased{Job: "b", Nodes: []string{"n"}})
	require.Equal(t, 3, s.Ignored)
	require.Equal(t, "a", s.Holder("n"))
}

// Whatever happens in whatever order, no node has two holders, and a refused
// job holds nothing of what it asked for.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s lease.State
		node := rapid.Custom(func(rt *rapid.T) string { return fmt.Sprintf("n%d", rapid.IntRange(1, 6).Draw(rt, "n")) })
		nodes := rapid.SliceOfNDistinct(node, 1, 4, rapid.ID[string])
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			j := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "job")
			set := nodes.Draw(rt, "nodes")
			var facts []events.Data
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				before := s.Held(j)
				var e *events.Error
				facts, e = lease.Take(s, j, set, never)
				if e != nil {
					require.Empty(rt, facts)
					require.Equal(rt, before, s.Held(j))
				} else {
					require.Subset(rt, fold(s, facts).Held(j), set)
				}
			case 2:
				facts = lease.Free(s, j)
				require.Empty(rt, fold(s, facts).Held(j))
			case 3:
				facts = lease.Release(s, set, "ann")
			case 4:
				facts = lease.Protect(s, set, "ann", "")
				if rapid.Bool().Draw(rt, "back") {
					facts = lease.Unprotect(s, set, "ann")
				}
			}
			s = fold(s, facts)
			require.Zero(rt, s.Ignored, "a fact does not apply")
			count := 0
			for _, j := range s.Jobs() {
				count += len(s.Held(j))
			}
			require.LessOrEqual(rt, count, 6)
		}
	})
}
