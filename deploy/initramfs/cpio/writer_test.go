package cpio

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := New(&b)
	require.NoError(t, w.Dir("dev"))
	require.NoError(t, w.Char("dev/console", 0o600, 5, 1))
	require.NoError(t, w.File("init", 0o755, []byte("hello")))
	require.NoError(t, w.Link("sbin", "usr/sbin"))
	require.NoError(t, w.Close())
	require.EqualValues(t, b.Len(), w.Size())
	return b.Bytes()
}

// The bytes of the first entry, counted out from the kernel's description.
func TestHeader(t *testing.T) {
	out := sample(t)
	want := "070701" + "00000001" + "000041ED" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "dev\x00" + "\x00\x00"
	require.Equal(t, want, string(out[:len(want)]))
	require.Equal(t, out, sample(t), "the same calls give the same bytes")
	require.Zero(t, len(out)%4)
	require.True(t, bytes.HasSuffix(bytes.TrimRight(out, "\x00"), []byte("TRAILER!!!")))
}

// What cpio itself makes of it.
func TestAgainstCpio(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("there is no program cpio here (package cpio)")
	}
	list := exec.Command(program, "-tv", "--numeric-uid-gid", "--quiet")
	list.Stdin = bytes.NewReader(sample(t))
	out, err := list.CombinedOutput()
	require.NoError(t, err, string(out))
	var got [][]string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		got = append(got, []string{f[0], f[len(f)-1]})
	}
	require.Equal(t, [][]string{{"drwxr-xr-x", "dev"}, {"crw-------", "dev/console"}, {"-rwxr-xr-x", "init"}, {"lrwxrwxrwx", "usr/sbin"}}, got)

	dir := t.TempDir()
	extract := exec.Command(program, "-i", "--quiet", "init", "sbin")
	extract.Dir, extract.Stdin = dir, bytes.NewReader(sample(t))
	out, err = extract.CombinedOutput()
	require.NoError(t, err, string(out))
	data, err := os.ReadFile(filepath.Join(dir, "init"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(data))
	target, err := os.Readlink(filepath.Join(dir, "sbin"))
	require.NoError(t, err)
	require.Equal(t, "usr/sbin", target)
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "/init", "a//b", "a/", "../x", "a\x00b", "TRAILER!!!", strings.Repeat("x", 4096)} {
		w := New(&bytes.Buffer{})
		require.ErrorIs(t, w.File(name, 0o644, nil), ErrName, "%.20q", name)
		require.ErrorIs(t, w.Close(), ErrName, "an archive with a hole is not ended")
	}
}

type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	w := New(&full{room: 150})
	require.NoError(t, w.Dir("dev"))
	require.ErrorIs(t, w.File("init", 0o755, []byte("hello")), errFull)
	require.ErrorIs(t, w.Dir("more"), errFull)
	require.ErrorIs(t, w.Close(), errFull)
}
