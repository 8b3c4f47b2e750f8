package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/cmd/internal/dropin"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call runs the program and returns what it gave back.
func call(stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, dropin.Streams{In: stdin, Out: &out, Err: &errs})
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

// sample is an image of several chunks, of a unit of 10000 sectors whose sectors 7000 to 9999 are free, and the unit.
func sample(t *testing.T, seed byte) (image, unit []byte) {
	data := ndztest.Run{Data: ndztest.Noise(uint64(seed), 7000*512)}
	image = ndztest.Image(t, 10000, data)
	require.Greater(t, len(image), 3*ndz.ChunkSize)
	return image, ndztest.Unit(10000, data)
}

func TestToFileAndStdout(t *testing.T) {
	dir := t.TempDir()
	image, unit := sample(t, 1)
	in, out, list := filepath.Join(dir, "image"), filepath.Join(dir, "out"), filepath.Join(dir, "list")
	require.NoError(t, os.WriteFile(in, image, 0o600))
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	var js bytes.Buffer
	require.NoError(t, m.Encode(&js))
	require.NoError(t, os.WriteFile(list, js.Bytes(), 0o600))
	for _, args := range [][]string{{}, {"-z"}, {"-n"}, {"-W", "1"}, {"-W0", "-o", "-O", "-d"}, {"--manifest", list}, {"--read-back"},
		{"-z", "--manifest=" + list, "--read-back"}} {
		code, _, stderr := call(nil, append(args, in, out)...)
		require.Zero(t, code, stderr)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(unit, got), "%q", args)
		require.Equal(t, []string{"image", "list", "out"}, entries(t, dir))
		require.NoError(t, os.WriteFile(out, []byte("old"), 0o600))
	}
	code, stdout, stderr := call(bytes.NewReader(image), "-", "-")
	require.Zero(t, code, stderr)
	require.True(t, unitEqual(unit, stdout))
	code, stdout, _ = call(bytes.NewReader(image), "-I", "-", "-")
	require.Zero(t, code)
	require.True(t, unitEqual(unit[:7000*512], stdout))
	code, stdout, _ = call(nil, "-p", "0xcafe1234", in, "-")
	require.Zero(t, code)
	require.True(t, unitEqual(append(bytes.Clone(unit[:7000*512]), bytes.Repeat([]byte{0x34, 0x12, 0xfe, 0xca}, 3000*128)...), stdout))
	code, stdout, _ = call(nil, "-C", "--manifest", list, in)
	require.Zero(t, code)
	require.Equal(t, fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(unit)), stdout)
	code, _, stderr = call(nil, "-N", in)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, fmt.Sprintf("%d chunks", len(m.Chunks)))
	code, _, stderr = call(nil, in, "/dev/null")
	require.Zero(t, code, stderr)
}

func unitEqual(unit []byte, s string) bool { return bytes.Equal(unit, []byte(s)) }

