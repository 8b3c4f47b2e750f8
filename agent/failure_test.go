package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/events"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

func TestFailureClasses(t *testing.T) {
	write := &install.WriteError{Off: 4096, Len: 512, Err: unix.EIO}
	stopped := &install.WriteError{Off: 4096, Len: 512, Err: context.Canceled}
	corrupt := ndz.Corrupt(7, errors.New("x"))
	readBack := &install.ReadBackError{First: 65536, Last: 131072, Chunk: 3, Ranges: 1}
	for _, c := range []struct {
		err   error
		at    step
		cause error
		class events.Class
		retry bool
		first int64 // -1: no range
		last  int64
		chunk int
	}{
		{err: fmt.Errorf("x: %w", disk.ErrMounted), at: stepDisk, class: events.ClassRefused, first: -1, chunk: -1},
		{err: errors.New("permission denied"), at: stepDisk, class: events.ClassRefused, first: -1, chunk: -1},
		{err: fmt.Errorf("x: %w", disk.ErrTooSmall), at: stepManifest, class: events.ClassRefused, first: -1, chunk: -1},
		{err: install.ErrTooLarge, at: stepJoin, class: events.ClassRefused, first: -1, chunk: -1},
		{err: finalf("x"), at: stepManifest, class: events.ClassImage, first: -1, chunk: -1},
		{err: &manifestError{err: errors.New("x")}, at: stepManifest, class: events.ClassImage, retry: true, first: -1, chunk: -1},
		{err: errors.New("no socket"), at: stepJoin, class: events.ClassJoin, retry: true, first: -1, chunk: -1},
		{err: fmt.Errorf("x: %w", client.ErrNoServer), at: stepJoin, class: events.ClassJoin, retry: true, first: -1, chunk: -1},
		{err: fmt.Errorf("x: %w", client.ErrSize), at: stepJoin, class: events.ClassImage, retry: true, first: -1, chunk: -1},
		{err: fmt.Errorf("x: %w", client.ErrStalled), at: stepReceive, class: events.ClassStalled, retry: true, first: -1, chunk: -1},
		{err: fmt.Errorf("x: %w", corrupt), at: stepReceive, class: events.ClassReceive, retry: true, first: 7 << 20, last: 8 << 20, chunk: 7},
		{err: fmt.Errorf("x: %w", write), at: stepReceive, class: events.ClassWrite, first: 4096, last: 4608, chunk: -1},
		{err: write, at: stepReceive, cause: errStopped, class: events.ClassWrite, first: 4096, last: 4608, chunk: -1},
		{err: stopped, at: stepReceive, cause: errStopped, class: events.ClassCancelled, first: -1, chunk: -1},
		{err: readBack, at: stepReadBack, class: events.ClassVerify, first: 65536, last: 131072, chunk: 3},
		{err: context.Canceled, at: stepReceive, cause: errStopped, class: events.ClassCancelled, first: -1, chunk: -1},
		{err: context.Canceled, at: stepManifest, cause: errSuperseded, class: events.ClassCancelled, first: -1, chunk: -1},
		{err: context.Canceled, at: stepReceive, cause: errEnding, class: events.ClassCancelled, retry: true, first: -1, chunk: -1},
		{err: context.Canceled, at: stepReceive, cause: fmt.Errorf("%w: then", errDeadline), class: events.ClassTimeout, first: -1, chunk: -1},
		{err: &panicError{value: "x"}, at: stepSync, class: events.ClassWrite, retry: true, first: -1, chunk: -1},
	} {
		t.Run(fmt.Sprintf("%v while %v", c.err, c.at), func(t *testing.T) {
			f := failure(c.err, c.at, c.cause)
			require.Equal(t, c.class, f.Class)
			require.Equal(t, c.retry, f.Retryable)
			require.NotEmpty(t, f.Message)
			require.Contains(t, f.Evidence.Text, c.err.Error())
			if c.first < 0 {
				require.Nil(t, f.Evidence.First)
				require.Nil(t, f.Evidence.Last)
			} else {
				require.Equal(t, c.first, *f.Evidence.First)
				require.Equal(t, c.last, *f.Evidence.Last)
			}
			if c.chunk < 0 {
				require.Nil(t, f.Evidence.Chunk)
			} else {
				require.Equal(t, c.chunk, *f.Evidence.Chunk)
			}
		})
	}
}

func TestLongTextsAreCut(t *testing.T) {
	f := failure(&panicError{value: strings.Repeat("ä", 1<<20), stack: make([]byte, 1<<20)}, stepReceive, nil)
	require.Less(t, len(f.Message), maxMessage+4)
	require.Less(t, len(f.Evidence.Text), maxText+4)
	require.True(t, utf8.ValidString(f.Message))
	require.True(t, utf8.ValidString(f.Evidence.Text))
}

func TestEveryStepHasAName(t *testing.T) {
	seen := map[string]bool{}
	for s := stepDisk; s <= stepReadBack; s++ {
		require.NotEmpty(t, s.String())
		require.False(t, seen[s.String()])
		seen[s.String()] = true
		require.Contains(t, events.Classes(), s.class())
		require.NotEmpty(t, s.phase())
	}
}
