package frisbeesvc

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus/bustest"
	"loadnode/events"
)

func TestDamageBeforeServing(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, p string){
		"flipped bit": func(t *testing.T, p string) { flip(t, p, 1<<20+99_999) },
		"truncated":   func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := put(t, b.dir, "a.ndz", makeImage(t, 1, 2))
			b.start()
			var im events.Image
			require.NoError(t, b.ask(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}, &im))
			spoil(t, p)
			require.Equal(t, events.CodeDamaged, b.code(events.FrisbeeCheck, events.ImageQuery{Image: "a.ndz"}))
			require.Equal(t, events.CodeDamaged, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1"}))
			require.Equal(t, events.CodeDamaged, b.code(events.FrisbeeVerify, events.ImageQuery{Image: "a.ndz"}))
			b.restart()
			require.Equal(t, events.CodeDamaged, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "1"}))
			require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageDamaged}, b.facts("a.ndz"), "told once")
			_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "a.ndz"), events.KindImageDamaged)
			fact := d.(events.ImageDamaged)
			require.Equal(t, im.Digest, fact.Digest)
			require.Equal(t, 1, *fact.Chunk)
			require.EqualValues(t, 1<<20, *fact.First)

			put(t, b.dir, "a.ndz", makeImage(t, 1, 2)) // restored
			require.Equal(t, im.Digest, b.serve("a.ndz", "1").Image.Digest)
			require.Equal(t, []events.Kind{events.KindImageAdded, events.KindImageDamaged, events.KindImageAdded, events.KindImageServed}, b.facts("a.ndz"))
		})
	}
}

// A bit that flips while the image is being sent: the session ends, and no
// block of the bad chunk has left.
func TestDamageWhileServing(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, p string){
		"flipped bit": func(t *testing.T, p string) { flip(t, p, 2<<20+99_999) },
		"truncated":   func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 2<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			data := makeImage(t, 1, 4)
			p := put(t, b.dir, "a.ndz", data)
			b.start()
			se := b.serve("a.ndz", "job").Session
			spoil(t, p)
			n := b.node(1, se, manifestOf(t, data))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- n.load(ctx) }()
			filter := events.ImageFacts(b.cfg.Testbed, "a.ndz")
			_, d := bustest.AwaitFact(t, b.bus.Connect(t), filter, events.KindImageDamaged)
			require.GreaterOrEqual(t, *d.(events.ImageDamaged).Chunk, 2)
			_, d = bustest.AwaitFact(t, b.bus.Connect(t), filter, events.KindImageReleased)
			require.Equal(t, "damaged", d.(events.ImageReleased).Reason)
			require.Equal(t, se.ID, d.(events.ImageReleased).Session)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
			require.Zero(t, n.client.Progress().Corrupt, "nothing bad was received")
			b.awaitNoSessions()
			require.Equal(t, events.CodeDamaged, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "job"}))
		})
	}
}

// Nobody asks for the bad chunk, but the file is looked at.
func TestGuardFindsDamage(t *testing.T) {
	b := newBench(t)
	p := put(t, b.dir, "a.ndz", makeImage(t, 1, 2))
	q := put(t, b.dir, "b.ndz", makeImage(t, 2, 2))
	b.start()
	b.serve("a.ndz", "job")
	b.serve("b.ndz", "job")
	flip(t, p, 5000)
	other := put(t, b.dir, ".other", makeImage(t, 3, 2))
	require.NoError(t, os.Remove(q+".manifest.json"))
	require.NoError(t, os.Rename(other, q)) // replaced and, without its manifest, adopted anew
	b.clock.step(t, 6*time.Second)
	for _, image := range []string{"a.ndz", "b.ndz"} {
		_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, image), events.KindImageReleased)
		require.Equal(t, "damaged", d.(events.ImageReleased).Reason)
	}
	b.awaitNoSessions()
	require.Equal(t, manifestOf(t, makeImage(t, 3, 2)).Root().String(), b.serve("b.ndz", "job-2").Image.Digest)
}

// The file is spoiled or gone while nobody runs: the recorded session is not
// resumed, and that is recorded.
func TestResumeWithoutTheContent(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(p string) error
		reason string
		code   events.Code
	}{
		"damaged": {func(p string) error { return os.Truncate(p, 1<<20) }, "damaged", events.CodeDamaged},
		"gone":    {func(p string) error { return errors.Join(os.Remove(p), os.Remove(p+".manifest.json")) }, "removed", events.CodeImage},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := put(t, b.dir, "a.ndz", makeImage(t, 1, 2))
			b.start()
			b.serve("a.ndz", "job")
			b.halt()
			require.NoError(t, tc.do(p))
			b.start()
			_, d := bustest.AwaitFact(t, b.bus.Connect(t), events.ImageFacts(b.cfg.Testbed, "a.ndz"), events.KindImageReleased)
			require.Equal(t, tc.reason, d.(events.ImageReleased).Reason)
			require.Equal(t, tc.code, b.code(events.FrisbeeServe, events.ServeRequest{Image: "a.ndz", Lease: "job"}))
		})
	}
}
