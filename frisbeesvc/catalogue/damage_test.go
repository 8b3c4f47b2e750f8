package catalogue

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

func TestDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil       func(t *testing.T, p string)
		chunk       int
		first, last int64
		text        string
	}{
		"flipped bit":         {func(t *testing.T, p string) { flip(t, p, 1<<20+5000, false) }, 1, 1 << 20, 2 << 20, "SHA-256"},
		"flipped bit, quiet":  {func(t *testing.T, p string) { flip(t, p, 2<<20+5000, true) }, 2, 2 << 20, 3 << 20, "SHA-256"},
		"flipped in padding":  {func(t *testing.T, p string) { flip(t, p, 3<<20-1, false) }, 2, 2 << 20, 3 << 20, "SHA-256"},
		"truncated":           {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 1<<20+77)) }, 1, 1<<20 + 77, 3 << 20, "bytes, its manifest says"},
		"truncated to chunks": {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 1<<20)) }, 1, 1 << 20, 3 << 20, "bytes, its manifest says"},
		"emptied":             {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 0)) }, 0, 0, 3 << 20, "bytes, its manifest says"},
		"longer":              {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 4<<20)) }, 3, 3 << 20, 4 << 20, "bytes, its manifest says"},
		"replaced": {func(t *testing.T, p string) {
			other := put(t, filepath.Dir(p), "other.tmp", makeImage(t, 9, 2))
			require.NoError(t, os.Rename(other, p))
		}, 0, 0, 1 << 20, "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			good := makeImage(t, 1, 2)
			require.Len(t, good, 3<<20)
			p := put(t, dir, "a.ndz", good)
			c, rec := openDir(t, dir)
			im, err := c.Get(t.Context(), "a.ndz")
			require.NoError(t, err)

			tc.spoil(t, p)
			for range 3 {
				_, err = c.Get(t.Context(), "a.ndz")
				var d *DamagedError
				require.ErrorAs(t, err, &d)
				require.Equal(t, "a.ndz", d.Image)
				require.Equal(t, im.Digest, d.Digest)
				require.Equal(t, tc.chunk, d.Chunk)
				require.Equal(t, tc.first, d.First)
				require.Equal(t, tc.last, d.Last)
				require.ErrorContains(t, err, tc.text)
			}
			_, err = c.Open(t.Context(), "a.ndz")
			require.Error(t, err)
			_, err = c.Download(t.Context(), "a.ndz")
			require.Error(t, err)
			added, damaged := rec.counts()
			require.Equal(t, []int{1, 1}, []int{added, damaged}, "told once")
			list, err := c.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, StateDamaged, list[0].State)

			// Restored, it is good again, and that is told.
			put(t, dir, "a.ndz", good)
			back, err := c.Get(t.Context(), "a.ndz")
			require.NoError(t, err)
			require.Equal(t, im.Digest, back.Digest)
			added, damaged = rec.counts()
			require.Equal(t, []int{2, 1}, []int{added, damaged})
		})
	}
}

func TestTouchedIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "a.ndz", makeImage(t, 1, 1))
	c, rec := openDir(t, dir)
	_, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.NoError(t, os.Chtimes(p, time.Unix(1, 0), time.Unix(1, 0)))
	require.NoError(t, os.Chmod(p, 0o600))
	_, err = c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.NotNil(t, c.fresh("a.ndz"), "the new stamp is remembered")
	added, damaged := rec.counts()
	require.Equal(t, []int{1, 0}, []int{added, damaged})
}

func TestBrokenManifest(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.ndz", makeImage(t, 1, 1))
	c, rec := openDir(t, dir)
	im, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	mp := filepath.Join(dir, "a.ndz.manifest.json")
	text, err := os.ReadFile(mp)
	require.NoError(t, err)
	for name, bad := range map[string][]byte{
		"garbage":  []byte("{]"),
		"empty":    nil,
		"cut":      text[:len(text)/2],
		"forged":   bytes.Replace(text, []byte(`"dataSize": `), []byte(`"dataSize": 1`), 1),
		"new root": bytes.Replace(text, []byte(im.Digest.String()), []byte(strings.Repeat("ab", 32)), 1),
	} {
		require.NoError(t, os.WriteFile(mp, bad, 0o644))
		_, err = c.Get(t.Context(), "a.ndz")
		var d *DamagedError
		require.ErrorAs(t, err, &d, name)
		require.Equal(t, -1, d.Chunk)
		require.ErrorIs(t, err, ndz.ErrManifest)
	}
	require.NoError(t, os.Remove(mp)) // the operator accepts the file as it is
	_, err = c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	added, _ := rec.counts()
	require.Equal(t, 2, added)
}

