package catalogue

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

func TestAdoptAndRemember(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 2)
	put(t, dir, "a.ndz", data)
	put(t, dir, "lab/b.ndz", makeImage(t, 2, 1))
	c, rec := openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	im, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	require.Equal(t, m.Root(), im.Digest)
	require.Equal(t, len(m.Chunks), im.Chunks)
	require.Equal(t, OriginDirectory, im.Origin)
	require.Equal(t, []string{"a.ndz", "lab/b.ndz"}, rec.added)

	f, err := os.Open(filepath.Join(dir, "a.ndz.manifest.json"))
	require.NoError(t, err)
	defer f.Close()
	back, err := ndz.DecodeManifest(f)
	require.NoError(t, err, "other programs read the manifest, too")
	require.Equal(t, m.Root(), back.Root())

	require.NoError(t, c.Close())
	again, rec := openDir(t, dir)
	same, err := again.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.Equal(t, im, same)
	require.Equal(t, []string{"a.ndz"}, rec.added)
	got, err := again.Named(t.Context(), im.Digest)
	require.NoError(t, err)
	require.Equal(t, m, got)
	_, err = again.Named(t.Context(), ndz.Digest{1})
	require.ErrorIs(t, err, ErrNotFound)
}

// An unchanged file must not be read again: here reading would find out that
// the content differs, because all stamps were forged to be the same.
func TestUnchangedIsNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "a.ndz", makeImage(t, 1, 2))
	c, rec := openDir(t, dir)
	_, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	flip(t, p, 100_000, true)
	r, _, err := c.readRecord("a.ndz")
	require.NoError(t, err)
	fi, err := os.Stat(p)
	require.NoError(t, err)
	r.File = stampOf(fi)
	_, err = c.writeRecord(r)
	require.NoError(t, err)

	_, err = c.Get(t.Context(), "a.ndz")
	require.NoError(t, err, "the stamp says that it is unchanged")
	_, err = c.Verify(t.Context(), "a.ndz")
	var d *DamagedError
	require.ErrorAs(t, err, &d)
	require.Equal(t, 0, d.Chunk)
	require.Len(t, rec.damaged, 1)

	// Damage that was found is not forgotten at the next start.
	require.NoError(t, c.Close())
	c, _ = openDir(t, dir)
	_, err = c.Get(t.Context(), "a.ndz")
	require.ErrorAs(t, err, &d)
}

func TestNothingLeavesTheDirectory(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "images")
	require.NoError(t, os.Mkdir(dir, 0o755))
	secret := put(t, outer, "secret.ndz", makeImage(t, 7, 1))
	put(t, dir, "real.ndz", makeImage(t, 1, 1))
	for link, target := range map[string]string{
		"up.ndz": "../secret.ndz", "abs.ndz": secret, "dirlink": "..", "proc.ndz": "/proc/self/mem", "loop.ndz": "loop.ndz",
		"inside.ndz": "real.ndz",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe.ndz"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	c, _ := openDir(t, dir)
	for _, name := range []string{"up.ndz", "abs.ndz", "dirlink/secret.ndz", "proc.ndz", "loop.ndz", "pipe.ndz", "folder"} {
		_, err := c.Get(t.Context(), name)
		require.Error(t, err, name)
		_, err = c.Download(t.Context(), name)
		require.Error(t, err, name)
	}
	for _, name := range []string{"../secret.ndz", secret, "./real.ndz", "a/../real.ndz", "real.ndz\x00", "%2e%2e/secret.ndz", "a/b/c", "", ".", "..", "/"} {
		_, err := c.Get(t.Context(), name)
		require.ErrorIs(t, err, ErrName, "%q", name)
		_, _, err = c.Upload(t.Context(), name, Piece{Total: Unknown}, strings.NewReader("x"))
		require.ErrorIs(t, err, ErrName, "%q", name)
		require.ErrorIs(t, c.Remove(name), ErrName, "%q", name)
		require.ErrorIs(t, c.DropPartial(name), ErrName, "%q", name)
		_, err = c.PartialSize(name)
		require.ErrorIs(t, err, ErrName, "%q", name)
	}
	_, _, err := c.Upload(t.Context(), "dirlink/new.ndz", Piece{Total: Unknown}, bytes.NewReader(makeImage(t, 2, 1)))
	require.Error(t, err)
	_, err = c.Get(t.Context(), "inside.ndz")
	require.NoError(t, err, "a link to another image is one more name for it")
	entries, err := os.ReadDir(outer)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing was written outside")
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "baseline-2.1.ndz": true, "tmp/foo.ndz": true, "A_b-C.9": true, strings.Repeat("a", MaxName): true, "x..y": true,
		"": false, "a/": false, "/a": false, "a//b": false, "a/b/c": false, ".hidden": false, "a/.b": false, "-rf": false, "a/-b": false,
		"a b": false, "a\nb": false, "ä": false, "a\x00": false, "a\\b": false, "a.manifest.json": false, "..": false, "a:b": false,
		strings.Repeat("a", MaxName+1): false, "%2e%2e": false,
	} {
		require.Equal(t, ok, CheckName(name) == nil, "%q", name)
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a.ndz", "tmp/foo.ndz", "../x", "/etc/passwd", "a\x00", ".x", "a.manifest.json"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		require.True(t, filepath.IsLocal(name))
		require.Equal(t, name, filepath.Clean(name))
		require.LessOrEqual(t, strings.Count(name, "/"), 1)
		require.Error(t, CheckName(partialPath(name)), "uploads are hidden")
		require.Error(t, CheckName(manifestPath(name)))
		require.Error(t, CheckName(tempPath(name, 1)))
	})
}

