package netboot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fact is one of a log.
type fact struct {
	at events.Address
	d  events.Data
}

func ofJob(job string, d events.Data) fact {
	return fact{events.Address{Tree: "evt", Testbed: "tb", Job: job, Kind: d.Kind()}, d}
}

func ofNode(job, node string, d events.Data) fact {
	return fact{events.Address{Tree: "evt", Testbed: "tb", Job: job, Node: node, Kind: d.Kind()}, d}
}

func fold(log ...fact) *state {
	s := newState()
	for _, f := range log {
		s.take(f.at, start, f.d)
	}
	return s
}

func TestLife(t *testing.T) {
	ref := events.NodeRef{Job: "j", Node: "n", Attempt: 1}
	life := []fact{
		ofJob("j", events.JobAccepted{Job: "j"}),
		ofNode("j", "n", events.RebootRequested{NodeRef: ref}),
		ofNode("j", "n", events.PxeUp{NodeRef: ref}),
		ofNode("j", "n", events.LoadStarted{NodeRef: ref}),
		ofNode("j", "n", events.LoadFailed{NodeRef: ref}),
		ofNode("j", "n", events.RebootRequested{NodeRef: events.NodeRef{Job: "j", Node: "n", Attempt: 2}}),
		ofNode("j", "n", events.LoadDone{NodeRef: ref}),
		ofNode("j", "n", events.ShutdownRequested{NodeRef: ref}),
		ofNode("j", "n", events.ShutdownDone{NodeRef: ref}),
		ofJob("j", events.JobFinished{Job: "j"}),
	}
	k := key{"tb", "n"}
	for i := range life {
		b, ok := fold(life[:i+1]...).of(k)
		require.Equal(t, i >= 1 && i <= 6, ok, life[i].at.Kind)
		if i >= 5 && i <= 6 {
			require.Equal(t, 2, b.attempt)
		}
	}
	_, ok := fold(life[:2]...).of(key{"other", "n"})
	require.False(t, ok, "of another testbed")
	_, ok = fold(append(life[:3:3], ofNode("j", "n", events.NodeFailed{NodeRef: ref}))...).of(k)
	require.False(t, ok)
	_, ok = fold(append(life[:3:3], ofJob("j", events.JobFinished{Job: "j"}))...).of(k)
	require.False(t, ok, "the end of the job is the end for all of its nodes")
	stay := append([]fact{ofJob("j", events.JobAccepted{Job: "j", Then: events.ThenStay})}, life[1:4]...)
	_, ok = fold(append(stay, ofNode("j", "n", events.LoadDone{NodeRef: ref}))...).of(k)
	require.False(t, ok, "a node that stays has ended")
}

// TestProjection: whatever the order of two jobs' facts, a node gets the
// imaging system exactly if the newest fact that says something about its boot
// is a reboot.requested, and a replay from anywhere that has the job gives the
// same.
func TestProjection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		model := map[string]string{} // node → job that it boots for
		var log []fact
		for range rapid.IntRange(1, 60).Draw(t, "facts") {
			job := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "job")
			node := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node")
			ref := events.NodeRef{Job: job, Node: node, Attempt: 1}
			var f fact
			switch rapid.IntRange(0, 7).Draw(t, "kind") {
			case 0, 1, 2:
				f = ofNode(job, node, events.RebootRequested{NodeRef: ref})
				model[node] = job
			case 3:
				f = ofNode(job, node, events.PxeUp{NodeRef: ref})
			case 4:
				f = ofNode(job, node, events.LoadFailed{NodeRef: ref})
			case 5:
				f = ofNode(job, node, events.NodeFailed{NodeRef: ref})
			case 6:
				f = ofNode(job, node, events.ShutdownRequested{NodeRef: ref})
			case 7:
				f = ofJob(job, events.JobFinished{Job: job})
				for n, j := range model {
					if j == job {
						delete(model, n)
					}
				}
			}
			if k := f.at.Kind; (k == events.KindNodeFailed || k == events.KindShutdownRequested) && model[node] == job {
				delete(model, node)
			}
			log = append(log, f)
			s.take(f.at, start, f.d)
		}
		again := fold(log...)
		for _, node := range []string{"n1", "n2", "n3"} {
			b, ok := s.of(key{"tb", node})
			if ok != (model[node] != "") || ok && b.job != model[node] {
				t.Fatalf("%s boots for %q, not for %q", node, b.job, model[node])
			}
			if c, there := again.of(key{"tb", node}); there != ok || c != b {
				t.Fatalf("%s: a replay gives %+v, not %+v", node, c, b)
			}
		}
	})
}
