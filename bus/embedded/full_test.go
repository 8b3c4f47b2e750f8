package embedded_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/embedded"
	"loadnode/events"
)

// TestFullDisk fills the disk beneath the store: the server says so, nobody is
// told that something was stored, and what was acknowledged is there when it
// is started again with room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	start := func() (*embedded.Server, *bus.Conn) {
		s, err := embedded.Start(within(t), embedded.Config{StoreDir: filepath.Join(dir, "store"), Listen: embedded.InProcessOnly})
		require.NoError(t, err)
		c, err := bus.Connect(within(t), bus.Config{InProcess: s.Conn(), Name: "full"})
		require.NoError(t, err)
		require.NoError(t, c.EnsureStreams(within(t), bus.StreamOptions{}))
		return s, c
	}
	ask := func(c *bus.Conn, ctx context.Context, id string) error {
		ev, err := events.New(events.Meta{ID: id, Source: "/test", Time: time.Now()}, events.LoadRequest{Nodes: "[1,1]", Image: "x.ndz"})
		require.NoError(t, err)
		_, err = c.Publish(ctx, events.RequestSubject(tb, events.VerbLoad), ev)
		return err
	}

	s, c := start()
	require.NoError(t, ask(c, within(t), "kept"))
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	require.NoError(t, err)
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	acknowledged := []string{"kept"}
	publishing, stop := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() { // what still fits into the last page is stored
		for i := 0; ; i++ {
			id := fmt.Sprint("tight-", i)
			if err := ask(c, publishing, id); err != nil {
				ended <- err
				return
			}
			acknowledged = append(acknowledged, id)
		}
	}()
	select {
	case err := <-s.Failed():
		require.ErrorIs(t, err, embedded.ErrStoreFailed)
		require.ErrorContains(t, err, "no space left on device")
	case err := <-ended:
		require.NoError(t, err)
	}
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	c.Close()
	s.Shutdown()

	require.NoError(t, os.Remove(fill))
	s, c = start()
	defer s.Shutdown()
	defer c.Close()
	require.NoError(t, ask(c, within(t), "next"))
	acknowledged = append(acknowledged, "next")
	var ids []string
	ctx, cancel := context.WithCancel(within(t))
	err = c.Consume(ctx, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d", Workers: 1}, func(_ context.Context, m bus.Message) error {
		if ids = append(ids, m.Event.ID()); m.Event.ID() == "next" {
			cancel()
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, acknowledged, ids)
}