// Images one behind the other: the later one wins, however many threads there are.
func TestSeveralImages(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	a, _ := sample(t, 1)
	b, unit := sample(t, 2)
	both := append(bytes.Clone(a), b...)
	for range 5 {
		code, _, stderr := call(bytes.NewReader(both), "-", out)
		require.Zero(t, code, stderr)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(unit, got))
	}
	code, _, stderr := call(bytes.NewReader(both), "-", "-")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "positioned")
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	image, _ := sample(t, 1)
	in, out, list := filepath.Join(dir, "image"), filepath.Join(dir, "out"), filepath.Join(dir, "list")
	require.NoError(t, os.WriteFile(in, image, 0o600))
	other, _ := sample(t, 2)
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(other), int64(len(other)))
	require.NoError(t, err)
	var js bytes.Buffer
	require.NoError(t, m.Encode(&js))
	require.NoError(t, os.WriteFile(list, js.Bytes(), 0o600))
	damaged := func(at int) []byte {
		b := bytes.Clone(image)
		b[at] ^= 0x40
		return b
	}
	for _, c := range []struct {
		stdin []byte
		args  []string
		says  string
	}{
		{nil, nil, "0 operands"},
		{nil, []string{in}, "IMAGE and OUTPUT"},
		{nil, []string{"-C", in, out}, "want IMAGE"},
		{nil, []string{"-CN", in}, "-C needs the data"},
		{nil, []string{filepath.Join(dir, "missing"), out}, "no such file"},
		{nil, []string{in, dir}, "directory"},
		{nil, []string{"-I", in, out}, "-I is for stdout"},
		{nil, []string{"-zp1", in, out}, "one thing only"},
		{nil, []string{"-px", in, out}, "32 bits"},
		{nil, []string{"-W-1", in, out}, "want a number from 0"},
		{nil, []string{"--manifest", filepath.Join(dir, "missing"), in, out}, "no such file"},
		{nil, []string{"--manifest", in, in, out}, "manifest is damaged"},
		{nil, []string{"--manifest", list, in, out}, "of the image) is damaged: SHA-256"},
		{nil, []string{"--manifest", list, in, "-"}, "is damaged"},
		{nil, []string{"--manifest", list, "-N", in}, "is damaged"},
		{other[:ndz.ChunkSize], []string{"--manifest", list, "-C", "-"}, "the manifest lists"},
		{other[:ndz.ChunkSize], []string{"--manifest", list, "-", out}, "the manifest lists"},
		{nil, []string{"--read-back", in, "-"}, "can be read"},
		{[]byte{}, []string{"-", out}, "empty"},
		{image[:len(image)-1], []string{"-", out}, "truncated"},
		{image[:100], []string{"-", "-"}, "truncated"},
		{make([]byte, ndz.ChunkSize), []string{"-", out}, "magic"},
		{make([]byte, ndz.ChunkSize), []string{"-N", "-"}, "magic"},
		{damaged(2*ndz.ChunkSize + 20000), []string{"-", out}, "chunk 2 (bytes 2097152 to 3145728 of the image) is damaged"},
		{damaged(2*ndz.ChunkSize + 20000), []string{"-C", "-"}, "chunk 2"},
		{nil, []string{"-s1", in, out + "x"}, "no such"}, {nil, []string{"-s1", in, in}, "no partition table"},
		{nil, []string{"-s1", in, "-"}, "needs a disk"}, {nil, []string{"-s0", in, out}, "want a number"}, {nil, []string{"-D", "131", in, out}, "that -s names"},
		{nil, []string{"-s1", "-D", "beos", in, out}, "neither a number"}, {nil, []string{"-M5", in, out}, "-M allows 5"},
		{image, []string{"-M5", "-", out}, "-M allows 5"}, {nil, []string{"-u", "00", in, out}, "32 hexadecimal"},
		{nil, []string{"-u", strings.Repeat("00", 16), in, out}, "has no UUID"}, {nil, []string{"-rx", in, out}, "want a number"},
		{nil, []string{"-f", in, "-"}, "only goes forward"}, {nil, []string{"-E", in, "-"}, "only goes forward"},
		{nil, []string{"--resize=0", in, out}, "nothing to grow into"}, {nil, []string{"--resize=x", in, out}, "no size"},
		{nil, []string{"--resize=0", "-s1", in, out}, "whole disks"}, {nil, []string{"--resize=0", "-C", in}, "needs a disk"},
		{nil, []string{"--clip", in, out}, "for partitions"}, {nil, []string{"--clip", "-s1", "--read-back", in, out}, "does not go with"},
		{nil, []string{"-c", in, out}, "--manifest"}, {nil, []string{"-ax", in, out}, "--manifest"}, {nil, []string{"-e", in, out}, "--manifest"},
		{nil, []string{"-kx", in, out}, "--manifest"},
		{nil, []string{"-q"}, "unknown option"},
	} {
		code, stdout, stderr := call(bytes.NewReader(c.stdin), c.args...)
		require.Equal(t, 1, code, "%q", c.args)
		require.Contains(t, stderr, c.says, "%q", c.args)
		require.Empty(t, stdout, "%q", c.args)
		require.Equal(t, []string{"image", "list"}, entries(t, dir), "nothing may be left behind: %q", c.args)
	}
	for _, arg := range []string{"-h", "-v"} {
		code, stdout, _ := call(nil, arg)
		require.Zero(t, code)
		require.Contains(t, stdout, "imageunzip")
	}
	code, _, stderr := call(nil, in, "/dev/full")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no space left")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Equal(t, 1, run(ctx, []string{in, out}, dropin.Streams{Out: io.Discard, Err: io.Discard}))
	require.NoFileExists(t, out)
}

// A real block device: the gate, the size, and filling to its end.
func TestToDisk(t *testing.T) {
	dir := t.TempDir()
	image, unit := sample(t, 1)
	in, back := filepath.Join(dir, "image"), filepath.Join(dir, "back")
	require.NoError(t, os.WriteFile(in, image, 0o600))
	noise := bytes.Repeat([]byte{0xee}, len(unit)+8192)
	require.NoError(t, os.WriteFile(back, noise, 0o600))
	attach := func(path string) string {
		b, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
		if err != nil {
			t.Skipf("no loop device here: %v: %s", err, b)
		}
		dev := strings.TrimSpace(string(b))
		t.Cleanup(func() { require.NoError(t, exec.Command("losetup", "--detach", dev).Run()) })
		return dev
	}
	dev := attach(back)
	code, _, stderr := call(nil, "--read-back", in, dev)
	require.Zero(t, code, stderr)
	got, err := os.ReadFile(dev)
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(bytes.Clone(unit[:7000*512]), noise[7000*512:]...), got), "free space is left as it was")
	code, _, stderr = call(nil, "-z", "--read-back", in, dev)
	require.Zero(t, code, stderr)
	got, err = os.ReadFile(dev)
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(bytes.Clone(unit), make([]byte, 8192)...), got), "zero to the end of the disk")

	small := filepath.Join(dir, "small")
	require.NoError(t, os.WriteFile(small, noise[:len(unit)-4096], 0o600))
	dev = attach(small)
	code, _, stderr = call(nil, in, dev)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "too small")
	code, _, stderr = call(bytes.NewReader(image), "-", dev) // from a pipe the size is only known chunk by chunk
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "larger than its place")
	require.Contains(t, stderr, "is incomplete")
}
