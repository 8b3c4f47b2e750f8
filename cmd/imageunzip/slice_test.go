package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/internal/vectors"
	"loadnode/transfer/disk/ptable"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

// partitioned is a disk full of noise with partitions, the second of them where and as long as said, in sectors.
func partitioned(t *testing.T, label string, start, sectors int) string {
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{0xee}, 10<<20), 0o600))
	tool.Feed(t, fmt.Sprintf("label: %s\nstart=2048, size=2048\nstart=%d, size=%d\n", label, start, sectors), "sfdisk", "-q", "--wipe", "never", path)
	return path
}

func table(t *testing.T, path string) *ptable.Table {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	got, err := ptable.Read(f, st.Size())
	require.NoError(t, err)
	return got
}

func TestSlice(t *testing.T) {
	image, unit := sample(t, 1)
	in := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(in, image, 0o600))
	for _, label := range []string{"dos", "gpt"} {
		path := partitioned(t, label, 4096, 12000)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		code, _, stderr := call(nil, "-s2", "-z", "--read-back", in, path)
		require.Zero(t, code, stderr)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		want := bytes.Clone(before)
		copy(want[4096*512:], unit)
		require.True(t, bytes.Equal(want, after), "nothing but the partition may change, and behind the unit it stays")

		// The type, in all copies of the table, and nothing else of it.
		code, _, stderr = call(nil, "-s2", "-D", "swap", in, path)
		require.Zero(t, code, stderr)
		got := table(t, path)
		require.Empty(t, got.Notes)
		part, ok := got.Partition(2)
		require.True(t, ok)
		if label == "gpt" {
			require.Equal(t, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", part.GUID.String())
			require.Contains(t, tool.Run(t, "sgdisk", "-v", path), "No problems found")
		} else {
			require.EqualValues(t, 0x82, part.Type)
			require.Contains(t, tool.Run(t, "sfdisk", "-V", path), "No errors")
		}

		// What does not fit is refused before anything is written; from a pipe when it is seen.
		small := partitioned(t, label, 4096, 9999)
		before, err = os.ReadFile(small)
		require.NoError(t, err)
		code, _, stderr = call(nil, "-s2", "-D130", in, small)
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "describes 5120000 bytes, partition 2")
		require.Contains(t, stderr, "has 5119488")
		after, err = os.ReadFile(small)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after))
		code, _, stderr = call(bytes.NewReader(image), "-s2", "-", small)
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "incomplete")
		after, err = os.ReadFile(small)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before[:4096*512], after[:4096*512]))
		require.True(t, bytes.Equal(before[(4096+9999)*512:], after[(4096+9999)*512:]), "nothing behind the partition")

		// Unless asked otherwise: then what fits is written, and what is lost is said.
		cut := partitioned(t, label, 4096, 6000)
		before, err = os.ReadFile(cut)
		require.NoError(t, err)
		for _, more := range []string{"-o", "-z", "-E"} {
			code, _, stderr = call(nil, "-s2", "--clip", more, in, cut)
			if more == "-E" && strings.Contains(stderr, "discard") {
				continue // not on this filesystem
			}
			require.Zero(t, code, stderr)
			require.Contains(t, stderr, "512000 bytes of data do not fit")
			after, err = os.ReadFile(cut)
			require.NoError(t, err)
			copy(before[4096*512:], unit[:6000*512])
			require.True(t, bytes.Equal(before, after), "nothing behind the partition: %s", more)
		}

		code, _, stderr = call(nil, "-s3", in, path)
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "no partition 3")
	}
}

func TestDirectAndDiscard(t *testing.T) {
	dir := t.TempDir()
	image, unit := sample(t, 1)
	in, out := filepath.Join(dir, "image"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(in, image, 0o600))
	for _, args := range [][]string{{"-f"}, {"-E"}, {"-fEz", "--read-back"}} {
		code, _, stderr := call(nil, append(args, in, out)...)
		if code != 0 && (strings.Contains(stderr, "direct I/O") || strings.Contains(stderr, "discard")) {
			t.Skip(stderr)
		}
		require.Zero(t, code, stderr)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(unit, got), "%q", args)
	}
}