func TestConcurrentGetsShareOneReading(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.ndz", makeImage(t, 1, 3))
	c, rec := openDir(t, dir)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := c.Get(t.Context(), "a.ndz")
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	added, _ := rec.counts()
	require.Equal(t, 1, added)
}

func TestFlights(t *testing.T) {
	base, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := flights{ctx: base, open: map[string]*flight{}}
	runs, started := 0, make(chan struct{}, 2)
	release := make(chan struct{})
	work := func(ctx context.Context) error {
		runs++
		started <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	first, leave := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	go func() { errs <- g.do(first, "k", work) }()
	<-started
	go func() { errs <- g.do(t.Context(), "k", work) }()
	waiters := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		if f := g.open["k"]; f != nil {
			return f.waiters
		}
		return 0
	}
	require.Eventually(t, func() bool { return waiters() == 2 }, 5*time.Second, time.Millisecond)
	leave() // the one who began it leaves: the other still wants it
	require.ErrorIs(t, <-errs, context.Canceled)
	close(release)
	require.NoError(t, <-errs)
	require.Equal(t, 1, runs)

	// Nobody waits any more: the work ends, and the next one begins afresh.
	release = make(chan struct{})
	alone, leave := context.WithCancel(t.Context())
	go func() { errs <- g.do(alone, "k", work) }()
	<-started
	leave()
	require.ErrorIs(t, <-errs, context.Canceled)
	g.close()
	require.ErrorIs(t, g.do(t.Context(), "k", work), ErrClosed)
}

func TestScanTidiesUp(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.ndz", makeImage(t, 1, 1))
	put(t, dir, ".a.ndz.manifest.3.tmp", []byte("{"))
	put(t, dir, "gone.ndz.manifest.json", []byte("{}"))
	put(t, dir, "lab/.old.ndz.partial", []byte("half"))
	put(t, dir, ".new.ndz.partial", []byte("half"))
	put(t, dir, ".other", []byte("not ours"))
	long := time.Now().Add(-48 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "lab/.old.ndz.partial"), long, long))
	c, _ := openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	require.Equal(t, []string{".new.ndz.partial", ".other", "a.ndz", "a.ndz.manifest.json"}, visible(t, dir))
}

// Tidying up while others write must not take their files away.
func TestScanBesideWriters(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 1)
	p := put(t, dir, "a.ndz", data)
	c, _ := openDir(t, dir)
	_, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	r, _, err := c.readRecord("a.ndz")
	require.NoError(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := c.Scan(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		_, err := c.writeRecord(r)
		require.NoError(t, err)
	}
	close(stop)
	wg.Wait()
	require.FileExists(t, p)
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(Config{Dir: filepath.Join(t.TempDir(), "missing")})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "create it first")
	_, err = Open(Config{Dir: put(t, t.TempDir(), "file", nil)})
	require.Error(t, err)

	dir := t.TempDir()
	c, _ := openDir(t, dir)
	_, err = Open(Config{Dir: dir})
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, c.Close())
	_, err = c.Get(t.Context(), "a.ndz")
	require.ErrorIs(t, err, ErrClosed)
	_, _ = openDir(t, dir)
}

// small mounts a file system of a few MiB, or skips where that is forbidden.
func small(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs the right to mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := small(t, "size=8m")
	put(t, dir, "known.ndz", makeImage(t, 1, 1))
	func() {
		c, _ := openDir(t, dir)
		_, err := c.Get(t.Context(), "known.ndz")
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}()
	put(t, dir, "new.ndz", makeImage(t, 2, 1))
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=8m"))
	c, _ := openDir(t, dir)
	defer c.Close()
	_, err := c.Get(t.Context(), "known.ndz")
	require.NoError(t, err, "what has a manifest can be served")
	_, err = c.Verify(t.Context(), "known.ndz")
	require.NoError(t, err)
	_, err = c.Get(t.Context(), "new.ndz")
	require.ErrorIs(t, err, ErrReadOnly)
	_, _, err = c.Upload(t.Context(), "up.ndz", Piece{Total: Unknown}, strings.NewReader("x"))
	require.ErrorIs(t, err, ErrReadOnly)
	require.ErrorIs(t, c.Remove("known.ndz"), ErrReadOnly)
	require.NoError(t, c.Close())
}

func TestFullDisk(t *testing.T) {
	dir := small(t, "size=3m")
	c, _ := openDir(t, dir, func(cfg *Config) {
		cfg.Free = func() (int64, error) { return 1 << 40, nil } // the disk fills up behind its back
	})
	defer c.Close()
	_, _, err := c.Upload(t.Context(), "up.ndz", Piece{Total: Unknown}, bytes.NewReader(makeImage(t, 1, 4)))
	require.ErrorIs(t, err, ErrSpace)
	require.Empty(t, visible(t, dir), "what filled the disk is removed")
	require.NoError(t, c.Close())

	c, _ = openDir(t, dir, func(cfg *Config) { cfg.Reserve = 1 << 20 })
	defer c.Close()
	_, _, err = c.Upload(t.Context(), "up.ndz", Piece{Total: 5 << 20}, bytes.NewReader(makeImage(t, 1, 4)))
	require.ErrorIs(t, err, ErrSpace)
	require.ErrorContains(t, err, "5242880 bytes are needed")
	require.Empty(t, visible(t, dir), "refused before the first byte")
	require.NoError(t, c.Close())
}
