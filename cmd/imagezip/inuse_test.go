package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/disk"
)

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "disk.img"), filepath.Join(dir, "other.img")
	link := filepath.Join(dir, "link")
	for _, name := range []string{file, other} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	require.NoError(t, os.Symlink(file, link))
	for i, backing := range []string{file, file, other, other} {
		loop := filepath.Join(dir, "sys", "block", fmt.Sprintf("loop%d", i), "loop")
		require.NoError(t, os.MkdirAll(loop, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(loop, "backing_file"), []byte(backing+"\n"), 0o600))
	}
	state := map[string]error{"/dev/loop1": disk.ErrMounted, "/dev/loop3": disk.ErrReadOnly, "/dev/swap": disk.ErrInUse}
	m := machine{sys: filepath.Join(dir, "sys"), check: func(path string) error { return state[path] }}
	for path, want := range map[string]error{file: disk.ErrMounted, link: disk.ErrMounted, other: nil, "/dev/swap": disk.ErrInUse} {
		require.ErrorIs(t, m.inUse(path), want, path)
	}
	require.NoError(t, m.inUse(other))
	require.ErrorContains(t, m.inUse(file), "behind a loop device")
}
