package demo

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// sound runs e2fsck where it is installed.
func sound(t *testing.T, path string) {
	t.Helper()
	tool, err := exec.LookPath("e2fsck")
	if err != nil {
		tool, err = exec.LookPath("/usr/sbin/e2fsck")
	}
	if err != nil {
		t.Log("no e2fsck: the filesystem is not checked with it")
		return
	}
	out, err := exec.Command(tool, "-fn", path).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestFilesystem(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("program "), 1<<15), 0o755))
	ext4 := []byte{0x53, 0xef} // at 1080, from the format's definition

	path := filepath.Join(dir, "made")
	how, err := Filesystem(t.Context(), path, Options{Seed: 7, Files: []string{file}})
	require.NoError(t, err)
	t.Log("made by", how)
	b := read(t, path)
	require.GreaterOrEqual(t, len(b), 64<<20)
	require.Equal(t, ext4, b[1080:1082])
	sound(t, path)

	path = filepath.Join(dir, "embedded")
	how, err = Filesystem(t.Context(), path, Options{Seed: 7, Embedded: true})
	require.NoError(t, err)
	require.Equal(t, "embedded", how)
	b = read(t, path)
	require.Len(t, b, 80<<20)
	require.Equal(t, ext4, b[1080:1082])
	require.False(t, bytes.Contains(b, []byte(payloadMark)), "every marked block is filled")
	sound(t, path)

	again := filepath.Join(dir, "again")
	require.NoError(t, embedded(again, 7))
	require.True(t, bytes.Equal(b, read(t, again)), "the same seed makes the same")
	require.NoError(t, embedded(again, 8))
	require.False(t, bytes.Equal(b, read(t, again)))
}

// tiny makes an image with two regions and a gap, and its source.
func tiny(t *testing.T, dir string) (source, image string) {
	t.Helper()
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	source, image = filepath.Join(dir, "source"), filepath.Join(dir, "image.ndz")
	require.NoError(t, os.WriteFile(source, data, 0o600))
	f, err := os.Create(image)
	require.NoError(t, err)
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: f, Level: 4})
	require.NoError(t, err)
	require.NoError(t, w.Append(8, data[8*512:24*512]))
	require.NoError(t, w.Append(64, data[64*512:100*512]))
	require.NoError(t, w.Finish(128, 0))
	w.Close()
	require.NoError(t, f.Close())
	return source, image
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	source, image := tiny(t, dir)
	restored, disk := filepath.Join(dir, "restored"), filepath.Join(dir, "disk")
	regions, err := Restore(image, restored)
	require.NoError(t, err)
	require.Equal(t, []Region{{8 * 512, 16 * 512}, {64 * 512, 36 * 512}}, regions)
	good := read(t, restored)
	require.Len(t, good, 64<<10)
	require.Equal(t, make([]byte, 8*512), good[:8*512], "a gap is a hole")

	check := func(change func(b []byte) []byte) error {
		require.NoError(t, os.WriteFile(disk, change(bytes.Clone(good)), 0o600))
		_, err := Compare(disk, source, restored, regions)
		return err
	}
	require.NoError(t, check(func(b []byte) []byte { return b }))
	require.NoError(t, check(func(b []byte) []byte { return append(b, 1, 2, 3) }), "a larger disk")
	for name, change := range map[string]func(b []byte) []byte{
		"first byte of a region": func(b []byte) []byte { b[8*512] ^= 1; return b },
		"last byte of a region":  func(b []byte) []byte { b[100*512-1] ^= 1; return b },
		"a byte in a gap":        func(b []byte) []byte { b[30*512] = 1; return b },
		"the very last byte":     func(b []byte) []byte { b[len(b)-1] = 1; return b },
		"too short":              func(b []byte) []byte { return b[:len(b)-512] },
	} {
		require.ErrorIs(t, check(change), ErrDiffers, name)
	}
	_, err = Compare(filepath.Join(dir, "absent"), source, restored, regions)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	_, image := tiny(t, dir)
	b := read(t, image)
	for name, change := range map[string]func(b []byte) []byte{
		"truncated":       func(b []byte) []byte { return b[:len(b)-1] },
		"damaged payload": func(b []byte) []byte { b[ndz.HeaderSize+40] ^= 0xff; return b },
		"damaged header":  func(b []byte) []byte { b[0] ^= 0xff; return b },
	} {
		bad := filepath.Join(dir, "bad.ndz")
		require.NoError(t, os.WriteFile(bad, change(bytes.Clone(b)), 0o600))
		_, err := Restore(bad, filepath.Join(dir, "out-"+name))
		require.Error(t, err, name)
		require.False(t, errors.Is(err, io.EOF), name)
	}
}
