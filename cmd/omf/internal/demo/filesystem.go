package demo

import (
	"bytes"
	"context"
	_ "embed" // the fixture
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// fixture is an ext4 filesystem of 80 MiB, made by fixture.sh.
//
//go:embed fixture.ext4.zst
var fixture []byte

const (
	blockSize    = 4096
	payloadMark  = "loadnode demo payload "
	payloadBytes = 6 << 20
	minimumSize  = 96 << 20 // of a filesystem made by mke2fs
)

// Options say what filesystem is made.
type Options struct {
	Seed     uint64   // of the random data
	Files    []string // of this machine, copied into it by mke2fs
	Embedded bool     // take the embedded one even where mke2fs is installed
}

// Filesystem writes an ext4 filesystem of at least 64 MiB with real files to
// path. Where mke2fs is installed it is made on the spot, from the files named
// and some random data; elsewhere from an embedded one. How says which way was
// taken: mke2fs or embedded.
func Filesystem(ctx context.Context, path string, o Options) (how string, err error) {
	if tool := mke2fs(); tool != "" && !o.Embedded {
		if err := made(ctx, tool, path, o.Seed, o.Files); err != nil {
			return "", fmt.Errorf("make a filesystem: %w", err)
		}
		return "mke2fs", nil
	}
	if err := embedded(path, o.Seed); err != nil {
		return "", fmt.Errorf("unpack the embedded filesystem: %w", err)
	}
	return "embedded", nil
}

// mke2fs finds the tool, which many a PATH does not hold.
func mke2fs() string {
	for _, name := range []string{"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

func made(ctx context.Context, tool, path string, seed uint64, files []string) error {
	tree, err := os.MkdirTemp(filepath.Dir(path), "tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	total := int64(payloadBytes)
	for _, dir := range []string{"etc", "usr/bin", "var/lib/demo"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			return err
		}
	}
	for _, f := range files {
		n, err := copyFile(filepath.Join(tree, "usr/bin", filepath.Base(f)), f)
		if err != nil {
			return err
		}
		total += n
	}
	if err := os.WriteFile(filepath.Join(tree, "etc/hostname"), []byte("loadnode-demo\n"), 0o644); err != nil {
		return err
	}
	r := rand.NewChaCha8(chachaSeed(seed))
	for i := range 40 {
		// Sizes around the block size, so that last blocks are partly filled.
		b := make([]byte, payloadBytes/40+i*37)
		if _, err := r.Read(b); err != nil {
			return err
		}
		name := filepath.Join(tree, fmt.Sprintf("var/lib/demo/data-%02d", i))
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	size := max(minimumSize, total*3/2)
	cmd := exec.CommandContext(ctx, tool, "-q", "-t", "ext4", "-b", fmt.Sprint(blockSize), "-L", "demo", "-d", tree, "-F", path, fmt.Sprintf("%dK", size/1024))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, bytes.TrimSpace(out))
	}
	return nil
}

func copyFile(to, from string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return n, err
}

// embedded unpacks the fixture and fills the marked blocks of its payload
// with random bytes: data blocks carry no checksum, so the filesystem stays
// sound.
func embedded(path string, seed uint64) error {
	dec, err := zstd.NewReader(bytes.NewReader(fixture), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer dec.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	r := rand.NewChaCha8(chachaSeed(seed))
	var zero [blockSize]byte
	block := make([]byte, blockSize)
	var off int64
	for ; ; off += blockSize {
		if _, err := io.ReadFull(dec, block); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if bytes.HasPrefix(block, []byte(payloadMark)) {
			if _, err := r.Read(block); err != nil {
				return err
			}
		}
		if bytes.Equal(block, zero[:]) {
			continue // a hole
		}
		if _, err := out.WriteAt(block, off); err != nil {
			return err
		}
	}
	if err := out.Truncate(off); err != nil {
		return err
	}
	return out.Close()
}

func chachaSeed(seed uint64) (s [32]byte) {
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return s
}
