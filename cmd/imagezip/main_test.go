package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/cmd/internal/dropin"
	"loadnode/internal/tool"
	"loadnode/transfer/ndz"
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
	dir := t.TempDir()
	in, out := filepath.Join(dir, "fs"), filepath.Join(dir, "fs.ndz")
	require.NoError(t, os.WriteFile(in, make([]byte, 16<<20), 0o600))
	tool.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", in)
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
		{[]string{"-c0", in, out}, "number of sectors, 1 to"},
		{[]string{"-Fx", in, out}, "number of sectors"},
		{[]string{"-lr", in, out}, "exclude"}, {[]string{"-nl", in, out}, "exclude"}, {[]string{"--disk", "-r", in, out}, "exclude"},
		{[]string{"-fS131", in, out}, "exclude"},
		{[]string{"-S165", in, out}, "FreeBSD"}, {[]string{"-S0", in, out}, "1 to 255"}, {[]string{"-S5", in, out}, "contains partitions"},
		{[]string{"-q", in, out}, "unknown option -q"},
		{[]string{"-r1", in, "-"}, "stdout"}, {[]string{"-f1", in, out}, "incomplete"}, {[]string{"-r13", in, out}, "exclude"},
		{[]string{"-r1u", "00112233445566778899aabbccddeeff", in, out}, "exclude"},
		{[]string{"-r3u", "00112233445566778899aabbccddeeff", in, out}, "exclude"},
		{[]string{"-s", "0", in, out}, "a partition, 1 to"}, {[]string{"-s1", "-c5", in, out}, "-c is not for partitions"},
		{[]string{"-s1", "-I1", in, out}, "not for -s"}, {[]string{"-s1", "--disk", in, out}, "whole disk"},
		{[]string{"-I2a", in, out}, "BSD partitions"}, {[]string{"-R2c", in, out}, "BSD partitions"},
		{[]string{"-r", "-R1", "-", out}, "cannot be positioned"}, {[]string{"-ri", "-"}, "not with -i"},
		{[]string{"-b", in, out}, "FreeBSD"}, {[]string{"-M", in, out}, "FreeBSD"},
		{[]string{"-n", in, out}, "no whole number"},
		{[]string{"-f", "-H", filepath.Join(dir, "missing"), in, out}, "no such file"}, {[]string{"-f", "-H", in, in, out}, "not a valid signature"},
		{[]string{"-P5", in, out}, "-H makes"}, {[]string{"-P101", "-Hx", in, out}, "1 to 100"}, {[]string{"-Hx", "-Uy", in, out}, "run of its own"},
		{[]string{"-aSHA1", in, out}, "manifest"}, {[]string{"-e", in, out}, "age, gpg"}, {[]string{"-kx", in, out}, "manifest"},
		{[]string{"-u00", in, out}, "32 hexadecimal digits"}, {[]string{"-u", "00000000000000000000000000000000", in, out}, "not all zero"},
	} {
		code, stdout, stderr := call(strings.NewReader(""), c.args...)
		require.Equal(t, 1, code, "%q", c.args)
		require.Contains(t, stderr, c.says, "%q", c.args)
		require.Empty(t, stdout)
		require.Equal(t, []string{"in"}, entries(t, dir), "%q", c.args)
	}
	require.NoError(t, os.WriteFile(in, make([]byte, 1<<20), 0o600))
	code, _, stderr := call(nil, "-l", in, out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "want ext2, ext3 or ext4 or XFS: use -r")
	for _, arg := range []string{"-h", "-v"} {
		code, stdout, _ := call(nil, arg)
		require.Zero(t, code)
		require.Contains(t, stdout, "imagezip")
	}
}

// What is not recognised is saved whole, and -i says so.
func TestUnknownContent(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	luks := append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 1<<20-8)...)
	require.NoError(t, os.WriteFile(in, luks, 0o600))
	code, stdout, stderr := call(nil, "-i", in)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "saved whole: LUKS")
	code, _, stderr = call(nil, "-dd", in, out)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "100 %, 1 of 1 MB read")
	require.Contains(t, stderr, "2048 of 2048 sectors in 1 chunks")
	code, _, stderr = call(nil, "--drop-zeros", "-S142", in, out)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "install it with zero fill")
}

// twoPartitions is a file with an MBR and two partitions of 1 MiB that nobody knows.
func twoPartitions(t *testing.T, path string) []byte {
	b := make([]byte, 4<<20)
	for i := range b[1<<20 : 3<<20] {
		b[1<<20+i] = byte(i >> 9 * 7)
	}
	for i, start := range []uint32{2048, 4096} {
		e := b[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], start)
		binary.LittleEndian.PutUint32(e[12:], 2048)
	}
	b[510], b[511] = 0x55, 0xaa
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return b
}

func TestDiskAndVersions(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	data := twoPartitions(t, in)
	code, stdout, stderr := call(nil, "-i", in)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "mbr, 8192 sectors: 6144 to save")
	require.Regexp(t, `(?m)^ +2 +4096 +2048 +2048 +0 +0 +raw$`, stdout)
	require.Regexp(t, `(?m)^ +- +6144 +2048 +0 +2048 +0 +space outside$`, stdout)
	image := func(args ...string) []byte {
		code, _, stderr := call(nil, append(args, in, out)...)
		require.Zero(t, code, stderr)
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		return b
	}
	require.EqualValues(t, 3<<20, manifest(t, image()).DataBytes)
	require.EqualValues(t, 2<<20, manifest(t, image("-I1", "-N", "-L")).DataBytes)
	slice := image("-s", "2", "-R2")
	require.EqualValues(t, 1<<20, manifest(t, slice).DataBytes)
	h, err := ndz.ParseHeader(slice)
	require.NoError(t, err)
	require.Equal(t, []ndz.Region{{Start: 0, Size: 2048}}, h.Regions, "numbers count from the start of the partition")
	content, err := ndz.Inflate(slice, h, nil)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[2<<20:3<<20], content))

	h, err = ndz.ParseHeader(image("-1"))
	require.NoError(t, err)
	require.Equal(t, 1, h.Version)
	v4 := image("-u", "00112233-4455-6677-8899-aabbccddeeff")
	require.Equal(t, []byte("\x6c\x69\x69\x69"), v4[:4])
	require.Equal(t, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", string(v4[0x148:0x158]))
	uuid, err := os.ReadFile(out + ".uuid")
	require.NoError(t, err)
	require.Equal(t, "00112233445566778899aabbccddeeff\n", string(uuid))

	// A signature, and what changed since.
	sig := filepath.Join(dir, "sig")
	image("-U", sig)
	data[1<<20+5] ^= 1
	require.NoError(t, os.WriteFile(in, data, 0o600))
	require.EqualValues(t, 64<<10, manifest(t, image("-H", sig, "-P", "90")).DataBytes)
	require.Equal(t, []string{"in", "out", "out.uuid", "sig"}, entries(t, dir))
	code, _, stderr = call(nil, "-H", sig, "-P1", in, out)
	require.Zero(t, code)
	require.Contains(t, stderr, "whole image, no delta")
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
	require.Equal(t, 1, run(ctx, []string{"-r", in, out}, dropin.Streams{Out: io.Discard, Err: io.Discard}))
	require.Equal(t, []string{"in"}, entries(t, dir))
	code, _, stderr = call(nil, "-r", in, "/dev/full")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no space left")
}
