package bus_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// nodeFact is a record of a node fact that differs by attempt.
func nodeFact(t testing.TB, job, node, source string, attempt int) bus.Record {
	t.Helper()
	d := events.LoadStarted{NodeRef: events.NodeRef{Job: job, Node: node, Attempt: attempt}}
	return bus.Record{
		Subject: events.NodeFactSubject(tb, job, node, d.Kind()),
		Event:   made(t, events.FactID(job, node, d.Kind(), attempt), source, d),
	}
}

func ids(all []bus.Message) []string {
	var out []string
	for _, m := range all {
		out = append(out, m.Event.ID())
	}
	return out
}

func TestAppendAllOrNothing(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job, other := newID(t), newID(t)
	filter := events.JobFacts(tb, job)

	last, err := c.Append(ctx, filter, 0, nodeFact(t, job, "n1-1", "/a", 1), nodeFact(t, job, "n1-2", "/a", 1), nodeFact(t, job, "n1-3", "/a", 1))
	require.NoError(t, err)
	require.Equal(t, uint64(3), last)

	// Facts of other aggregates between do not matter.
	_, err = c.Append(ctx, events.JobFacts(tb, other), 0, nodeFact(t, other, "n1-1", "/a", 1))
	require.NoError(t, err)
	last, err = c.Append(ctx, filter, last, nodeFact(t, job, "n1-1", "/a", 2))
	require.NoError(t, err)
	require.Equal(t, uint64(5), last)

	before := ids(bustest.All(t, c, bus.StreamFacts, filter))
	require.Len(t, before, 4)
	unchanged := func() {
		t.Helper()
		require.Equal(t, before, ids(bustest.All(t, c, bus.StreamFacts, filter)))
	}

	for name, stale := range map[string]uint64{"none": 0, "old": 3, "of another": 4, "future": 99} {
		for n := 1; n <= 3; n++ {
			var recs []bus.Record
			for i := range n {
				recs = append(recs, nodeFact(t, job, fmt.Sprintf("n9-%d", i), "/a", 1))
			}
			_, err = c.Append(ctx, filter, stale, recs...)
			require.ErrorIs(t, err, bus.ErrConflict, "%s, %d facts", name, n)
			unchanged()
		}
	}

	// A decision made twice, behind the newest fact: alone, last and first of several.
	twice := nodeFact(t, job, "n1-2", "/a", 1)
	for _, recs := range [][]bus.Record{{twice}, {nodeFact(t, job, "n8-1", "/a", 1), twice}, {twice, nodeFact(t, job, "n8-1", "/a", 1)}} {
		_, err = c.Append(ctx, filter, last, recs...)
		require.ErrorIs(t, err, bus.ErrDuplicate)
		require.False(t, bus.IsTransient(err))
		unchanged()
	}

	// One of several is too large: refused before anything is sent.
	big := nodeFact(t, job, "n7-1", "/a", 1)
	require.NoError(t, big.Event.SetData("application/json", map[string]string{"x": strings.Repeat("x", bus.MaxEventBytes)}))
	_, err = c.Append(ctx, filter, last, nodeFact(t, job, "n7-2", "/a", 1), big)
	require.ErrorIs(t, err, bus.ErrTooLarge)
	unchanged()

	got, err := c.Append(ctx, filter, last)
	require.NoError(t, err)
	require.Equal(t, last, got, "nothing to append is nothing appended")
	_, err = c.Append(ctx, filter, last, make([]bus.Record, bus.MaxAppend+1)...)
	require.ErrorContains(t, err, "1001 facts at once")
}

// TestAppendLargeBatch appends what a job of many nodes decides at once.
func TestAppendLargeBatch(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job := newID(t)
	recs := make([]bus.Record, bus.MaxAppend)
	for i := range recs {
		recs[i] = nodeFact(t, job, fmt.Sprintf("n%d", i), "/a", 1)
	}
	last, err := c.Append(ctx, events.JobFacts(tb, job), 0, recs...)
	require.NoError(t, err)
	require.Equal(t, uint64(bus.MaxAppend), last)
	all := bustest.All(t, c, bus.StreamFacts, events.JobFacts(tb, job))
	require.Len(t, all, bus.MaxAppend)
	for i, m := range all {
		require.Equal(t, recs[i].Event.ID(), m.Event.ID())
	}
}

