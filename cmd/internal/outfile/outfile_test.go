package outfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func names(t *testing.T, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestCommitAndDiscard(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	f, err := New(path)
	require.NoError(t, err)
	require.NoFileExists(t, path)
	_, err = New(path)
	require.Error(t, err, "two writers of one file")
	f.Discard()
	require.Empty(t, names(t, dir))

	f, err = New(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.Temp, []byte("new"), 0o600))
	require.NoError(t, f.Commit())
	f.Discard()
	require.Equal(t, []string{"image"}, names(t, dir))

	// Over an existing file, through a link: the link and the mode stay.
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("image", link))
	require.NoError(t, os.Chmod(path, 0o640))
	f, err = New(link)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.Temp, []byte("newer"), 0o600))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(b), "untouched until the end")
	require.NoError(t, f.Commit())
	b, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "newer", string(b))
	st, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&os.ModeSymlink)
	st, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), st.Mode().Perm())
}

func TestPlain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	plain, err := Plain(path)
	require.NoError(t, err)
	require.True(t, plain)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	plain, err = Plain(path)
	require.NoError(t, err)
	require.True(t, plain)
	plain, err = Plain("/dev/null")
	require.NoError(t, err)
	require.False(t, plain)
	_, err = Plain(dir)
	require.ErrorContains(t, err, "directory")
	_, err = Plain(filepath.Join(path, "below a file"))
	require.Error(t, err)
}
