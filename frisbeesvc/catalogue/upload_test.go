package catalogue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
	"loadnode/transfer/ndz"
)

func digestOf(b []byte) *ndz.Digest {
	d := ndz.Digest(sha256.Sum256(b))
	return &d
}

func TestUploadWhole(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 2)
	c, rec := openDir(t, dir)
	im, done, err := c.Upload(t.Context(), "lab/a.ndz", Piece{Total: Unknown, Digest: digestOf(data), Owner: "me"}, bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, OriginUpload, im.Origin)
	require.Equal(t, "me", im.Owner)
	require.Equal(t, []string{"lab/a.ndz", "lab/a.ndz.manifest.json"}, visible(t, dir))
	got, err := c.Get(t.Context(), "lab/a.ndz")
	require.NoError(t, err)
	require.Equal(t, im, got)
	require.NotNil(t, c.fresh("lab/a.ndz"), "it is not read again")
	require.Equal(t, []string{"lab/a.ndz"}, rec.added)

	_, _, err = c.Upload(t.Context(), "lab/a.ndz", Piece{Total: Unknown}, bytes.NewReader(data))
	require.ErrorIs(t, err, ErrExists)
}

func TestUploadResumed(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 3)
	total, half := int64(len(data)), int64(len(data)/2+123)
	c, _ := openDir(t, dir)
	cut := io.MultiReader(bytes.NewReader(data[:half]), iotest.ErrReader(io.ErrUnexpectedEOF))
	_, _, err := c.Upload(t.Context(), "a.ndz", Piece{Total: total}, cut)
	require.ErrorIs(t, err, ErrIncomplete)
	_, err = c.Get(t.Context(), "a.ndz")
	require.ErrorIs(t, err, ErrNotFound, "half an image is invisible")
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)

	require.NoError(t, c.Close()) // and a restart in between
	c, rec := openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	have, err := c.PartialSize("a.ndz")
	require.NoError(t, err)
	require.Equal(t, half, have)

	_, _, err = c.Upload(t.Context(), "a.ndz", Piece{First: have, Total: total}, bytes.NewReader(data[have:]))
	require.ErrorIs(t, err, ErrNeedDigest)
	_, _, err = c.Upload(t.Context(), "a.ndz", Piece{First: have + 1, Total: total, Digest: digestOf(data)}, bytes.NewReader(data[have+1:]))
	var off *OffsetError
	require.ErrorAs(t, err, &off)
	require.Equal(t, have, off.Have)
	_, done, err := c.Upload(t.Context(), "a.ndz", Piece{First: have, Total: total, Digest: digestOf(data)}, bytes.NewReader(data[have:have+1000]))
	require.NoError(t, err)
	require.False(t, done)
	im, done, err := c.Upload(t.Context(), "a.ndz", Piece{First: have + 1000, Total: total, Digest: digestOf(data)}, bytes.NewReader(data[have+1000:]))
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, total, im.Head.Size)
	stored, err := os.ReadFile(filepath.Join(dir, "a.ndz"))
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(data), sha256.Sum256(stored))
	require.Equal(t, []string{"a.ndz"}, rec.added)
	_, err = c.PartialSize("a.ndz")
	require.ErrorIs(t, err, ErrNotFound)
}

// Two files of which one goes on where the other broke off would make an
// image in which every chunk is valid.
func TestHalvesOfTwoFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	one, two := makeImage(t, 1, 3), makeImage(t, 2, 3)
	require.Len(t, two, len(one))
	total, half := int64(len(one)), int64(2<<20)
	c, rec := openDir(t, dir)
	_, done, err := c.Upload(t.Context(), "a.ndz", Piece{Total: total}, bytes.NewReader(one[:half]))
	require.NoError(t, err)
	require.False(t, done)
	_, _, err = c.Upload(t.Context(), "a.ndz", Piece{First: half, Total: total, Digest: digestOf(two)}, bytes.NewReader(two[half:]))
	require.ErrorIs(t, err, ErrDigest)
	require.Empty(t, visible(t, dir))
	require.Empty(t, rec.added)
}