// TestAppendRace has writers race for one aggregate: each loads, decides one
// to three facts, appends, and begins again on conflict. The log must be one
// sequence of whole decisions, each made on the state right before it.
func TestAppendRace(t *testing.T) {
	h := bustest.Start(t)
	ctx := within(t)
	job := newID(t)
	filter := events.JobFacts(tb, job)
	const writers, decisions = 4, 25
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		c := h.Connect(t)
		wg.Go(func() {
			for n := 0; n < decisions; {
				last := uint64(0)
				m, err := c.Last(ctx, bus.StreamFacts, filter)
				if err == nil {
					last = m.Seq
				}
				size := 1 + rand.IntN(3)
				var recs []bus.Record
				for i := range size {
					d := events.LoadFailed{
						NodeRef: events.NodeRef{Job: job, Node: fmt.Sprintf("w%d", w), Attempt: n},
						Message: fmt.Sprintf("%d of %d on %d", i, size, last),
					}
					recs = append(recs, bus.Record{
						Subject: events.NodeFactSubject(tb, job, fmt.Sprintf("w%d", w), d.Kind()),
						Event:   made(t, fmt.Sprintf("%s:%d:%d:%d", job, w, n, i), fmt.Sprintf("/w/%d", w), d),
					})
				}
				switch _, err = c.Append(ctx, filter, last, recs...); {
				case err == nil:
					n++
				case strings.Contains(err.Error(), bus.ErrConflict.Error()):
				default:
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	all := bustest.All(t, h.Connect(t), bus.StreamFacts, filter)
	made := make(map[string]int)
	for i := 0; i < len(all); {
		var part, size, on int
		d, err := events.Decode(all[i].Event)
		require.NoError(t, err)
		first := d.(events.LoadFailed)
		_, err = fmt.Sscanf(first.Message, "%d of %d on %d", &part, &size, &on)
		require.NoError(t, err)
		require.Zero(t, part, "a decision begins with its first fact")
		require.Equal(t, i, on, "decided on what stood right before") // the stream holds this aggregate only
		for k := range size {
			d, err := events.Decode(all[i+k].Event)
			require.NoError(t, err)
			f := d.(events.LoadFailed)
			require.Equal(t, fmt.Sprintf("%d of %d on %d", k, size, on), f.Message)
			require.Equal(t, first.NodeRef, f.NodeRef)
		}
		made[first.Node]++
		i += size
	}
	require.Len(t, made, writers)
	for _, n := range made {
		require.Equal(t, decisions, n)
	}
}

// TestAppendAckLost loses the acknowledgement: the facts are stored, the
// writer does not know, and must find its own instead of a conflict.
func TestAppendAckLost(t *testing.T) {
	for name, n := range map[string]int{"one": 1, "several": 3} {
		t.Run(name, func(t *testing.T) {
			h := bustest.Start(t)
			wire, ctx := &muted{h: h}, within(t)
			c, observer := wire.connect(t), h.Connect(t)
			job := newID(t)
			filter := events.JobFacts(tb, job)
			last, err := c.Append(ctx, filter, 0, nodeFact(t, job, "n1-1", "/a", 1))
			require.NoError(t, err)

			var recs []bus.Record
			for i := range n {
				recs = append(recs, nodeFact(t, job, fmt.Sprintf("n2-%d", i), "/a", 1))
			}
			wire.muteAfter(events.NodeFactSubject(tb, job, fmt.Sprintf("n2-%d", n-1), events.KindLoadStarted))
			type result struct {
				seq uint64
				err error
			}
			done := make(chan result, 1)
			go func() {
				seq, err := c.Append(ctx, filter, last, recs...)
				done <- result{seq, err}
			}()
			stored := bustest.Await(t, observer, bus.StreamFacts, recs[n-1].Subject, nil)
			// Another handler goes on meanwhile.
			after, err := observer.Append(ctx, filter, stored.Seq, nodeFact(t, job, "n3-1", "/b", 1))
			require.NoError(t, err)
			wire.cut(t)
			r := <-done
			require.NoError(t, r.err)
			require.Equal(t, stored.Seq, r.seq)
			require.Len(t, bustest.All(t, observer, bus.StreamFacts, filter), n+2)

			_, err = c.Append(ctx, filter, r.seq, nodeFact(t, job, "n4-1", "/a", 1))
			require.ErrorIs(t, err, bus.ErrConflict)
			_, err = c.Append(ctx, filter, after, nodeFact(t, job, "n4-1", "/a", 1))
			require.NoError(t, err)
		})
	}
}

// TestAppendSameDecision has two handlers decide the same: ids are the same,
// sources differ, and only one of them may believe that it was its own.
func TestAppendSameDecision(t *testing.T) {
	h := bustest.Start(t)
	a, b, ctx := h.Connect(t), h.Connect(t), within(t)
	job := newID(t)
	filter := events.JobFacts(tb, job)
	_, err := a.Append(ctx, filter, 0, nodeFact(t, job, "n1-1", "/a", 1))
	require.NoError(t, err)
	_, err = b.Append(ctx, filter, 0, nodeFact(t, job, "n1-1", "/b", 1))
	require.ErrorIs(t, err, bus.ErrConflict)
	require.Len(t, bustest.All(t, a, bus.StreamFacts, filter), 1)
}

// TestAppendRestart appends while the server is away and after it is back.
func TestAppendRestart(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job := newID(t)
	filter := events.JobFacts(tb, job)
	last, err := c.Append(ctx, filter, 0, nodeFact(t, job, "n1-1", "/a", 1), nodeFact(t, job, "n1-2", "/a", 1))
	require.NoError(t, err)
	h.Stop()
	type result struct {
		seq uint64
		err error
	}
	done := make(chan result, 1)
	go func() {
		seq, err := c.Append(ctx, filter, last, nodeFact(t, job, "n1-3", "/a", 1), nodeFact(t, job, "n1-4", "/a", 1))
		done <- result{seq, err}
	}()
	h.Resume()
	r := <-done
	require.NoError(t, r.err)
	require.Equal(t, uint64(4), r.seq)
	_, err = c.Append(ctx, filter, last, nodeFact(t, job, "n1-5", "/a", 1))
	require.ErrorIs(t, err, bus.ErrConflict)
	h.Restart()
	_, err = c.Append(ctx, filter, r.seq, nodeFact(t, job, "n1-5", "/a", 1))
	require.NoError(t, err)
	require.Len(t, bustest.All(t, c, bus.StreamFacts, filter), 5)

	// Without a server it ends with the context, saying why.
	h.Stop()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = c.Append(short, filter, 5, nodeFact(t, job, "n1-6", "/a", 1))
	require.ErrorIs(t, err, bus.ErrUnreachable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestAppendUnfinishedBatch leaves a batch without its commit, as a writer
// that dies in between does: nothing of it may ever be seen.
func TestAppendUnfinishedBatch(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job := newID(t)
	filter := events.JobFacts(tb, job)
	for i := range 2 {
		r := nodeFact(t, job, fmt.Sprintf("n1-%d", i), "/a", 1)
		m, err := bus.Encode(r.Subject, r.Event)
		require.NoError(t, err)
		m.Header.Set("Nats-Batch-Id", "dead")
		m.Header.Set("Nats-Batch-Sequence", fmt.Sprint(i+1))
		_, err = c.NATS().RequestMsgWithContext(ctx, m)
		require.NoError(t, err)
	}
	require.Empty(t, bustest.All(t, c, bus.StreamFacts, filter))
	last, err := c.Append(ctx, filter, 0, nodeFact(t, job, "n1-0", "/a", 1), nodeFact(t, job, "n1-1", "/a", 1))
	require.NoError(t, err)
	h.Restart()
	require.Len(t, bustest.All(t, c, bus.StreamFacts, filter), 2)
	_, err = c.Append(ctx, filter, last, nodeFact(t, job, "n1-2", "/a", 1))
	require.NoError(t, err)
}

// TestFactsCannotBeDeleted asks the server to delete single facts.
func TestFactsCannotBeDeleted(t *testing.T) {
	h := bustest.Start(t)
	c, ctx := h.Connect(t), within(t)
	job := newID(t)
	last, err := c.Append(ctx, events.JobFacts(tb, job), 0, nodeFact(t, job, "n1-1", "/a", 1))
	require.NoError(t, err)
	s, err := c.JetStream().Stream(ctx, bus.StreamFacts)
	require.NoError(t, err)
	var api *jetstream.APIError
	require.ErrorIs(t, s.DeleteMsg(ctx, last), jetstream.ErrMsgDeleteUnsuccessful)
	// Nor replaced through a roll-up header.
	m := nats.NewMsg(events.JobFactSubject(tb, job, events.KindJobFinished))
	m.Header.Set("Nats-Rollup", "all")
	_, err = c.JetStream().PublishMsg(ctx, m)
	require.ErrorAs(t, err, &api)
	_, err = c.Get(ctx, bus.StreamFacts, last)
	require.NoError(t, err)
	_, err = c.Get(ctx, bus.StreamFacts, last+1)
	require.ErrorIs(t, err, bus.ErrNoMessage)
	_, err = c.Last(ctx, bus.StreamFacts, events.JobFacts(tb, "none"))
	require.ErrorIs(t, err, bus.ErrNoMessage)
}
