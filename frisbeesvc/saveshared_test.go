package frisbeesvc

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/transfer/ndz"
)

func sharing(dir string) func(*Config) { return func(cfg *Config) { cfg.SaveDir = dir } }

func sharedRequest(image string) events.ReceiveRequest {
	req := receiveRequest(image)
	req.Directory = true
	return req
}

// awaitShared says that the file is whole, and waits for what becomes of it.
func (b *bench) awaitShared(req events.ReceiveRequest, state string) (p events.Place) {
	b.t.Helper()
	req.Complete = true
	require.Eventually(b.t, func() bool { p = b.receive(req); return p.State == state }, patience, time.Millisecond, "the place is never %s", state)
	return p
}

// TestSaveShared: a node writes to the shared directory, somebody says that it
// is done, and the file becomes an image.
func TestSaveShared(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, sharing(dir)).start()
	require.True(t, b.status().Directory)
	data := makeImage(t, 1, 3)
	p := b.receive(sharedRequest("lab/a.ndz"))
	require.Equal(t, events.PlaceOpen, p.State)
	require.Regexp(t, `^loadnode-[0-9a-f]{32}\.ndz$`, p.File)
	require.Empty(t, p.URL+p.Token+p.Address)
	put(t, dir, p.File, data)
	require.Equal(t, p, b.receive(sharedRequest("lab/a.ndz")), "nobody said that it is whole")
	stored := b.awaitShared(sharedRequest("lab/a.ndz"), events.PlaceStored)
	require.Equal(t, manifestOf(t, data).Root().String(), stored.Stored.Digest)
	require.Equal(t, int64(len(data)), stored.Bytes)
	im, err := b.svc.cat.Get(t.Context(), "lab/a.ndz")
	require.NoError(t, err)
	require.True(t, im.Provenance.Undigested)
	var d events.ImageDetail
	require.NoError(t, b.ask(events.FrisbeeInspect, events.ImageQuery{Image: "lab/a.ndz"}, &d))
	want := sharedRequest("lab/a.ndz").Provenance
	want.Undigested = true
	require.Equal(t, &want, d.Provenance)
	last, err := b.bus.Connect(t).Last(t.Context(), bus.StreamFacts, events.ImageFacts(b.cfg.Testbed, "lab/a.ndz"))
	require.NoError(t, err)
	fact, err := events.Decode(last.Event)
	require.NoError(t, err)
	require.Equal(t, &want, fact.(events.ImageAdded).Provenance)
	requireEmpty(t, dir)
}

// requireEmpty waits until nothing is left in a directory: a place tells of its image first.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) == 0
	}, patience, time.Millisecond)
}

func TestSaveSharedFailures(t *testing.T) {
	whole := makeImage(t, 1, 3)
	for name, c := range map[string]struct {
		leave func(path string) error
		says  string
	}{
		"inside a chunk":     {func(p string) error { return os.WriteFile(p, whole[:len(whole)-100], 0o600) }, "truncated"},
		"between two chunks": {func(p string) error { return os.WriteFile(p, whole[:2*ndz.ChunkSize], 0o600) }, "cut off"},
		"nothing":            {func(string) error { return nil }, "--save-dir"},
		"a link":             {func(p string) error { return os.Symlink("/etc/passwd", p) }, "not a file"},
		"a directory":        {func(p string) error { return os.Mkdir(p, 0o700) }, "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := newBench(t, sharing(dir)).start()
			p := b.receive(sharedRequest("a.ndz"))
			require.NoError(t, c.leave(filepath.Join(dir, p.File)))
			require.Contains(t, b.awaitShared(sharedRequest("a.ndz"), events.PlaceFailed).Message, c.says)
			b.requireNothing("a.ndz")
			requireEmpty(t, dir)
		})
	}
}

// TestSaveSharedIsGivenUp: an abandoned or expired place leaves no file, nor
// does a service that ended, in the files that are its own.
func TestSaveSharedIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, sharedName("0123"), []byte("half"))
	put(t, dir, "another.ndz", []byte("not ours"))
	b := newBench(t, sharing(dir)).start()
	_, err := os.Stat(filepath.Join(dir, sharedName("0123")))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Remove(filepath.Join(dir, "another.ndz")))

	p := b.receive(sharedRequest("a.ndz"))
	put(t, dir, p.File, makeImage(t, 1, 1))
	b.abandon(saveLease)
	requireEmpty(t, dir)
	require.Equal(t, events.PlaceFailed, b.awaitShared(sharedRequest("a.ndz"), events.PlaceFailed).State, "too late")
	b.requireNothing("a.ndz")

	late := sharedRequest("b.ndz")
	late.Lease, late.Life = "late:1", events.Duration(time.Minute)
	put(t, dir, b.receive(late).File, makeImage(t, 1, 1))
	b.clock.step(t, 70*time.Second)
	require.Contains(t, b.awaitShared(late, events.PlaceFailed).Message, "expired")
	b.requireNothing("b.ndz")
	requireEmpty(t, dir)
}

func TestSaveSharedRefusals(t *testing.T) {
	b := newBench(t).start()
	require.False(t, b.status().Directory)
	require.Equal(t, events.CodeUnsupported, b.code(events.FrisbeeReceive, sharedRequest("a.ndz")))
	b = newBench(t, sharing(t.TempDir()), plainPorts(t)).start()
	b.receive(sharedRequest("a.ndz"))
	require.Equal(t, events.CodeConflict, b.code(events.FrisbeeReceive, plainRequest("a.ndz")), "one lease, one kind of place")
	require.Equal(t, events.CodeConflict, b.code(events.FrisbeeReceive, receiveRequest("a.ndz")))
}
