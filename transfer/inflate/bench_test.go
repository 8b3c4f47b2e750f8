package inflate

import (
	"bytes"
	"compress/zlib"
	"fmt"
	gobuild "go/build"
	stdadler "hash/adler32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	kzlib "github.com/klauspost/compress/zlib"
	"github.com/stretchr/testify/require"
)

const (
	benchBytes = 16 << 20  // of each kind of data
	benchChunk = 2_600_000 // what a usual chunk of 1 MiB inflates to
)

// tree is what the Go tree holds: sources, and a program for a third of it, each file at a multiple of 4096 as on a disk.
func tree(b *testing.B) []byte {
	root := gobuild.Default.GOROOT
	program, err := os.ReadFile(filepath.Join(root, "bin", "go"))
	if err != nil {
		b.Skipf("no Go tree to make chunks of: %v", err)
	}
	data := program[:min(len(program), benchBytes/3)]
	err = filepath.WalkDir(filepath.Join(root, "src"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if len(data) >= benchBytes {
			return fs.SkipAll
		}
		p, err := os.ReadFile(path)
		data = append(data, p...)
		data = append(data, make([]byte, -len(p)&4095)...)
		return err
	})
	require.NoError(b, err)
	return data
}

// pack makes a zlib stream of each benchChunk of data.
func pack(b *testing.B, data []byte, level int) (streams [][]byte, sizes []int) {
	for len(data) > 0 {
		n := min(len(data), benchChunk)
		var z bytes.Buffer
		w, err := zlib.NewWriterLevel(&z, level)
		require.NoError(b, err)
		_, err = w.Write(data[:n])
		require.NoError(b, err)
		require.NoError(b, w.Close())
		streams, sizes, data = append(streams, z.Bytes()), append(sizes, n), data[n:]
	}
	return streams, sizes
}

// BenchmarkZlib compares this package with the decoders of the standard library and of klauspost/compress, on the same
// streams in one run.
func BenchmarkZlib(b *testing.B) {
	files := tree(b)
	random := make([]byte, benchBytes/4)
	rand.NewChaCha8([32]byte{1}).Read(random)
	for _, c := range []struct {
		name  string
		data  []byte
		level int
	}{
		{"tree level 1", files, 1},
		{"tree level 4", files, 4},
		{"tree level 9", files, 9},
		{"random", random, 4},
		{"zeros", make([]byte, benchBytes), 4},
	} {
		streams, sizes := pack(b, c.data, c.level)
		dst := make([]byte, benchChunk)
		var src bytes.Reader
		std, err := zlib.NewReader(bytes.NewReader(streams[0]))
		require.NoError(b, err)
		klauspost, err := kzlib.NewReader(bytes.NewReader(streams[0]))
		require.NoError(b, err)
		read := func(r io.Reader, stream []byte, dst []byte) error {
			src.Reset(stream)
			if err := r.(zlib.Resetter).Reset(&src, nil); err != nil {
				return err
			}
			if _, err := io.ReadFull(r, dst); err != nil {
				return err
			}
			if n, err := r.Read(dst[:1]); n > 0 || err != io.EOF {
				return fmt.Errorf("%d more bytes, %w", n, err)
			}
			return nil
		}
		for _, d := range []struct {
			name    string
			inflate func(dst, stream []byte) error
		}{
			{"std", func(dst, stream []byte) error { return read(std, stream, dst) }},
			{"klauspost", func(dst, stream []byte) error { return read(klauspost, stream, dst) }},
			{"ours", func(dst, stream []byte) error { _, err := Zlib(dst, stream); return err }},
		} {
			b.Run(c.name+"/"+d.name, func(b *testing.B) {
				b.SetBytes(int64(len(c.data)))
				b.ReportAllocs()
				before := cpuTime()
				for b.Loop() {
					for i, s := range streams {
						if err := d.inflate(dst[:sizes[i]], s); err != nil {
							b.Fatal(err)
						}
					}
				}
				// On a machine with other work this says more than the time.
				b.ReportMetric(float64(len(c.data))*float64(b.N)/1e6/(cpuTime()-before).Seconds(), "MB/cpu-s")
			})
		}
	}
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAdler compares the checksum with that of the standard library.
func BenchmarkAdler(b *testing.B) {
	p := make([]byte, 256<<10)
	rand.NewChaCha8([32]byte{2}).Read(p)
	for name, sum := range map[string]func(){"std": func() { stdadler.Checksum(p) }, "ours": func() { adler32(1, p) }} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				sum()
			}
		})
	}
}
