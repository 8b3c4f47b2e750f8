package server

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
)

// changing is an image in memory that may change; it counts checks.
type changing struct {
	data   []byte
	checks int
}

func (c *changing) Size() int64                             { return int64(len(c.data)) }
func (c *changing) ReadAt(b []byte, off int64) (int, error) { return copy(b, c.data[off:]), nil }
func (c *changing) check(_ int, chunk []byte) error {
	c.checks++
	if chunk[5] != 0 {
		return errors.New("not what it was")
	}
	return nil
}

// TestCheckedOnce: a chunk is checked once, however often it is read, as long
// as it stays the same; not a bit of it may change unnoticed.
func TestCheckedOnce(t *testing.T) {
	c := &changing{data: make([]byte, 2*wire.ChunkSize)}
	s := newStore(c, c.check, 2, func() {})
	ctx := context.Background()
	buf := make([]byte, wire.ChunkSize)
	for range 3 {
		got, err := s.read(ctx, 1, buf)
		require.NoError(t, err)
		require.True(t, bytes.Equal(c.data[wire.ChunkSize:], got))
	}
	require.Equal(t, 1, c.checks)
	c.data[2*wire.ChunkSize-1] = 1
	_, err := s.read(ctx, 1, buf)
	require.NoError(t, err)
	require.Equal(t, 2, c.checks, "it changed in a way that is good")
	c.data[wire.ChunkSize+5] = 1
	var bad *DamagedError
	_, err = s.read(ctx, 1, buf)
	require.ErrorAs(t, err, &bad)
	require.Equal(t, 1, bad.Chunk)
	_, err = s.read(ctx, 1, buf)
	require.ErrorAs(t, err, &bad, "and is still bad")
	_, err = s.read(ctx, 0, buf)
	require.NoError(t, err, "the other is not concerned")
}

// TestChunksStay: what is wanted stays, what was used last stays longest.
func TestChunksStay(t *testing.T) {
	c := &changing{data: make([]byte, 64*wire.ChunkSize)}
	for i := range 64 {
		c.data[i*wire.ChunkSize] = byte(i)
	}
	loaded := make(chan struct{}, 1)
	s := newStore(c, nil, 4, func() {
		select {
		case loaded <- struct{}{}:
		default:
		}
	})
	done := make(chan struct{})
	go func() { defer close(done); s.load(context.Background()) }()
	var here []int
	for first := range 60 {
		want := []int{first, first + 1, first + 2, first + 3}
		require.NoError(t, s.want(want))
		for here = s.here(here); len(here) < 4; here = s.here(here) {
			<-loaded
		}
		require.Equal(t, want, here)
		for _, i := range want {
			require.Equal(t, byte(i), s.chunk(i)[0])
		}
	}
	require.Len(t, s.loaded, s.slots)
	require.NotNil(t, s.chunk(59-s.slots+4+1), "used lately")
	require.Nil(t, s.chunk(0))
	s.stop()
	<-done
}