func TestInvalidFiles(t *testing.T) {
	good := makeImage(t, 1, 2)
	bad := bytes.Clone(good)
	bad[1<<20+9000] ^= 1 // inside the compressed data of chunk 1
	for name, tc := range map[string]struct {
		data []byte
		text string
	}{
		"empty":        {nil, "empty"},
		"text":         {[]byte("hello"), "truncated"},
		"zeros":        {make([]byte, 1<<20), "chunk 0 (bytes 0 to 1048576"},
		"truncated":    {good[:len(good)-1000], "truncated: 2 whole chunks"},
		"half a chunk": {good[:1<<19], "truncated"},
		"flipped bit":  {bad, "chunk 1 (bytes 1048576 to 2097152"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "a.ndz", tc.data)
			c, rec := openDir(t, dir)
			_, err := c.Get(t.Context(), "a.ndz")
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, tc.text)
			require.Error(t, c.Scan(t.Context()))
			list, err := c.List(t.Context())
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, StateUnregistered, list[0].State)
			require.Contains(t, list[0].Message, tc.text)
			require.Equal(t, []string{"a.ndz"}, visible(t, dir), "no manifest of a file that is no image")
			added, damaged := rec.counts()
			require.Equal(t, []int{0, 0}, []int{added, damaged})
		})
	}
}

func TestFileIsCheckedWhileItIsSent(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "a.ndz", makeImage(t, 1, 2))
	c, rec := openDir(t, dir)
	f, err := c.Open(t.Context(), "a.ndz")
	require.NoError(t, err)
	defer f.Close()
	chunk := make([]byte, ndz.ChunkSize)
	_, err = f.ReadAt(chunk, 0)
	require.NoError(t, err)
	require.NoError(t, f.Check(0, chunk))
	require.ErrorIs(t, c.Remove("a.ndz"), ErrServed)

	flip(t, p, 1<<20+5000, true)
	_, err = f.ReadAt(chunk, 1<<20)
	require.NoError(t, err)
	require.Error(t, f.Check(1, chunk))

	require.NoError(t, os.Truncate(p, 1<<20))
	n, err := f.ReadAt(chunk, 2<<20)
	require.NoError(t, err)
	require.Len(t, chunk, n)
	bad := f.Check(2, chunk)
	require.Error(t, bad)
	_, err = f.ReadAt(chunk, 3<<20)
	require.ErrorIs(t, err, io.EOF, "beyond the image there is nothing")
	d := c.Spoiled(f, bad)
	require.Equal(t, 2, d.Chunk)
	_, err = c.Get(t.Context(), "a.ndz")
	require.ErrorAs(t, err, &d)
	_, damaged := rec.counts()
	require.Equal(t, 1, damaged, "the same damage is told once")

	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.NoError(t, c.Remove("a.ndz"))
	require.Empty(t, visible(t, dir))
}

func TestDownloadStopsAtDamage(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 3)
	p := put(t, dir, "a.ndz", data)
	c, rec := openDir(t, dir)
	r, err := c.Download(t.Context(), "a.ndz")
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(data), sha256.Sum256(got))
	_, err = r.Seek(-10, io.SeekEnd)
	require.NoError(t, err)
	got, err = io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, data[len(data)-10:], got)
	_, err = r.Seek(0, io.SeekStart)
	require.NoError(t, err)
	flip(t, p, 2<<20+5000, true)
	got, err = io.ReadAll(r)
	var d *DamagedError
	require.ErrorAs(t, err, &d)
	require.Equal(t, data[:2<<20], got, "only chunks that are right are passed on")
	require.NoError(t, r.Close())
	_, err = c.Get(t.Context(), "a.ndz")
	require.ErrorAs(t, err, &d)
	_, damaged := rec.counts()
	require.Equal(t, 1, damaged)
}