// The checksum is that of the expanded image with zeros for free space; the images of the original programs say what
// that is.
func TestVectors(t *testing.T) {
	for name, digest := range map[string]string{
		"v3-ext4.ndz":         "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275",
		"v4-uuid-ext4.ndz":    "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275",
		"v3-short-sector.ndz": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
	} {
		in := vectors.Path(t, "ndz/"+name)
		out := filepath.Join(t.TempDir(), "out")
		code, _, stderr := call(nil, "-z", in, out)
		require.Zero(t, code, stderr)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, digest, fmt.Sprintf("%x", sha256.Sum256(got)), name)
		code, stdout, stderr := call(nil, "-C", in)
		require.Zero(t, code, stderr)
		require.Equal(t, fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(got)), stdout)
	}
	const uuid = "00112233445566778899aabbccddeeff"
	v4 := vectors.Path(t, "ndz/v4-uuid-ext4.ndz")
	out := filepath.Join(t.TempDir(), "out")
	code, _, stderr := call(nil, "-u", uuid, v4, out)
	require.Zero(t, code, stderr)
	code, _, stderr = call(nil, "-u", "10"+uuid[2:], v4, out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "-u asks for 10")
	// Images one after the other must be of one UUID.
	b, err := os.ReadFile(v4)
	require.NoError(t, err)
	id, err := hex.DecodeString(uuid)
	require.NoError(t, err)
	other := bytes.Clone(b)
	for at := 0; at < len(other); at += ndz.ChunkSize {
		require.Equal(t, id, other[at+328:at+344])
		other[at+328] ^= 1
	}
	code, _, stderr = call(bytes.NewReader(append(bytes.Clone(b), other...)), "-", out)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "the chunks before it to")
	code, _, stderr = call(bytes.NewReader(append(bytes.Clone(b), b...)), "-", out)
	require.Zero(t, code, stderr)
}

// A whole disk on a larger one, made to fill it.
func TestResize(t *testing.T) {
	path := partitioned(t, "gpt", 4096, 8192)
	fs := filepath.Join(t.TempDir(), "fs")
	require.NoError(t, os.WriteFile(fs, make([]byte, 4<<20), 0o600))
	tool.Run(t, "mkfs.ext4", "-q", fs)
	b, err := os.ReadFile(fs)
	require.NoError(t, err)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	copy(whole[4096*512:], b)
	image := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, ndztest.Image(t, uint64(len(whole)/512), ndztest.Run{Data: whole}), 0o600))

	back := filepath.Join(t.TempDir(), "back")
	require.NoError(t, os.WriteFile(back, bytes.Repeat([]byte{0xdd}, 20<<20), 0o600))
	out, err := exec.Command("losetup", "--find", "--show", back).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer func() { require.NoError(t, exec.Command("losetup", "--detach", dev).Run()) }()
	code, _, stderr := call(nil, "--read-back", "--resize", "0", image, dev)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "partition 2 has")
	require.Contains(t, stderr, "ext4 filesystem was made as large")
	require.NoError(t, exec.Command("sync", dev).Run())
	got := table(t, back)
	require.Empty(t, got.Notes)
	require.Contains(t, tool.Run(t, "sgdisk", "-v", back), "No problems found")
	part, _ := got.Partition(2)
	require.Greater(t, part.Sectors*512, uint64(16<<20))
	disk, err := os.ReadFile(back)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(fs, disk[part.Start*512:part.End()*512], 0o600))
	tool.Run(t, "e2fsck", "-fn", fs)
	code, _, stderr = call(nil, "--resize", "1M", image, dev)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "the image is written; ")
}

// flaky fails some times before each read that works.
type flaky struct {
	io.Reader
	fails, left int
}

var errFlaky = errors.New("bad medium")

func (f *flaky) Read(b []byte) (int, error) {
	if f.left > 0 {
		f.left--
		return 0, errFlaky
	}
	f.left = f.fails
	return f.Reader.Read(b)
}

func TestPatient(t *testing.T) {
	got, err := io.ReadAll(patient{&flaky{Reader: strings.NewReader("hello"), fails: 3, left: 3}, 3})
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	_, err = io.ReadAll(patient{&flaky{Reader: strings.NewReader("hello"), fails: 3, left: 3}, 2})
	require.ErrorIs(t, err, errFlaky)
}
