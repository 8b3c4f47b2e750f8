package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/ndz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call runs the program and returns what it gave back.
func call(stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) (list []string) {
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range all {
		list = append(list, e.Name())
	}
	return list
}

func manifest(t *testing.T, image []byte) *ndz.Manifest {
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	return m
}

func payload(t *testing.T, image string) int {
	h, err := ndz.ParseHeader([]byte(image))
	require.NoError(t, err)
	return h.PayloadSize
}

func TestFileToFileAndStdout(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out.ndz")
	require.NoError(t, os.WriteFile(in, []byte("hello"), 0o600))
	code, _, stderr := call(nil, "-fz1", in, out)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "1 of 1 sectors in 1 chunks")
	image, err := os.ReadFile(out)
	require.NoError(t, err)
	require.EqualValues(t, 5, manifest(t, image).Bytes())
	require.Equal(t, []string{"in", "out.ndz"}, entries(t, dir))

	code, stdout, stderr := call(nil, "-f", "-z", "1", "-D", "-3", "-N", in, "-")
	require.Zero(t, code, stderr)
	require.Equal(t, string(image), stdout)
	code, stdout, stderr = call(strings.NewReader("hello"), "-r", "-f", "-z1", "-o", "-", "-")
	require.Zero(t, code, stderr)
	require.Equal(t, string(image), stdout)
	require.Contains(t, stderr, ".\n")
	code, _, stderr = call(nil, "-f", in, "/dev/null")
	require.Zero(t, code, stderr)
	code, stdout, _ = call(bytes.NewReader(make([]byte, 512)), "-rz0", "-", "-")
	require.Zero(t, code)
	require.Greater(t, payload(t, stdout), 512, "-z0 does not compress")
}

func TestFilesystem(t *testing.T) {
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		mke2fs = "/usr/sbin/mke2fs"
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "fs"), filepath.Join(dir, "fs.ndz")
	require.NoError(t, os.WriteFile(in, make([]byte, 16<<20), 0o600))
	if msg, err := exec.Command(mke2fs, "-q", "-F", "-t", "ext4", "-L", "root", in).CombinedOutput(); errors.Is(err, os.ErrNotExist) {
		t.Skip("mke2fs is not installed (package e2fsprogs)")
	} else {
		require.NoError(t, err, "%s", msg)
	}
	code, stdout, stderr := call(nil, "-i", in)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, `ext4 "root", 32768 sectors`)
	for _, args := range [][]string{{in, out}, {"-l", in, out}, {"-S131", in, out}, {"-d", "-Z", "-x", "-X", "-F", "1", in, out}} {
		code, _, stderr := call(nil, args...)
		require.Zero(t, code, stderr)
		image, err := os.ReadFile(out)
		require.NoError(t, err)
		m := manifest(t, image)
		require.EqualValues(t, 32768, m.Sectors)
		require.Less(t, m.DataBytes, int64(8<<20))
	}
	// A journal that was not replayed.
	b, err := os.ReadFile(in)
	require.NoError(t, err)
	b[1024+0x60] |= 4
	require.NoError(t, os.WriteFile(in, b, 0o600))
	require.NoError(t, os.WriteFile(out, []byte("old image"), 0o600))
	code, _, stderr = call(nil, in, out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "e2fsck")
	old, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "old image", string(old))
	code, _, stderr = call(nil, "--force", in, out)
	require.Zero(t, code, stderr)
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(in, make([]byte, 10000), 0o600))
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "0 operands"},
		{[]string{in}, "INPUT and OUTPUT"},
		{[]string{in, out, out}, "3 operands"},
		{[]string{in, out}, "no whole number of sectors: use -f"},
		{[]string{"-r", in, out}, "use -f"},
		{[]string{"-l", filepath.Join(dir, "missing"), out}, "no such disk"},
		{[]string{"-f", dir, out}, "a directory"},
		{[]string{"-f", in, dir}, "directory"},
		{[]string{"-f", in, in}, "input and output"},
		{[]string{"-f", in, filepath.Join(dir, "no", "where")}, "no such file"},
		{[]string{"-", out}, "-r or -f"},
		{[]string{"-z10", in, out}, "0 to 9"},
		{[]string{"-zx", in, out}, "0 to 9"},
		{[]string{"-c", "-1", in, out}, "number of sectors"},
		{[]string{"-c0", in, out}, "nothing to capture"},
		{[]string{"-Fx", in, out}, "number of sectors"},
		{[]string{"-lr", in, out}, "exclude"},
		{[]string{"-fS131", in, out}, "exclude"},
		{[]string{"-S7", in, out}, "only 131"},
		{[]string{"-q", in, out}, "unknown option -q"},
		{[]string{"-1", in, out}, "V1 images"},
		{[]string{"-s", "2", in, out}, "partition"},
		{[]string{"-I2", in, out}, "partition"}, {[]string{"-R2", in, out}, "partition"},
		{[]string{"-b", in, out}, "not understood"}, {[]string{"-n", in, out}, "not understood"}, {[]string{"-M", in, out}, "not understood"},
		{[]string{"-H", "x", in, out}, "delta"}, {[]string{"-U", "x", in, out}, "delta"}, {[]string{"-P5", in, out}, "delta"},
		{[]string{"-aSHA1", in, out}, "V4"}, {[]string{"-e", "bf_cbc", in, out}, "V4"}, {[]string{"-kx", in, out}, "V4"}, {[]string{"-u00", in, out}, "V4"},
		{[]string{"-L", in, out}, "relocations"},
	} {
		code, stdout, stderr := call(strings.NewReader(""), c.args...)
		require.Equal(t, 1, code, "%q", c.args)
		require.Contains(t, stderr, c.says, "%q", c.args)
		require.Empty(t, stdout)
		require.Equal(t, []string{"in"}, entries(t, dir), "%q", c.args)
	}
	require.NoError(t, os.WriteFile(in, make([]byte, 1<<20), 0o600))
	code, _, stderr := call(nil, in, out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no ext2, ext3 or ext4 filesystem found: use -r")
	for _, arg := range []string{"-h", "-v"} {
		code, stdout, _ := call(nil, arg)
		require.Zero(t, code)
		require.Contains(t, stdout, "imagezip")
	}
}

// brokenReader gives some data and then an error.
type brokenReader struct{ left int }

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errors.New("cable pulled")
	}
	n := min(len(p), r.left)
	r.left -= n
	return n, nil
}

// An image that was not completed must not lie where a whole one would.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	code, _, stderr := call(&brokenReader{left: 5 << 20}, "-r", "-z0", "-", out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "cable pulled")
	require.Empty(t, entries(t, dir))

	in := filepath.Join(dir, "in")
	require.NoError(t, os.WriteFile(in, make([]byte, 5<<20), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Equal(t, 1, run(ctx, []string{"-r", in, out}, nil, io.Discard, io.Discard))
	require.Equal(t, []string{"in"}, entries(t, dir))
	code, _, stderr = call(nil, "-r", in, "/dev/full")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no space left")
}