func TestUploadRefusals(t *testing.T) {
	good := makeImage(t, 1, 2)
	for name, tc := range map[string]struct {
		piece Piece
		body  []byte
		want  error
	}{
		"truncated":        {Piece{Total: Unknown}, good[:len(good)-5], ErrInvalid},
		"garbage":          {Piece{Total: Unknown}, bytes.Repeat([]byte("garbage!"), 1<<17), ErrInvalid},
		"empty":            {Piece{Total: Unknown}, nil, ErrInvalid},
		"empty, announced": {Piece{Total: 0}, nil, ErrInvalid},
		"other digest":     {Piece{Total: Unknown, Digest: digestOf([]byte("x"))}, good, ErrDigest},
		"more than said":   {Piece{Total: int64(len(good)) - 1}, good, ErrTooLarge},
		"enormous":         {Piece{Total: maxImage + 1}, good, ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, rec := openDir(t, dir)
			_, done, err := c.Upload(t.Context(), "a.ndz", tc.piece, bytes.NewReader(tc.body))
			require.ErrorIs(t, err, tc.want)
			require.False(t, done)
			require.Empty(t, visible(t, dir))
			require.Empty(t, rec.added)
		})
	}
	c, _ := openDir(t, t.TempDir())
	_, _, err := c.Upload(t.Context(), "a.ndz", Piece{First: -1, Total: 5}, nil)
	require.Error(t, err)
	_, _, err = c.Upload(t.Context(), "a.ndz", Piece{First: 6, Total: 5, Digest: digestOf(nil)}, nil)
	require.Error(t, err)
}

// reader calls hook before its first byte.
type hookReader struct {
	hook func()
	r    io.Reader
}

func (h *hookReader) Read(p []byte) (int, error) {
	if h.hook != nil {
		h.hook()
		h.hook = nil
	}
	return h.r.Read(p)
}

func TestUploadRaces(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 1)
	c, _ := openDir(t, dir)
	_, done, err := c.Upload(t.Context(), "a.ndz", Piece{Total: Unknown}, &hookReader{r: bytes.NewReader(data), hook: func() {
		_, _, err := c.Upload(t.Context(), "a.ndz", Piece{Total: Unknown}, bytes.NewReader(data))
		require.ErrorIs(t, err, ErrBusy)
		require.ErrorIs(t, c.Remove("a.ndz"), ErrBusy)
		require.ErrorIs(t, c.DropPartial("a.ndz"), ErrBusy)
		require.NoError(t, c.Scan(t.Context()))
	}})
	require.NoError(t, err)
	require.True(t, done)

	// Somebody copies a file to the same name while the upload runs: his file
	// stays what it is.
	_, _, err = c.Upload(t.Context(), "b.ndz", Piece{Total: Unknown}, &hookReader{r: bytes.NewReader(data), hook: func() {
		put(t, dir, "b.ndz", []byte("his"))
	}})
	require.ErrorIs(t, err, ErrExists)
	his, err := os.ReadFile(filepath.Join(dir, "b.ndz"))
	require.NoError(t, err)
	require.Equal(t, "his", string(his))

	require.NoError(t, c.DropPartial("b.ndz"))
	require.ErrorIs(t, c.DropPartial("b.ndz"), ErrNotFound)

	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = c.Upload(ctx, "c.ndz", Piece{Total: Unknown}, &hookReader{r: bytes.NewReader(data), hook: cancel})
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	_, err = c.Get(t.Context(), "c.ndz")
	require.ErrorIs(t, err, ErrNotFound)
}

// A crash between the steps of publish leaves either the whole image or none.
func TestCrashWhilePublishing(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 1)
	put(t, dir, ".a.ndz.partial", data)
	require.NoError(t, os.Link(filepath.Join(dir, ".a.ndz.partial"), filepath.Join(dir, "a.ndz")))
	c, rec := openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	_, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.Equal(t, []string{"a.ndz"}, rec.added)
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.ndz", makeImage(t, 1, 2))
	c, _ := openDir(t, dir)
	d, err := c.Inspect(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.Equal(t, 3, d.Info.Version)
	require.Equal(t, StateOK, d.State)
	require.Len(t, d.Info.Chunks, 3)
	_, err = c.Inspect(t.Context(), "b.ndz")
	require.ErrorIs(t, err, ErrNotFound)
}

// The vectors were written by the original program from real disks.
func TestInspectOriginals(t *testing.T) {
	for file, want := range map[string][]string{
		"v1-ext4.ndz": {"ext4"}, "v2-ext2.ndz": {"ext2"}, "v3-ext4.ndz": {"ext4"},
		"v4-uuid-ext4.ndz": {"ext4"}, "disk-mbr.ndz": {"mbr", "linux", "linux-swap", "fat16", "linux"}, "disk-gpt.ndz": {"gpt"},
		"v3-short-sector.ndz": nil,
	} {
		data := vectors.Read(t, "ndz/"+file)
		dir := t.TempDir()
		put(t, dir, file, data)
		c, _ := openDir(t, dir)
		d, err := c.Inspect(t.Context(), file)
		require.NoError(t, err, file)
		require.Equal(t, want, d.Filesystem, file)
	}
}
