package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
)

// flakyStream takes reports when it likes. It may store one and lose the
// acknowledgement.
type flakyStream struct {
	mu     sync.Mutex
	accept func() (stored bool, err error)
	stored []string
	tries  []time.Time
}

func (s *flakyStream) Publish(ctx context.Context, _ string, ev event.Event) (bus.Ack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, time.Now())
	stored, err := s.accept()
	if stored && (len(s.stored) == 0 || s.stored[len(s.stored)-1] != ev.ID()) {
		s.stored = append(s.stored, ev.ID())
	}
	return bus.Ack{}, err
}

func reportNumber(i int) report {
	ev := event.New()
	ev.SetID(fmt.Sprint(i))
	return report{subject: "s", event: ev}
}

func TestOutboxKeepsOrderOverAFlakyStream(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random, luck := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
			stream := &flakyStream{accept: func() (bool, error) {
				switch luck.IntN(4) {
				case 0:
					return true, nil
				case 1:
					return true, errors.New("acknowledgement lost")
				}
				return false, errors.New("not connected")
			}}
			o := newOutbox(stream, SystemClock{}, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { o.run(ctx) })
			var want []string
			for i := range 30 {
				o.add(reportNumber(i))
				want = append(want, fmt.Sprint(i))
				if random.IntN(3) == 0 {
					<-o.drained()
				}
			}
			<-o.drained()
			require.Zero(t, o.len())
			require.Equal(t, want, stream.stored)
			cancel()
			wg.Wait()
		})
	}
}

func TestOutboxIsNotBlockedByWhatNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{bus.ErrDenied, bus.ErrTooLarge, nil}
		stream := &flakyStream{accept: func() (bool, error) {
			err := answers[0]
			answers = answers[1:]
			return err == nil, err
		}}
		o := newOutbox(stream, SystemClock{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { o.run(ctx) })
		o.add(reportNumber(1)) // denied, tried again, and too large
		o.add(reportNumber(2))
		<-o.drained()
		require.Equal(t, []string{"2"}, stream.stored)
		cancel()
		wg.Wait()
	})
}

func TestOutboxTriesLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &flakyStream{accept: func() (bool, error) { return false, errors.New("no") }}
		o := newOutbox(stream, SystemClock{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o.add(reportNumber(1))
		o.run(ctx)
		require.Equal(t, 1, o.len(), "an unacknowledged report is kept")
		require.InDelta(t, 17, len(stream.tries), 3)
		for i := 2; i < len(stream.tries); i++ {
			gap := stream.tries[i].Sub(stream.tries[i-1])
			require.LessOrEqual(t, gap, outboxPauseMax)
			require.GreaterOrEqual(t, gap, stream.tries[i-1].Sub(stream.tries[i-2]))
		}
	})
}
